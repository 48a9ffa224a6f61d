"""Runs of pipelines for a person at a terminal: with their steps, and with the gangs that they hold or wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan.cli import screen
from gangplan.types import Reservation

_GANG = ("gang", "GPUs", "state of the gang", "ETA or expiry", "why")


def runs(shown: Sequence[Any], gangs: Mapping[str, Sequence[Reservation]]) -> RenderableType:
    """List runs, a line for each of their gangs."""
    if not shown:
        return "there are no runs"
    rows = [
        [*(_head(run) if index == 0 else ("", "", "", "")), *cells]
        for run in shown
        for index, cells in enumerate([_gang(gang) for gang in gangs.get(run.id, ())] or [["", "", "", "", ""]])
    ]
    return screen.table("Runs", ("run", "id", "state", "started", *_GANG), rows)


def one_run(run: Any, gangs: Sequence[Reservation]) -> RenderableType:
    """Show one run: its state, its steps by their states, and its gangs."""
    pairs = [
        ("id", run.id),
        ("state", run.state),
        ("started", _time(run.created_at)),
        ("ended", _time(run.finished_at)),
    ]
    pairs += [(f"steps: {state.lower()}", ", ".join(names)) for state, names in run.steps.items()]
    if run.error:
        pairs.append(("error", run.error))
    head = screen.fields(f"Run {escape(run.name)}", pairs)
    return Group(head, screen.table("Gangs", _GANG, [_gang(gang) for gang in gangs])) if gangs else head


def standing(run: Any, gangs: Sequence[Reservation], trouble: str) -> str:
    """Return one line about a run that is waited for: its state, its running steps, and what its gangs wait for."""
    from gangplan.client import eta_text, wait_text

    running = ", ".join(run.steps.get("RUNNING", ()))
    waits = [wait_text(gang, eta_text(gang), name_slots=True) for gang in gangs if gang.state.waits]
    asked = [f"the ledger cannot be asked: {trouble}"] if trouble else waits
    return "; ".join([f"{run.state}{f': {running}' if running else ''}", *asked])


def schedules(summary: screen.Row) -> RenderableType:
    """List schedules, and what was done to them."""
    rows = summary["schedules"]
    if not rows:
        return "there is no such schedule" if summary["done"] else "there are no schedules"
    columns: screen.Columns = {
        "name": "name",
        "when": "when",
        "state": lambda row: "enabled" if row["enabled"] else "disabled",
        "id": "id",
    }
    if summary["done"] == "deleted":
        del columns["state"]
    made = screen.listing("Schedules", rows, columns)
    return Group(made, summary["done"]) if summary["done"] else made


def _head(run: Any) -> tuple[str, ...]:
    return run.name, run.id, run.state, _time(run.created_at)


def _gang(gang: Reservation) -> list[object]:
    """Return the cells of a gang; its key is `kfp/<run>/<name>`, with a part where a loop has several."""
    from gangplan.client import eta_text, state_text, time_text

    name = gang.request.request_key.split("/", 2)[-1]
    until = eta_text(gang) if gang.state.waits else gang.expires_at and time_text(gang.expires_at)
    return [name, str(gang.request.gpus), state_text(gang), until, screen.why(gang)]


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else ""
