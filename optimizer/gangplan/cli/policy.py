"""The commands `gangplan policy ...`: show the ledger's rules, check a file of rules, set it, compare versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan import reserve, summaries
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_ledger_here, settings_here
from gangplan.config import read_fleet
from gangplan.errors import InputError
from gangplan.types import Pool, Reservation, ReservationState, require_text

policy_app = typer.Typer(help="Tenants, quotas, priorities, preemption: the rules of the ledger.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="Policy file; `gangplan policy show --yaml` prints one to start with.")]

_VERSION = ("number", "at", "by", "why")


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of the policy: its number, from when, by whom and why; number 0 is the default before any was set."""

    number: int
    policy: reserve.Policy
    at: datetime | None = None
    by: str = ""
    why: str = ""


@policy_app.command("show", epilog="Example:  gangplan policy show   |   gangplan policy show --yaml > policy.yaml")
def policy_show(
    number: Annotated[int | None, typer.Argument(min=0, help="One of the history; default: the one in force.")] = None,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print it as a policy file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the policy in force, or an older one: each tenant's weight, cohort and quotas beside what it holds now."""
    with open_ledger_here() as ledger:
        versions = _versions(ledger)
        version = versions[-1] if number is None else _numbered("number", number, versions)
        held = reserve.holdings(_live(ledger), _pools())
    if as_yaml:
        return print(reserve.policy_yaml(version.policy), end="")
    tenants = _rows(version.policy, held)
    summary = {
        **summaries.fields_of(version, *_VERSION),
        "tenants": tenants,
        "policy": reserve.policy_body(version.policy),
    }
    return emit(as_json, summary, lambda _: _in_force(version, tenants))


@policy_app.command("check", epilog="Example:  gangplan policy check policy.yaml")
def policy_check(file: File, as_json: AsJson = False) -> None:
    """Read a policy file and say what it would change, and for whom; nothing is written."""
    policy = reserve.read_policy(file)
    with open_ledger_here() as ledger:
        review = _review(ledger, policy)
    emit(as_json, review, lambda _: Group(*_review_parts(review, "Would change")))


@policy_app.command("set", epilog="Example:  gangplan policy set policy.yaml --by ada --why 'speech joins research'")
def policy_set(
    file: File,
    by: Annotated[str, typer.Option(help="Who says so.")],
    why: Annotated[str, typer.Option(help="The reason, kept with the policy.")],
    as_json: AsJson = False,
) -> None:
    """Let a policy file hold from now on; a file that changes nothing is not written again."""
    require_text("--by", by, 1)
    require_text("--why", why, 1)
    policy = reserve.read_policy(file)
    with open_ledger_here() as ledger:
        review = _review(ledger, policy)
        if review["changes"]:
            ledger.set_policy(policy, by=by, why=why)
    emit(as_json, review, lambda _: Group(*_review_parts(review, "Changed")))


@policy_app.command("history", epilog="Example:  gangplan policy history")
def policy_history(as_json: AsJson = False) -> None:
    """List the policies that were set: when, by whom, why, and what changed."""
    with open_ledger_here() as ledger:
        versions = _versions(ledger)
    history = [
        {**summaries.fields_of(new, *_VERSION), "changes": _of_changes(reserve.policy_changes(old.policy, new.policy))}
        for old, new in pairwise(versions)
    ]
    emit(as_json, history, _history_table)


@policy_app.command(
    "diff",
    epilog="Example:  gangplan policy diff   |   gangplan policy diff 0   |   gangplan policy diff 2 policy.yaml",
)
def policy_diff(
    a: Annotated[
        str | None, typer.Argument(help="Number in the history (0: the default) or file; default: the one before.")
    ] = None,
    b: Annotated[str | None, typer.Argument(help="The same; default: the policy in force.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show in what two policies differ."""
    with open_ledger_here() as ledger:
        versions = _versions(ledger)
    old = versions[max(0, len(versions) - 2)].policy if a is None else _named("A", a, versions)
    new = versions[-1].policy if b is None else _named("B", b, versions)
    changes = _of_changes(reserve.policy_changes(old, new))
    emit(as_json, {"changes": changes}, lambda _: _changes_table(changes, "Differences", ("A", "B")))


def _versions(ledger: reserve.LedgerOperations) -> list[Version]:
    """Return the default policy and all that were set since; the last one is in force."""
    later = (
        Version(number=number, policy=change.policy, at=change.at, by=change.by, why=change.why)
        for number, change in enumerate(ledger.policies(), start=1)
    )
    return [Version(number=0, policy=reserve.Policy()), *later]


def _live(ledger: reserve.Ledger) -> tuple[Reservation, ...]:
    """Return the reservations that hold slots or wait."""
    return tuple(reservation for state in ReservationState if not state.final for reservation in ledger.list(state))


def _pools() -> tuple[Pool, ...]:
    """Return the fleet's pools; none without a fleet file."""
    file = settings_here().fleet_file
    return read_fleet(file).pools if file.exists() else ()


def _named(which: str, text: str, versions: list[Version]) -> reserve.Policy:
    """Return the policy of a number in the history, or of a file."""
    return _numbered(which, int(text), versions).policy if text.isdecimal() else reserve.read_policy(Path(text))


def _numbered(which: str, number: int, versions: list[Version]) -> Version:
    if number >= len(versions):
        raise InputError(which, number, f"is not in the history: give 0 to {len(versions) - 1}")
    return versions[number]


def _review(ledger: reserve.OperableLedger, policy: reserve.Policy) -> dict[str, Any]:
    """Return what a policy changes, what in it may be a mistake, and its effects on those who hold and wait."""
    pools = _pools()
    return {
        "changes": _of_changes(reserve.policy_changes(ledger.policy(), policy)),
        "doubts": list(reserve.policy_doubts(policy, pools)),
        "effects": list(reserve.policy_effects(policy, _live(ledger), pools)),
    }


def _of_changes(changes: Iterable[reserve.FieldChange]) -> list[dict[str, Any]]:
    return [
        {
            "field": change.field,
            "before": change.before,
            "after": change.after,
            "words": (change.shown(change.before), change.shown(change.after)),
        }
        for change in changes
    ]


def _rows(policy: reserve.Policy, held: reserve.Holdings) -> list[dict[str, Any]]:
    """Return what each tenant may hold of each accelerator and what it holds, also for tenants that are not named."""
    limits = reserve.Quotas(policy)
    rows: list[dict[str, Any]] = []
    for tenant in dict.fromkeys((*policy.tenants, *sorted(held))):
        rules = policy.tenant(tenant)
        for name in dict.fromkeys((*rules.quotas, *sorted(held.get(tenant, {})))) or ("",):
            limit, quota = limits.most(tenant, name), limits.quota(tenant, name)
            named = {"tenant": tenant, "named": tenant in policy.tenants, "accelerator": name}
            shares = {"nominal": None, "borrow": None, "lend": None} if quota is None else vars(quota)
            numbers = {"most": None if limit == float("inf") else limit, "holds": held.get(tenant, {}).get(name, 0)}
            rows.append({**named, "weight": rules.weight, "cohort": rules.cohort, **shares, **numbers})
    return rows


def _in_force(version: Version, tenants: list[dict[str, Any]]) -> RenderableType:
    columns = ("tenant", "weight", "cohort", "accelerator", "nominal", "borrow", "lend", "at most", "holds now")
    title = "Policy: the default"
    if version.at is not None:
        since = f"since {version.at.isoformat()} by {escape(version.by)}"
        title = f"Policy {version.number}, {since}: {escape(version.why)}"
    table = screen.table(title, columns, [tuple(_cells(row)) for row in tenants])
    head = table if tenants else "no tenants are named: all have weight 1 and no quota"
    return Group(head, screen.fields("", list(_rules(version.policy))))


def _cells(row: dict[str, Any]) -> Iterator[object]:
    """Yield the cells of one tenant and accelerator."""
    yield row["tenant"] if row["named"] else f"{row['tenant']} (not named)"
    yield f"{row['weight']:g}"
    yield row["cohort"] or "-"
    yield row["accelerator"] or "-"
    limited, shared = row["nominal"] is not None, row["cohort"] and row["nominal"] is not None
    yield row["nominal"] if limited else "-"
    yield ("no limit" if row["borrow"] is None else row["borrow"]) if shared else "-"
    yield ("all" if row["lend"] is None else row["lend"]) if shared else "-"
    yield "no limit" if row["most"] is None else f"{row['most']:g}"
    yield f"{row['holds']:g}"


def _rules(policy: reserve.Policy) -> Iterator[tuple[str, object]]:
    """Yield the rules that hold for all tenants."""
    classes = sorted(policy.priority_classes.items(), key=lambda named: named[1])
    yield "priority classes", ", ".join(f"{name} {priority}" for name, priority in classes) or "none"
    yield "ageing", f"one point for {reserve.span_text(policy.ageing)} of waiting" if policy.ageing else "none"
    yield "promises", f"for the first {policy.depth} in the line"
    yield "preemption", _preemption(policy.preemption)
    yield (
        "nodes that drain, are lost",
        f"{reserve.span_text(policy.drain)} to leave; {reserve.span_text(policy.claim)} to claim new slots",
    )


def _preemption(rules: reserve.Preemption) -> str:
    """Return who may take slots from whom, with which notice and grace."""
    who: list[str] = []
    if rules.by_priority:
        who.append(f"by a priority that is {rules.margin} or more higher")
    if rules.reclaim:
        who.append("by a tenant whose own quota is lent")
    if not who:
        return "none"
    notice, grace = reserve.span_text(rules.notice), reserve.span_text(rules.grace)
    return f"{', '.join(who)}; told {notice} before, safe for {grace} after a grant"


def _review_parts(review: dict[str, Any], title: str) -> Iterator[RenderableType]:
    """Yield what a policy changes, what to look at, and what it means."""
    yield _changes_table(review["changes"], title, ("now", "then"))
    for text in review["doubts"]:
        yield f"[yellow]look at:[/] {escape(text)}"
    for text in review["effects"]:
        yield f"[yellow]it means:[/] {escape(text)}"


def _changes_table(changes: list[dict[str, Any]], title: str, sides: tuple[str, str]) -> RenderableType:
    if not changes:
        return "no difference: nothing to change"
    return screen.table(title, ("field", *sides), [(change["field"], *change["words"]) for change in changes])


def _history_table(history: list[dict[str, Any]]) -> RenderableType:
    if not history:
        return "no policy was ever set: the default holds"
    columns: screen.Columns = {"": "number", "since": "at", "by": "by", "why": "why", "what changed": _changes_text}
    return screen.listing("Policies", history, columns)


def _changes_text(row: dict[str, Any]) -> str:
    return "\n".join(f"{change['field']}: {' -> '.join(change['words'])}" for change in row["changes"])
