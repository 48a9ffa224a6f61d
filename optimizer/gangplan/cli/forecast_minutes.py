"""The command `gangplan forecast minutes`: serving's demand minutes to three hours ahead."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, console, emit, settings_here
from gangplan.extras import needs_extras
from gangplan.types import SERIES

SHOWN = (15, 30, 60, 120, 180)


class Measure(StrEnum):
    """What is forecast."""

    GPUS = "gpus"
    REQUESTS = "requests"


def add_minutes(app: typer.Typer) -> typer.Typer:
    """Add the command to `gangplan forecast`."""
    app.command("minutes", epilog="Example:  gangplan forecast minutes --step 15 --of requests --json")(minutes)
    return app


def minutes(
    of: Annotated[Measure, typer.Option(help="GPUs of latency-bound jobs, or requests per second.")] = Measure.GPUS,
    step: Annotated[int, typer.Option(min=1, max=15, help="Minutes of a step.")] = 5,
    hours: Annotated[float, typer.Option(min=0.25, max=3, help="How far ahead to look.")] = 3.0,
    as_json: AsJson = False,
) -> None:
    """Forecast serving's demand minutes to three hours ahead, in quantiles, from telemetry at steps of minutes."""
    with needs_extras():
        from gangplan import forecast, telemetry
        from gangplan.tracking import open_store
    settings, length = settings_here(), timedelta(minutes=step)
    store = open_store(settings)
    usage = telemetry.read_usage(store)
    table = telemetry.fine_gpus(usage, length) if of is Measure.GPUS else telemetry.fine_requests(usage, length)
    with screen.progress(console, not as_json) as progress:
        progress(0, 1, "learning from the last three weeks, unless that was done within a day")
        asked = forecast.MinuteRequest(of=of.value, step=length, ahead=int(timedelta(hours=hours) / length))
        made = forecast.forecast_minutes(table, asked, usage, store, settings=settings)
    rows = [{**row, "time": row["time"].isoformat()} for row in made.table.iter_rows(named=True)]
    head = {"of": of.value, "step_minutes": step, "from": usage.end.isoformat()}
    said = {**head, "run_id": made.run_id, "learned": made.learned, "rows": rows}
    emit(as_json, said, _words)


def _words(said: dict[str, Any]) -> RenderableType:
    """Show some steps of each series."""
    per = said["step_minutes"]
    keys = list(dict.fromkeys(tuple(row[name] for name in SERIES) for row in said["rows"]))
    ahead = len(said["rows"]) // len(keys)
    shown = [minute for minute in SHOWN if minute // per <= ahead and minute % per == 0]
    rows = [
        (" / ".join(key), *(_pair(said["rows"][place * ahead + minute // per - 1]) for minute in shown))
        for place, key in enumerate(keys)
    ]
    unit = "GPUs" if said["of"] == Measure.GPUS else "requests per second"
    columns = ("series", *(f"{minute} min" for minute in shown))
    trained = "trained just now" if said["learned"] else "trained within a day"
    title = f"{unit} after {said['from']}: median (q0.95)"
    return Group(screen.table(title, columns, rows), f"{trained}: MLflow run {said['run_id']}")


def _pair(row: dict[str, Any]) -> str:
    """A step's median and what it stays under in 95 of 100 cases."""
    return f"{row['q0.5']:,.1f} ({row['q0.95']:,.1f})"
