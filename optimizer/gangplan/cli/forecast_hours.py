"""The commands `gangplan forecast spikes`, `drift`, `minutes` and `totals`: the next minutes and hours."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan import feedback, forecast, plan, summaries, telemetry, workflows
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, console, emit, open_store_here, settings_here
from gangplan.clock import HOUR
from gangplan.types import SERIES, Usage

if TYPE_CHECKING:
    from gangplan.forecast import Alarm, Health
    from gangplan.tracking import Store

hours_app = typer.Typer()

SHOWN = (15, 30, 60, 120, 180)
"""Minutes ahead that the table of `forecast minutes` shows."""


class Measure(StrEnum):
    """What `forecast minutes` forecasts."""

    GPUS = "gpus"
    REQUESTS = "requests"


@hours_app.command("spikes", epilog="Example:  gangplan forecast spikes   |   gangplan forecast spikes --replan")
def spikes(
    replan: Annotated[bool, typer.Option("--replan", help="If any does, plan anew at once and publish it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which series stand out in their last known hour, and correct six hours of the plan's forecast by it."""
    store = open_store_here()
    usage, (_, foreseen) = _usage_now(store), plan.read_plan(store)
    corrected, alarms = forecast.correct_next_hours(usage, foreseen)
    keys = {alarm.key for alarm in alarms}
    rows = [
        {**row, "hour": row["hour"].isoformat()}
        for row in corrected.quantiles.iter_rows(named=True)
        if tuple(row[name] for name in SERIES) in keys and usage.end <= row["hour"] < usage.end + timedelta(hours=6)
    ]
    made: dict[str, Any] | None = None
    if replan and alarms:
        from gangplan import cycle

        with screen.progress(console, not as_json) as progress:
            made = summaries.of_plan(cycle.make_plan(settings_here(), progress=progress))
    summary = {"alarms": [_of_alarm(alarm) for alarm in alarms], "corrected": rows, "plan": made}
    emit(as_json, summary, _spikes_tables)


@hours_app.command("drift", epilog="Example:  gangplan forecast drift --json | jq -r .verdict")
def drift(
    days: Annotated[int, typer.Option(min=3, max=90, help="At most how many days to look back.")] = 14,
    as_json: AsJson = False,
) -> None:
    """Hold the last days' champions against what was promised: fine, retrain, or inputs changed, and which."""
    with screen.progress(console, not as_json) as progress:
        progress(0, 1, "forecasting each day with the champion that there was")
        health, cause = workflows.drift(settings_here(), days=days)
    emit(as_json, {**_of_health(health), "training_wanted_because": cause}, _drift_tables)


@hours_app.command("minutes", epilog="Example:  gangplan forecast minutes --step 15 --of requests --json")
def minutes(
    of: Annotated[Measure, typer.Option(help="GPUs of latency-bound jobs, or requests per second.")] = Measure.GPUS,
    step: Annotated[int, typer.Option(min=1, max=15, help="Minutes of a step.")] = 5,
    hours: Annotated[float, typer.Option(min=0.25, max=3, help="How far ahead to look.")] = 3.0,
    as_json: AsJson = False,
) -> None:
    """Forecast serving's demand minutes to three hours ahead, in quantiles, from telemetry at steps of minutes."""
    store, length = open_store_here(), timedelta(minutes=step)
    usage = telemetry.read_usage(store, settings_here().clock())
    table = telemetry.fine_gpus(usage, length) if of is Measure.GPUS else telemetry.fine_requests(usage, length)
    with screen.progress(console, not as_json) as progress:
        progress(0, 1, "learning from the last three weeks, unless that was done within a day")
        asked = forecast.MinuteRequest(of=of.value, step=length, ahead=int(timedelta(hours=hours) / length))
        made = forecast.forecast_minutes(table, asked, usage, store, settings=settings_here())
    rows = [{**row, "time": row["time"].isoformat()} for row in made.table.iter_rows(named=True)]
    head = {"of": of.value, "step_minutes": step, "from": usage.end.isoformat()}
    emit(as_json, {**head, "run_id": made.run_id, "learned": made.learned, "rows": rows}, _minutes_table)


