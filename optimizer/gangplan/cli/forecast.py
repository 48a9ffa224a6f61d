"""The commands `gangplan forecast ...`: months ahead, when a pool is full, events and lifts, spikes now, drift."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan import summaries
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, console, emit, settings_here
from gangplan.clock import system_clock
from gangplan.config import read_fleet
from gangplan.errors import InputError
from gangplan.extras import needs_extras
from gangplan.types import SERIES, Usage

if TYPE_CHECKING:
    from gangplan.forecast import Alarm, CapacityDate, Health, Lift, Trend
    from gangplan.telemetry import Told

forecast_app = typer.Typer(
    help="Look ahead: growth by tenant, when a pool is full, events and their lifts, spikes, drift.",
    invoke_without_command=True,
)


@forecast_app.callback(epilog="Example:  gangplan forecast --when-full   |   gangplan forecast --plot growth.png")
def outlook(
    context: typer.Context,
    when_full: Annotated[bool, typer.Option("--when-full", help="The day on which each pool is full.")] = False,
    days: Annotated[int, typer.Option(min=1, max=365, help="How many days of growth to show.")] = 90,
    by: Annotated[str, typer.Option(help="tenant, accelerator or workload_class.")] = "tenant",
    plot: Annotated[Path | None, typer.Option(help="Draw the growth into this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how demand grows from day to day, with intervals; with --when-full, the day that each pool is full."""
    if context.invoked_subcommand is not None:
        return None
    usage = _usage()
    with needs_extras():
        from gangplan import forecast
        from gangplan.forecast import draw_growth
    settings, panel = settings_here(), forecast.from_usage(usage)
    if when_full:
        found = forecast.when_full(panel, _capacity(), seed=settings.seed)
        return emit(as_json, [_of_full(one) for one in found], _full_words)
    trends = forecast.forecast_growth(panel, by=by, days=days, announced=usage.announced, seed=settings.seed)
    if plot is not None:
        _write(plot, draw_growth(trends))
    said = {"days": days, "plot": None if plot is None else str(plot), "trends": [_of_trend(one) for one in trends]}
    return emit(as_json, said, _growth_words)


@forecast_app.command("tell", epilog="Example:  gangplan forecast tell releases.ics   |   ... tell holidays:DE")
def tell(
    source: Annotated[str, typer.Argument(help="CSV or Parquet file, .ics file, holidays:DE, mlflow+URI.")],
    as_json: AsJson = False,
) -> None:
    """Bring in what people know ahead: releases, campaigns, holidays, planned jobs, growth that is meant."""
    with needs_extras():
        from gangplan import telemetry
        from gangplan.tracking import open_store
    told = telemetry.tell(source, open_store(settings_here(), create=True), clock=system_clock)
    emit(as_json, _of_told(told), _told_words)


@forecast_app.command("events", epilog="Example:  gangplan forecast events")
def events(as_json: AsJson = False) -> None:
    """Show by what each kind of event multiplies demand, how sure that is, and which events lie ahead."""
    usage = _usage()
    with needs_extras():
        from gangplan import forecast
    lifts = forecast.measure_lifts(forecast.from_usage(usage), usage.announced)
    said = {"lifts": [_of_lift(one) for one in lifts], "ahead": _ahead(usage)}
    emit(as_json, said, _events_words)


