"""The command `gangplan apply`: the newest plan carried out, on the engines that targets.yaml names."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gangplan import summaries
from gangplan.cli import screen
from gangplan.cli.execution import steps_screen
from gangplan.cli.terminal import AsJson, console, emit, open_store_here, settings_here
from gangplan.clock import DURATION, parse_span
from gangplan.errors import GangplanError, InputError

if TYPE_CHECKING:
    from gangplan.config import Settings
    from gangplan.execute import Carried
    from gangplan.workflows import Applied, Execution

apply_app = typer.Typer()

_UNREACHABLE = 4


@apply_app.command("apply", epilog="Example:  gangplan apply --dry-run   |   gangplan apply --to kueue --yes --wait")
def apply(
    to: Annotated[str, typer.Option(help="Take only the steps of: file, kueue, cluster, ec2, gce or serving.")] = "",
    targets: Annotated[
        Path | None, typer.Option(help="Where pools live; default: targets.yaml beside the fleet file, if any.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the steps, let the engines check them, change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    wait: Annotated[bool, typer.Option(help="Go on until the plan is reached.")] = False,
    timeout: Annotated[str, typer.Option(help=f"How long to go on with --wait, {DURATION}.")] = "30m",
    show: Annotated[bool, typer.Option("--status", help="Show the last run, and change nothing.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Bring back what was there before the last run.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say what would keep plans from being carried out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Carry the newest published plan out, as far as can be now; the steps are shown first.

    Where only the fleet file changes, nobody is asked. It ends with 1 where an engine refused a step, and with 4 where
    one cannot be reached.
    """
    from gangplan.execute import last_run
    from gangplan.workflows import open_execution

    if show:
        summary = {**summaries.of_apply_run(last_run(open_store_here())), "controller": _controller()}
        return emit(as_json, summary, steps_screen.apply_run)
    span = parse_span("--timeout", timeout)
    settings = settings_here(targets=targets)
    if check:
        return _check(settings, as_json)
    with open_execution(settings, to=to, undo=undo) as execution:
        applied = execution.once(dry_run=True) if dry_run or execution.asks else None
        if applied is None or not (dry_run or applied.reached or not _agreed(applied, yes=yes, as_json=as_json)):
            applied = _carry(execution, span, as_json) if wait else execution.once()
    return _end(applied, as_json)


def _controller() -> dict[str, object]:
    """Return what a controller did last, or why that cannot be known; nothing where none has run."""
    from gangplan.workflows import last_pass

    try:
        return last_pass(settings_here())
    except GangplanError as error:
        return {"unknown": str(error)}


def _leader() -> str:
    """Return which controller leads beside us, or why that cannot be known; nothing where none does."""
    from gangplan.workflows import leader

    try:
        return leader(settings_here())
    except GangplanError as error:
        return f"unknown ({error})"


def _summary(applied: Applied) -> dict[str, object]:
    return {**summaries.of_applied(applied), "controller": _leader()}


def _end(applied: Applied, as_json: bool) -> None:
    """Show what was done, and end with what went wrong."""
    emit(as_json, _summary(applied), steps_screen.carried)
    if applied.carried.refused:
        raise typer.Exit(1)
    if applied.carried.unreachable:
        raise typer.Exit(_UNREACHABLE)


def _agreed(applied: Applied, *, yes: bool, as_json: bool) -> bool:
    """Show the steps, and ask; without anybody to ask, `--yes` must say it."""
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise InputError("--yes", "", "is missing, and there is no terminal to ask at: give --yes, or --dry-run first")
    console.print(steps_screen.carried(_summary(applied)))
    return typer.confirm("Take these steps?")


def _carry(execution: Execution, timeout: timedelta, as_json: bool) -> Applied:
    """Go on until the plan is reached, and show how far it is."""
    with screen.progress(console, not as_json) as progress:

        def told(carried: Carried) -> None:
            done, left = len(carried.done), len(carried.left)
            waits = carried.left[0] if carried.left else None
            progress(done, done + left, f"{waits.pool} waits for {waits.waits_for}" if waits else "all is reached")

        return execution.until_reached(timeout=timeout, pause=lambda span: time.sleep(span.total_seconds()), told=told)


def _check(settings: Settings, as_json: bool) -> None:
    """Show what would keep plans from being carried out; no plan is needed."""
    from gangplan.workflows import check_targets

    said = [f"{name}: {words}" for name, found in check_targets(settings).items() for words in found]
    emit(as_json, {"problems": said}, lambda _: "\n".join(map(escape, said)) or "nothing is in the way")
    if said:
        raise typer.Exit(1)
