"""The plan's policy as a file, `plan.yaml` in the home folder; what is left out has its default."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from gangplan.errors import InputError
from gangplan.plan.problem.catalogue import Catalogue, read_catalogue
from gangplan.plan.problem.policy import PlanPolicy

OWN_CATALOGUE = "accelerators.yaml"
_POLICY = TypeAdapter(PlanPolicy)


def read_plan_policy(path: Path) -> PlanPolicy:
    """Read a policy file; where there is none, the default holds. Needs are looked up in the catalogue beside it."""
    if not path.exists():
        return PlanPolicy()
    try:
        body: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("plan policy", path, f"cannot be read ({error}): check the path and its rights") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path} line {mark.line + 1}" if mark is not None else path
        raise InputError("plan policy", where, "is not YAML: mend that line") from None
    return with_needs(policy_from(body or {}), read_catalogue(path.with_name(OWN_CATALOGUE)))


def with_needs(policy: PlanPolicy, catalogue: Catalogue) -> PlanPolicy:
    """Write into the speeds what of the catalogue meets each need; speeds that the policy names stay."""
    found = {name: catalogue.speeds(name, need) | policy.speeds.get(name, {}) for name, need in policy.needs.items()}
    return replace(policy, speeds={**policy.speeds, **found})


def policy_from(body: Any) -> PlanPolicy:
    """Read a policy from plain values; a mistake is named by its path."""
    try:
        return _POLICY.validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["plan policy", *map(str, first["loc"])])
        if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            raise InputError(where, first["input"], "is not a known field: check its spelling") from None
        raise InputError(where, first["input"], f"is refused: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def policy_body(policy: PlanPolicy) -> dict[str, Any]:
    """Return a policy as plain values, from which `policy_from` reads the same policy."""
    body = asdict(policy)
    body["classes"] = {kind.value: rules for kind, rules in body["classes"].items()}
    return body
