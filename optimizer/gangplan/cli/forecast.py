"""The commands `gangplan forecast` and `forecast tell`, `events`: growth over days, when a pool is full, events."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan import forecast, summaries, telemetry
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_store_here, settings_here
from gangplan.config import read_fleet
from gangplan.errors import InputError
from gangplan.types import Usage

if TYPE_CHECKING:
    from gangplan.forecast import Lift, Trend
    from gangplan.telemetry import Announcements

_CASES = ("low", "middle", "high")  # 10, 50 and 90 %

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
    usage = telemetry.read_usage(open_store_here(), settings_here().clock())
    settings, panel = settings_here(), forecast.from_usage(usage)
    if when_full:
        capacity = read_fleet(settings.fleet_file).most_gpus()
        full = forecast.when_full(panel, capacity, seed=settings.seed)
        dates = ("capacity", "busiest_now", "early", "middle", "late")
        rows = [{"accelerator": pool.name, **summaries.fields_of(pool, *dates, digits=1)} for pool in full]
        return emit(as_json, rows, _full_table)
    trends = forecast.forecast_growth(panel, by=by, days=days, announced=usage.announced, seed=settings.seed)
    if plot is not None:
        _write(plot, forecast.draw_growth(trends))
    written = None if plot is None else str(plot)
    summary = {"days": days, "plot": written, "trends": [_of_trend(trend) for trend in trends]}
    return emit(as_json, summary, _growth_table)


@forecast_app.command("tell", epilog="Example:  gangplan forecast tell releases.ics   |   ... tell holidays:DE")
def tell(
    source: Annotated[str, typer.Argument(help="CSV or Parquet file, .ics file, holidays:DE, mlflow+URI.")],
    zone: Annotated[str | None, typer.Option(help="Zone of times and days without one, like Europe/Berlin.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring in what people know ahead: releases, campaigns, holidays, planned jobs, growth that is meant."""
    settings = settings_here(zone=zone)
    announced = telemetry.announce(source, open_store_here(create=True), clock=settings.clock, zone=settings.zone)
    emit(as_json, _of_announcements(announced), _announcements_table)


@forecast_app.command("events", epilog="Example:  gangplan forecast events")
def events(as_json: AsJson = False) -> None:
    """Show by what each kind of event multiplies demand, how sure that is, and which events lie ahead."""
    usage = telemetry.read_usage(open_store_here(), settings_here().clock())
    lifts = forecast.measure_lifts(forecast.from_usage(usage), usage.announced)
    emit(as_json, {"lifts": [_of_lift(lift) for lift in lifts], "ahead": _ahead(usage)}, _events_tables)


def _write(path: Path, picture: bytes) -> None:
    try:
        path.write_bytes(picture)
    except OSError as error:
        raise InputError("plot", path, f"cannot be written ({error.strerror}): name a file elsewhere") from None


def _of_trend(trend: Trend) -> dict[str, Any]:
    """Summarise a trend: GPUs now and at its end, growth per month as a share."""
    shares, ends = trend.per_month, trend.quantiles[-1].tolist()
    return {
        "name": trend.name,
        "gpus_now": round(float(trend.past[-7:].mean()), 1),
        "per_month": {name: round(share, 4) for name, share in zip(_CASES, shares, strict=True)},
        "until": (trend.today + timedelta(days=trend.paths.shape[1])).isoformat(),
        "gpus_then": {name: round(gpus, 1) for name, gpus in zip(_CASES, ends, strict=False)},
        "gpus_meant": None if trend.target is None else round(float(trend.target[-1]), 1),
    }


def _growth_table(summary: dict[str, Any]) -> RenderableType:
    rows = [
        (
            trend["name"],
            f"{trend['gpus_now']:,.0f}",
            _with_range(trend["per_month"], "+.1%"),
            _with_range(trend["gpus_then"], ",.0f"),
            "-" if trend["gpus_meant"] is None else f"{trend['gpus_meant']:,.0f}",
        )
        for trend in summary["trends"]
    ]
    columns = ("", "GPUs now", "growth a month", f"GPUs in {summary['days']} days", "as meant")
    table = screen.table("Growth, mean GPUs of a day; in brackets 8 of 10 cases", columns, rows)
    return Group(table, f"wrote {escape(summary['plot'])}") if summary["plot"] else table