@forecast_app.command("spikes", epilog="Example:  gangplan forecast spikes   |   gangplan forecast spikes --replan")
def spikes(
    replan: Annotated[bool, typer.Option("--replan", help="If any does, plan anew at once and publish it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say which series stand out in the newest hour, and correct the next six hours of the plan's forecast by it."""
    usage = _usage()
    with needs_extras():
        from gangplan import forecast, plan
        from gangplan.tracking import open_store
    _, foreseen = plan.read_plan(open_store(settings_here()))
    found = forecast.correct_next_hours(usage, foreseen)
    keys = {alarm.key for alarm in found.alarms}
    rows = [
        {**row, "hour": row["hour"].isoformat()}
        for row in found.forecast.quantiles.iter_rows(named=True)
        if (row["tenant"], row["workload_class"], row["accelerator"]) in keys
        and usage.end <= row["hour"] < usage.end + timedelta(hours=6)
    ]
    made = _plan_anew(as_json) if replan and found.alarms else None
    said = {"alarms": [_of_alarm(one) for one in found.alarms], "corrected": rows, "plan": made}
    emit(as_json, said, _spikes_words)


@forecast_app.command("drift", epilog="Example:  gangplan forecast drift --json | jq -r .verdict")
def drift(
    days: Annotated[int, typer.Option(min=3, max=90, help="At most how many days to look back.")] = 14,
    as_json: AsJson = False,
) -> None:
    """Hold the last days' champions against what was promised: fine, retrain, or inputs changed, and which."""
    with needs_extras():
        from gangplan import workflows
    with screen.progress(console, not as_json) as progress:
        progress(0, 1, "forecasting each day with the champion that there was")
        found, cause = workflows.drift(settings_here(), days=days)
    emit(as_json, {**of_health(found), "training_wanted_because": cause}, _drift_words)


def of_health(found: Health) -> dict[str, Any]:
    """Say a verdict with its reasons in plain values."""
    series = [
        {
            "series": " / ".join(one.key),
            "wql": round(one.wql, 2),
            "promised_wql": round(one.promised_wql, 2),
            "coverage_80": round(one.coverage_80, 3),
            "promised_coverage_80": round(one.promised_coverage_80, 3),
            "luck": round(one.luck, 4),
            "worse": one.worse,
        }
        for one in found.series
    ]
    changed = [
        {"series": " / ".join(one.key), "feature": one.feature, "distance": min(round(one.distance, 2), 1e6)}
        for one in found.changed
    ]
    head = {"verdict": found.verdict.value, "reason": found.reason, "days": found.days, "version": found.version}
    head["promised_by"] = found.promised_by
    return {**head, "series": series, "changed": changed}


def _plan_anew(as_json: bool) -> dict[str, Any]:
    """Plan from the corrected forecast and publish it."""
    with needs_extras():
        from gangplan import cycle
    with screen.progress(console, not as_json) as progress:
        return summaries.of_plan(cycle.make_plan(settings_here(), progress=progress))


def _write(path: Path, picture: bytes) -> None:
    """Write a picture where it was asked for."""
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise InputError("plot", path, f"cannot be written ({error.strerror}): name a file elsewhere") from None


def _usage() -> Usage:
    """Read the telemetry, with what people announced."""
    with needs_extras():
        from gangplan import telemetry
        from gangplan.tracking import open_store
    return telemetry.read_usage(open_store(settings_here()))


def _capacity() -> dict[str, float]:
    """The most GPUs of each accelerator that the fleet's pools may have together."""
    capacity: dict[str, float] = {}
    for pool in read_fleet(settings_here().fleet_file).pools:
        capacity[pool.accelerator] = capacity.get(pool.accelerator, 0.0) + pool.max_nodes * pool.gpus_per_node
    return capacity


def _of_trend(trend: Trend) -> dict[str, Any]:
    """A trend's present and its end in plain values."""
    low, middle, high = (round(share, 4) for share in trend.per_month)
    ends = trend.quantiles[-1]
    return {
        "name": trend.name,
        "gpus_now": round(float(trend.past[-7:].mean()), 1),
        "per_month": {"low": low, "middle": middle, "high": high},
        "until": (trend.today + timedelta(days=trend.paths.shape[1])).isoformat(),
        "gpus_then": {"low": round(ends[0], 1), "middle": round(ends[1], 1), "high": round(ends[2], 1)},
        "gpus_meant": None if trend.target is None else round(float(trend.target[-1]), 1),
    }


def _growth_words(said: dict[str, Any]) -> RenderableType:
    """Show the growth of each group."""
    rows = [
        (
            one["name"],
            f"{one['gpus_now']:,.0f}",
            f"{one['per_month']['middle']:+.1%} ({one['per_month']['low']:+.1%} to {one['per_month']['high']:+.1%})",
            f"{one['gpus_then']['middle']:,.0f} ({one['gpus_then']['low']:,.0f} to {one['gpus_then']['high']:,.0f})",
            "-" if one["gpus_meant"] is None else f"{one['gpus_meant']:,.0f}",
        )
        for one in said["trends"]
    ]
    columns = ("", "GPUs now", "growth a month", f"GPUs in {said['days']} days", "as meant")
    made = screen.table("Growth, mean GPUs of a day; in brackets 8 of 10 cases", columns, rows)
    return Group(made, f"wrote {escape(said['plot'])}") if said["plot"] else made


def _of_full(full: CapacityDate) -> dict[str, Any]:
    """A pool's day in plain values."""
    dates = {"early": _day(full.early), "middle": _day(full.middle), "late": _day(full.late)}
    now = {"accelerator": full.name, "capacity": full.capacity, "busiest_now": round(full.busiest_now, 1)}
    return {**now, **dates}


def _full_words(said: list[dict[str, Any]]) -> RenderableType:
    """Show when each pool is full."""
    later = "not within a year"
    rows = [
        (
            one["accelerator"],
            f"{one['capacity']:,.0f}",
            f"{one['busiest_now']:,.0f}",
            one["middle"] or later,
            f"{one['early']} to {one['late'] or later}" if one["early"] else later,
        )
        for one in said
    ]
    columns = ("accelerator", "GPUs at most", "busiest hour now", "full on", "8 of 10 cases")
    return screen.table("When the usual busiest hour reaches all nodes of the fleet file", columns, rows)


def _of_told(told: Told) -> dict[str, Any]:
    """What a source said in plain values."""
    kinds = dict(sorted(told.rows["kind"].value_counts().iter_rows()))
    rejected = [str(row) for row in told.rejected]
    kept_out = {"rejected_count": told.rejected_count, "rejected": rejected}
    return {"run_id": told.run_id, "source": told.source, "rows": told.rows.height, "kinds": kinds, **kept_out}


def _told_words(said: dict[str, Any]) -> RenderableType:
    """Show what a source said."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in said["kinds"].items())
    kept_out = ("kept out", said["rejected_count"])
    pairs = [("source", said["source"]), ("kinds", kinds), kept_out, ("run", said["run_id"])]
    return Group(
        screen.fields(f"{said['rows']} announcements", pairs),
        *(f"[yellow]kept out:[/] {escape(row)}" for row in said["rejected"]),
    )


def _of_lift(lift: Lift) -> dict[str, Any]:
    """A lift in plain values."""
    low, high = lift.band
    factors = {"factor": round(lift.factor, 3), "low": round(low, 3), "high": round(high, 3)}
    names = {"kind": lift.kind, "workload_class": lift.workload_class}
    return {**names, **factors, "occurrences": lift.occurrences, "source": lift.source}


def _ahead(usage: Usage) -> list[dict[str, Any]]:
    """The next events and what else was announced."""
    both = usage.events
    if usage.announced is not None:
        both = usage.announced.join(both, on=both.columns, how="full", coalesce=True, nulls_equal=True)
    later = both.filter(both["end"] > usage.end).sort("start").head(20)
    rows = later.iter_rows(named=True)
    return [{**row, "start": row["start"].isoformat(), "end": row["end"].isoformat()} for row in rows]


def _events_words(said: dict[str, Any]) -> RenderableType:
    """Show the lifts and what lies ahead."""
    return Group(*_lifts_words(said))


def _lifts_words(said: dict[str, Any]) -> Iterator[RenderableType]:
    """Show both tables."""
    lifts = [
        (
            one["kind"],
            one["workload_class"],
            f"x {one['factor']:.2f}",
            f"{one['low']:.2f} to {one['high']:.2f}",
            one["occurrences"],
            one["source"],
        )
        for one in said["lifts"]
    ]
    yield screen.table("Lifts", ("kind", "class", "lift", "8 of 10 cases", "seen", "from"), lifts)
    ahead = [
        (
            one["kind"],
            f"{one['start'][:16]} to {one['end'][:16]}".replace("T", " "),
            one["tenant"] or "all",
            _amount(one),
        )
        for one in said["ahead"]
    ]
    yield screen.table("Ahead, UTC", ("kind", "when", "tenant", ""), ahead) if ahead else "nothing ahead"


def _amount(one: dict[str, Any]) -> str:
    """How many GPUs a planned job asks for, or what growth is meant."""
    if one.get("gpus"):
        return f"{one['gpus']:g} GPUs"
    return f"{one['growth']:+.0%}" if one.get("growth") else ""


def _of_alarm(alarm: Alarm) -> dict[str, Any]:
    """An alarm in plain values."""
    sizes = {"gpus": round(alarm.gpus, 1), "expected": round(alarm.expected, 1), "score": round(alarm.score, 2)}
    return {"series": " / ".join(alarm.key), "hour": alarm.hour.isoformat(), **sizes}


def _spikes_words(said: dict[str, Any]) -> RenderableType:
    """Show the alarms and the hours that they correct."""
    if not said["alarms"]:
        return "no series stands out in the newest hour: the forecast stays as it is"
    alarms = [(one["series"], one["hour"], one["gpus"], one["expected"], one["score"]) for one in said["alarms"]]
    columns = ("series", "hour", "GPUs", "expected", "x threshold")
    hours = [
        (" / ".join(row[name] for name in SERIES), row["hour"], round(row["q0.5"], 1), round(row["q0.95"], 1))
        for row in said["corrected"]
    ]
    corrected = screen.table("The next hours, corrected", ("series", "hour", "median", "q0.95"), hours)
    told = screen.plan(said["plan"]) if said["plan"] else "`gangplan plan` takes this into account"
    return Group(screen.table("Stands out", columns, alarms), corrected, told)


def _drift_words(said: dict[str, Any]) -> RenderableType:
    """Show the verdict, the series and what changed."""
    style = {"fine": "green", "retrain": "yellow", "inputs changed": "yellow"}.get(said["verdict"], "dim")
    who = f"version {said['version']}, promised by {said['promised_by']}"
    head = f"[{style}]{said['verdict']}[/], {who}, {said['days']} days: {escape(said['reason'])}"
    series = [
        (
            one["series"],
            one["wql"],
            one["promised_wql"],
            f"{one['coverage_80']:.0%} ({one['promised_coverage_80']:.0%})",
            f"{one['luck']:.3f}",
            "worse" if one["worse"] else "",
        )
        for one in said["series"]
    ]
    parts: list[RenderableType] = [head]
    if series:
        columns = ("series", "WQL", "promised", "80 % band holds (promised)", "luck", "")
        parts.append(screen.table("Of late beside the back-test", columns, series))
    if said["changed"]:
        changed = [(one["series"], one["feature"], one["distance"]) for one in said["changed"][:10]]
        parts.append(screen.table("Inputs as never before", ("series", "feature", "x farthest before"), changed))
    return Group(*parts)


def _day(day: date | None) -> str | None:
    """A day as text."""
    return None if day is None else day.isoformat()
