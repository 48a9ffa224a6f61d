"""The commands `gangplan quarantine ...`: telemetry that the ledger denies, and a person's word that it is right."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gangplan import summaries, telemetry
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_store_here, settings_here
from gangplan.types import Quarantine

quarantine_app = typer.Typer(
    help="Telemetry that is not believed, since the ledger denies it: list it, release it.", no_args_is_help=True
)

_COLUMNS = {
    "series": "series",
    "from": "start",
    "to": "end",
    "GPUs counted": "counted_gpus",
    "GPUs expected": "expected_gpus",
}


@quarantine_app.command("list", epilog="Example:  gangplan quarantine list || echo 'somebody must look'")
def list_quarantined(as_json: AsJson = False) -> None:
    """List what is kept out of training and planning; exit code 1 when there is anything."""
    quarantined = telemetry.read_usage(open_store_here(), settings_here().clock()).quarantined
    emit(as_json, _summary(quarantined), _table)
    if quarantined:
        raise typer.Exit(1)


@quarantine_app.command(
    "release", epilog="Example:  gangplan quarantine release search/latency/h100 --by ada --why true"
)
def release(
    series: Annotated[str, typer.Argument(help="tenant/workload class/accelerator, as `quarantine list` names it.")],
    by: Annotated[str, typer.Option(help="Who says so, kept with the release.")],
    why: Annotated[str, typer.Option(help="Why the numbers are right, kept with the release.")],
    as_json: AsJson = False,
) -> None:
    """Believe the telemetry of a series again; from now on its hours are learned from."""
    store = open_store_here()
    quarantined = telemetry.read_usage(store, settings_here().clock()).quarantined
    freed = telemetry.release(series, store, quarantined, by=by, why=why, clock=settings_here().clock)
    emit(as_json, _summary(freed), _table)


def _summary(quarantined: tuple[Quarantine, ...]) -> list[dict[str, Any]]:
    return [summaries.fields_of(row, *_COLUMNS.values()) for row in quarantined]


def _table(rows: list[dict[str, Any]]) -> object:
    if not rows:
        return "Nothing is quarantined."
    return screen.listing("Telemetry that the ledger denies", rows, _COLUMNS)
