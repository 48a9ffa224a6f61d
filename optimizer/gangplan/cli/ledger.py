"""The commands `gangplan ledger ...`: lead it, read and replay its audit log, delete its past."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from gangplan import summaries
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_ledger_here, settings_here, stopped
from gangplan.clock import DURATION, parse_span, parse_utc
from gangplan.errors import GangplanError
from gangplan.types import require_positive
from gangplan.urls import shown

if TYPE_CHECKING:
    from gangplan.reserve import AuditEvent, SqlStore, Status

ledger_app = typer.Typer(help="The ledger itself: who leads it, its audit log, its past.", no_args_is_help=True)

_LONG = ("body", "slots", "plan", "reason", "more")
"""Columns whose values are too long for a line, so that only their names are shown."""


@ledger_app.command("serve", epilog="Example:  gangplan ledger serve")
def serve(
    every: Annotated[str, typer.Option(help=f"How often to say how it goes, {DURATION}.")] = "10s",
) -> None:
    """Lead the ledger for good, so that no client has to; ends cleanly on Ctrl-C and SIGTERM."""
    pause = parse_span("--every", every).total_seconds()
    require_positive("--every", pause)
    settings_here().require_present("gangplan ledger serve")
    if settings_here().ledger_url.startswith("kueue:"):
        _serve_kueue(pause)
        return
    with stopped() as stop, _store() as store:
        store.lead()
        print(f"leads {store.shown} as {store.leadership.name} as soon as nobody else does; Ctrl-C ends it", flush=True)
        last = store.status()
        while not stop.wait(pause):
            now = store.status()
            print(_progress(last, now, pause), flush=True)
            last = now
    print("stopped; any client leads when it needs to", flush=True)


def _serve_kueue(pause: float) -> None:
    """Keep a queue's reservations until asked to stop: complete evictions, expire leases, queue windows."""
    from gangplan.reserve import open_kueue

    with stopped() as stop, open_kueue(settings_here().ledger_url, clock=settings_here().clock) as ledger:
        ledger.serve()
        print(f"keeps {shown(settings_here().ledger_url)}; Ctrl-C ends it", flush=True)
        while not stop.wait(pause):
            states = Counter(reservation.state.value for reservation in ledger.history())
            print(", ".join(f"{count} {state}" for state, count in sorted(states.items())), flush=True)
    print("stopped; every client does the same while it waits or holds", flush=True)


@ledger_app.command("status", epilog="Example:  gangplan ledger status --json")
def status(as_json: AsJson = False) -> None:
    """Say who leads, how many commands wait for the leader, and how many reservations are in each state."""
    with _store() as store:
        now = store.status()
    emit(as_json, summaries.fields_of(now, "leader", "term", "change", "inbox", "states"), _status_table)


@ledger_app.command("audit", epilog="Example:  gangplan ledger audit --key nightly-train --json")
def audit(
    key: Annotated[str | None, typer.Option(help="Only what is about the reservation of this request key.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what was written since, like 2026-03-01T12:00:00Z.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what happened: each change with its moment, its commands and what it made different, oldest first."""
    begin = None if since is None else parse_utc("--since", since)
    with open_ledger_here() as ledger:
        id = None if key is None else ledger.find(key).id
        events = [_of_event(event) for event in ledger.audit(since=begin, id=id)]
    emit(as_json, events, _audit_table)


@ledger_app.command("replay", epilog="Example:  gangplan ledger replay")
def replay(as_json: AsJson = False) -> None:
    """Replay the audit log and hold it against the reservations; exit code 1 where they differ."""
    with open_ledger_here() as ledger:
        done = ledger.replay()
    differ = len(done.different)
    result = f"{differ} differ" if differ else "the same as the log says"
    text = f"{done.changes} changes replayed, {done.reservations} reservations: {result}"
    emit(as_json, summaries.fields_of(done, "changes", "reservations", "different"), lambda _: text)
    if differ:
        raise GangplanError(f"audit: {differ} reservations differ from the log: restore a back-up")


@ledger_app.command("compact", epilog="Example:  gangplan ledger compact --older-than 90d")
def compact(
    older_than: Annotated[str, typer.Option(help=f"Keep what ended since so long ago, {DURATION}.")] = "90d",
    as_json: AsJson = False,
) -> None:
    """Delete reservations that ended long ago, and fold the audit log up to then into one row; it still replays."""
    with open_ledger_here() as ledger:
        done = ledger.compact(settings_here().clock() - parse_span("--older-than", older_than))
    text = f"deleted {done.reservations} reservations, folded {done.changes} changes"
    emit(as_json, summaries.fields_of(done, "reservations", "changes"), lambda _: text)


@contextmanager
def _store() -> Generator[SqlStore]:
    from gangplan.reserve import open_store

    settings = settings_here()
    store = open_store(settings.ledger_url, clock=settings.clock)
    try:
        yield store
    finally:
        store.close()


def _progress(last: Status, now: Status, seconds: float) -> str:
    """Return one line about what happened in the last seconds."""
    leads = "leads" if now.leads else f"waits: {now.leader or 'nobody'} leads"
    rate = (now.change - last.change) / seconds
    counts = ", ".join(f"{count} {state}" for state, count in sorted(now.states.items())) or "no reservations"
    return f"{leads}, term {now.term}: {rate:.1f} changes/s, {now.inbox} commands wait; {counts}"


def _status_table(summary: dict[str, Any]) -> RenderableType:
    leads = summary["leader"] or "nobody: whoever writes next does without, or leads"
    counts = [("term", summary["term"]), ("changes", summary["change"]), ("commands wait", summary["inbox"])]
    return screen.fields("Ledger", [("leads", leads), *counts, *sorted(summary["states"].items())])


def _of_event(event: AuditEvent) -> dict[str, Any]:
    return {
        **summaries.fields_of(event, "change", "at", "term", "base"),
        "commands": [{"name": name, "id": id} for name, id in event.commands],
        "rows": event.rows,
    }


def _audit_table(events: list[dict[str, Any]]) -> RenderableType:
    """Show one line for each reservation of each change."""
    rows: list[tuple[object, ...]] = []
    for event in events:
        changes: dict[str, dict[str, Any]] = event["rows"] or {"": {}}
        for id, changed in changes.items():
            who = changed.get("request_key", id)
            rows.append((event["change"], event["at"], _names(event, id), who, _columns(changed)))
    return screen.table("Audit log", ("change", "at", "by", "reservation", "what changed"), rows)


def _names(event: dict[str, Any], id: str) -> str:
    """Return the commands about a reservation, or `admission` where time or another command changed it."""
    if event["base"]:
        return "base"
    own = [command["name"] for command in event["commands"] if command["id"] in (id, None)]
    return ", ".join(dict.fromkeys(own)) or "admission"


def _columns(changed: dict[str, Any]) -> str:
    """Return what changed in short; long values are only named."""
    short = [f"{name}={value}" for name, value in changed.items() if name not in (*_LONG, "id", "request_key")]
    more: dict[str, Any] = json.loads(changed.get("more") or "{}")
    words = [f"{name}={more[name]}" for name in ("attempt", "claim_by") if name in more]
    claim = ["nobody claimed it"] if "unclaimed" in more else []
    return ", ".join([*short, *words, *claim, *(name for name in changed if name in _LONG)])
