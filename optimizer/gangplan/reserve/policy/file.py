"""A policy as a file: YAML with durations like 30m, read strictly, and written so that it can be read back.

An error names the full path of the field, such as `tenants[vision].quotas[h100].lend`. A field that is left out has
its default.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from gangplan.clock import DURATION, NO_DURATION, parse_span
from gangplan.errors import InputError
from gangplan.reserve.policy.rules import Policy, TenantPolicy
from gangplan.yaml_files import YamlDocument, parse_yaml, read_yaml, refused_field

T = TypeVar("T")
Body = dict[str, Any]

_LONGEST = timedelta(days=3650)
_COMMENTS = {
    "tenants": "weight in fair sharing (default 1), cohort, quotas in GPUs by accelerator ('*': each other one):\n"
    "# nominal is its own; borrow and lend limit what it takes of and gives to its cohort (left out: no limit, all)",
    "priority_classes": "the priority that a class named in a request stands for",
    "ageing": "how long a wait is worth one point of priority; null: none",
    "depth": "how many at the head of the line have a promised start",
    "preemption": "who may take slots from whom, how long before it is told, how long a grant is safe",
    "drain": "what the gangs on a draining node have to leave it",
    "claim": "a gang that was moved off a lost node has so long to claim its new slots",
    "back_within": "how long a lost node is expected back: its promises are kept, others fit before; 0s: it is not",
    "owners_first": "within its nominal quota a tenant goes before all who borrow; false: only points and shares count",
}


def read_policy(path: Path) -> Policy:
    """Read a policy file, or refuse it with the path of the field that is wrong, its value and the remedy."""
    document = read_yaml(path, "policy", missing="is not there: `gangplan policy show --yaml` prints one to begin with")
    return _from_document(document)


def policy_from_yaml(text: str, source: str = "policy") -> Policy:
    """Read a policy from the text of a file; `source` names it in errors."""
    return _from_document(parse_yaml(text, "policy", source))


def _from_document(document: YamlDocument) -> Policy:
    """Check what a file says."""
    if document.body is None:
        raise InputError("policy", document.source, "is empty: write {} for the default policy")
    with document.naming_lines():
        return _record(Policy, "", document.body)


def policy_yaml(policy: Policy) -> str:
    """Return the file of a policy, with a comment for each part; `policy_from_yaml` reads the same policy back."""
    parts = [f"# The rules of a ledger; durations {DURATION}. `gangplan policy set FILE` lets them hold.\n"]
    for name, value in policy_body(policy).items():
        flow = None if isinstance(value, dict) else False  # None: the innermost mappings on one line
        dumped = yaml.safe_dump({name: value}, sort_keys=False, width=110, default_flow_style=flow)
        parts.append(f"# {_COMMENTS[name]}\n{dumped}")
    return "\n".join(parts)


def policy_body(policy: Policy) -> Body:
    """Return a policy as plain values, as a file says them: durations as text, tenants by name."""
    body = {name: _plain(value) for name, value in vars(policy).items()}
    body["preemption"] = {name: _plain(value) for name, value in vars(policy.preemption).items()}
    body["tenants"] = {name: tenant_body(tenant) for name, tenant in policy.tenants.items()}
    return body


def tenant_body(tenant: TenantPolicy) -> Body:
    """Return a tenant's rules as plain values, without those that say nothing."""
    body: Body = {"weight": tenant.weight}
    if tenant.cohort:
        body["cohort"] = tenant.cohort
    if tenant.quotas:
        body["quotas"] = {
            name: {part: value for part, value in vars(quota).items() if value is not None}
            for name, quota in tenant.quotas.items()
        }
    return body


def span_text(span: timedelta) -> str:
    """Return a duration as `parse_span` reads it: in its largest whole unit, in seconds where there is none."""
    for unit, size in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if span and span % size == timedelta(0):
            return f"{span // size}{unit}"
    whole, micro = divmod(span // timedelta(microseconds=1), 1_000_000)
    return f"{whole}.{micro:06d}".rstrip("0").rstrip(".") + "s" if micro else f"{whole}s"


# ---------------------------------------------------------------- from plain values


def _value(hint: Any, path: str, value: object) -> Any:
    """Read a plain value as the type of its field; `path` names the field in errors."""
    if is_dataclass(hint):
        return _record(cast(type[Any], hint), path, value)
    if get_origin(hint) is dict:
        part = get_args(hint)[1]
        return {name: _value(part, f"{path}[{name}]", given) for name, given in _mapping(path, value).items()}
    if hint is timedelta or (hint == timedelta | None and value is not None):
        return _span(path, value)
    try:
        return _adapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        raise refused_field(error, path) from None


def _record(kind: type[T], path: str, body: object) -> T:
    """Read a mapping of fields as a dataclass; what is left out has its default."""
    given, hints = _mapping(path, body), get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    for name, value in given.items():
        if name not in known:
            raise InputError.unknown(_join(path, name), value, "not a known field", known)
    for name, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in given:
            raise InputError.missing(_join(path, name))
    values = {name: _value(hints[name], _join(path, name), value) for name, value in given.items()}
    try:
        return kind(**values)
    except InputError as error:
        raise error.renamed(_join(path, _own(error.field))) from None


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _span(path: str, value: object) -> timedelta:
    if not isinstance(value, str):
        raise InputError(path, value, NO_DURATION)
    span = parse_span(path, value)
    if span > _LONGEST:
        raise InputError(path, value, f"is too long: give at most {_LONGEST.days}d")
    return span


def _mapping(path: str, body: object) -> Body:
    """Return a mapping of names, or refuse what is none."""
    where = path or "policy"
    if not isinstance(body, dict):
        raise InputError(where, body, "is refused: it must be a mapping of names, as {name: ...}")
    given: dict[Any, Any] = body  # pyright: ignore[reportUnknownVariableType]
    for name in given:
        if not isinstance(name, str):
            raise InputError(f"{where}[{name}]", name, f"is read as {type(name).__name__}: put the name in quotes")
    return given


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _own(field: str) -> str:
    """Return a field's name without that of its class: `quota.lend` is `lend`."""
    head, bracket, rest = field.partition("[")
    return head.rpartition(".")[2] + bracket + rest


def _plain(value: object) -> Any:
    return span_text(value) if isinstance(value, timedelta) else value
