"""The command `gangplan forecast totals`: the hourly forecast summed up, coherent with its parts."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import RenderableType

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, settings_here
from gangplan.extras import needs_extras


def add_totals(app: typer.Typer) -> typer.Typer:
    """Add the command to `gangplan forecast`."""
    app.command("totals", epilog="Example:  gangplan forecast totals --by accelerator --json")(totals)
    return app


def totals(
    by: Annotated[str, typer.Option(help="tenant, accelerator or workload_class.")] = "tenant",
    hours: Annotated[int, typer.Option(min=1, help="How many hours to show.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Sum the champion's forecast up by tenant, accelerator or class and over all; a sum's means add up exactly."""
    with needs_extras():
        from gangplan import feedback, forecast, telemetry
        from gangplan.tracking import open_store
    settings, store = settings_here(), open_store(settings_here())
    usage = telemetry.read_usage(store)
    ahead = forecast.predict(usage, store, feedback.read_beliefs(store), settings=settings)
    table = forecast.sum_up(usage, ahead, by).sort("hour", maintain_order=True)
    shown = table.filter(table["hour"].rank("dense") <= hours)
    rows = [{**row, "hour": row["hour"].isoformat()} for row in shown.iter_rows(named=True)]
    emit(as_json, {"by": by, "model": ahead.model, "rows": rows}, _words)


def _words(said: dict[str, Any]) -> RenderableType:
    """Show each total, hour by hour."""
    by = said["by"]
    rows = [
        (
            row["hour"][:16].replace("T", " "),
            row[by],
            *(round(row[name], 1) for name in ("mean", "q0.1", "q0.5", "q0.95")),
        )
        for row in said["rows"]
    ]
    return screen.table("Totals in GPUs, UTC", ("hour", by, "mean", "q0.1", "median", "q0.95"), rows)