def _with_range(cases: dict[str, float], form: str) -> str:
    """Return the middle of three numbers, with the range in brackets."""
    return f"{cases['middle']:{form}} ({cases['low']:{form}} to {cases['high']:{form}})"


def _full_table(summary: list[dict[str, Any]]) -> RenderableType:
    later = "not within a year"
    return screen.listing(
        "When the usual busiest hour reaches all nodes of the fleet file",
        summary,
        {
            "accelerator": "accelerator",
            "GPUs at most": lambda row: f"{row['capacity']:,.0f}",
            "busiest hour now": lambda row: f"{row['busiest_now']:,.0f}",
            "full on": lambda row: row["middle"] or later,
            "8 of 10 cases": lambda row: f"{row['early']} to {row['late'] or later}" if row["early"] else later,
        },
    )


def _of_announcements(announced: Announcements) -> dict[str, Any]:
    return {
        **summaries.fields_of(announced, "run_id", "source", "rejected_count"),
        "rows": announced.rows.height,
        "kinds": dict(sorted(announced.rows["kind"].value_counts().iter_rows())),
        "tentative": announced.rows.filter(announced.rows["status"] == "tentative").height,
        "notes": list(announced.notes),
        "rejected": [str(row) for row in announced.rejected],
    }


def _announcements_table(summary: dict[str, Any]) -> RenderableType:
    kinds = ", ".join(f"{kind} {count}" for kind, count in summary["kinds"].items())
    counts = [("kinds", kinds), ("kept out", summary["rejected_count"])]
    pairs = [("source", summary["source"]), *counts, ("run", summary["run_id"])]
    return Group(screen.fields(f"{summary['rows']} announcements", pairs), *screen.remarks(summary))


def _of_lift(lift: Lift) -> dict[str, Any]:
    """Summarise by which factor a kind of event changes a class's demand."""
    low, high = lift.band
    return {
        **summaries.fields_of(lift, "kind", "workload_class", "factor", digits=3),
        "low": round(low, 3),
        "high": round(high, 3),
        **summaries.fields_of(lift, "occurrences", "source"),
    }


def _ahead(usage: Usage) -> list[dict[str, Any]]:
    """Return the next 20 events and announcements."""
    both = usage.events
    if usage.announced is not None:
        both = usage.announced.join(both, on=both.columns, how="full", coalesce=True, nulls_equal=True)
    later = both.filter(both["end"] > usage.end).sort("start").head(20)
    return [{name: summaries.plain(value) for name, value in row.items()} for row in later.iter_rows(named=True)]


def _events_tables(summary: dict[str, Any]) -> RenderableType:
    lifts = screen.listing(
        "Lifts",
        summary["lifts"],
        {
            "kind": "kind",
            "class": "workload_class",
            "lift": lambda row: f"x {row['factor']:.2f}",
            "8 of 10 cases": lambda row: f"{row['low']:.2f} to {row['high']:.2f}",
            "seen": "occurrences",
            "from": "source",
        },
    )
    ahead = screen.listing(
        "Ahead, UTC",
        summary["ahead"],
        {
            "kind": lambda row: f"{row['kind']} (tentative)" if row.get("status") == "tentative" else row["kind"],
            "when": lambda row: f"{row['start'][:16]} to {row['end'][:16]}".replace("T", " "),
            "tenant": lambda row: row["tenant"] or "all",
            "": _amount,
        },
    )
    return Group(lifts, ahead if summary["ahead"] else "nothing ahead")


def _amount(row: dict[str, Any]) -> str:
    """Return how many GPUs a planned job asks for, or the growth of a target."""
    if row.get("gpus"):
        return f"{row['gpus']:g} GPUs"
    return f"{row['growth']:+.0%}" if row.get("growth") else ""