@hours_app.command("totals", epilog="Example:  gangplan forecast totals --by accelerator --json")
def totals(
    by: Annotated[str, typer.Option(help="tenant, accelerator or workload_class.")] = "tenant",
    hours: Annotated[int, typer.Option(min=1, help="How many hours to show.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Sum the champion's forecast up by tenant, accelerator or class and over all; a sum's means add up exactly."""
    store = open_store_here()
    usage = _usage_now(store)
    ahead = forecast.predict(usage, store, feedback.read_beliefs(store), settings=settings_here())
    table = forecast.sum_up(usage, ahead, by).sort("hour", maintain_order=True)
    shown = table.filter(table["hour"].rank("dense") <= hours)
    rows = [{**row, "hour": row["hour"].isoformat()} for row in shown.iter_rows(named=True)]
    head = {"by": by, "model": ahead.model, "age_hours": ahead.age / HOUR}
    emit(as_json, {**head, "rows": rows}, _totals_table)


def _usage_now(store: Store) -> Usage:
    """Return the telemetry up to now, the late hours missing."""
    now = settings_here().clock()
    return telemetry.until_now(telemetry.read_usage(store, now), now)


def _of_alarm(alarm: Alarm) -> dict[str, Any]:
    sizes = {"gpus": round(alarm.gpus, 1), "expected": round(alarm.expected, 1), "score": round(alarm.score, 2)}
    return {"series": " / ".join(alarm.key), "hour": alarm.hour.isoformat(), **sizes}


def _spikes_tables(summary: dict[str, Any]) -> RenderableType:
    if not summary["alarms"]:
        return "no series stands out in the last known hour: the forecast stays as it is"
    sizes = {"GPUs": "gpus", "expected": "expected", "x threshold": "score"}
    hours: screen.Columns = {
        "series": _series,
        "hour": "hour",
        "median": lambda row: round(row["q0.5"], 1),
        "q0.95": lambda row: round(row["q0.95"], 1),
    }
    return Group(
        screen.listing("Stands out", summary["alarms"], {"series": "series", "hour": "hour", **sizes}),
        screen.listing("The next hours, corrected", summary["corrected"], hours),
        screen.plan(summary["plan"]) if summary["plan"] else "`gangplan plan` takes this into account",
    )


def _of_health(health: Health) -> dict[str, Any]:
    series = [
        {
            "series": " / ".join(row.key),
            **summaries.fields_of(row, "wql", "promised_wql", digits=2),
            **summaries.fields_of(row, "coverage_80", "promised_coverage_80", digits=3),
            **summaries.fields_of(row, "luck", "worse", digits=4),
        }
        for row in health.series
    ]
    changed = [
        {"series": " / ".join(row.key), "feature": row.feature, "distance": min(round(row.distance, 2), 1e6)}
        for row in health.changed
    ]
    head = summaries.fields_of(health, "verdict", "reason", "days", "version", "promised_by")
    return {**head, "series": series, "changed": changed}


def _drift_tables(summary: dict[str, Any]) -> RenderableType:
    style = {"fine": "green", "retrain": "yellow", "inputs changed": "yellow"}.get(summary["verdict"], "dim")
    who = f"version {summary['version']}, promised by {summary['promised_by']}"
    head = f"[{style}]{summary['verdict']}[/], {who}, {summary['days']} days: {escape(summary['reason'])}"
    parts: list[RenderableType] = [head]
    if summary["series"]:
        columns: screen.Columns = {
            "series": "series",
            "WQL": "wql",
            "promised": "promised_wql",
            "80 % band holds (promised)": lambda row: f"{row['coverage_80']:.0%} ({row['promised_coverage_80']:.0%})",
            "luck": lambda row: f"{row['luck']:.3f}",
            "": lambda row: "worse" if row["worse"] else "",
        }
        parts.append(screen.listing("Of late beside the back-test", summary["series"], columns))
    if summary["changed"]:
        columns = {"series": "series", "feature": "feature", "x farthest before": "distance"}
        parts.append(screen.listing("Inputs as never before", summary["changed"][:10], columns))
    return Group(*parts)


def _minutes_table(summary: dict[str, Any]) -> RenderableType:
    """Show some steps of each series: the median, and in brackets the 95 % quantile."""
    length: int = summary["step_minutes"]
    rows: list[dict[str, Any]] = summary["rows"]
    keys = list(dict.fromkeys(_series(row) for row in rows))
    ahead = len(rows) // len(keys)
    shown = [minute for minute in SHOWN if minute // length <= ahead and minute % length == 0]
    texts = [f"{row['q0.5']:,.1f} ({row['q0.95']:,.1f})" for row in rows]
    cells: list[tuple[str, ...]] = [
        (key, *(texts[place * ahead + minute // length - 1] for minute in shown)) for place, key in enumerate(keys)
    ]
    unit = "GPUs" if summary["of"] == Measure.GPUS else "requests per second"
    columns = ("series", *(f"{minute} min" for minute in shown))
    trained = "trained just now" if summary["learned"] else "trained within a day"
    table = screen.table(f"{unit} after {summary['from']}: median (q0.95)", columns, cells)
    return Group(table, f"{trained}: MLflow run {summary['run_id']}")


def _totals_table(summary: dict[str, Any]) -> RenderableType:
    by, age = summary["by"], summary["age_hours"]
    title = "Totals in GPUs, UTC" + (f"; the last known hour ended {age:g} h before" if age else "")
    names = {"mean": "mean", "q0.1": "q0.1", "median": "q0.5", "q0.95": "q0.95"}
    rows = [
        (row["hour"][:16].replace("T", " "), row[by], *(round(row[name], 1) for name in names.values()))
        for row in summary["rows"]
    ]
    return screen.table(title, ("hour", by, *names), rows)


def _series(row: dict[str, Any]) -> str:
    return " / ".join(row[name] for name in SERIES)
