"""Put the page together: drawings and tables into one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from gangplan.config import write_atomic
from gangplan.pages import DARK, LIGHT, templates
from gangplan.report import alternatives as ways, capacity, demand, headline, reservations, tables
from gangplan.types import Beliefs, Forecast, Plan, Reservation, Score, Training, Usage


def build(
    path: Path,
    *,
    usage: Usage,
    training: Training,
    forecast: Forecast,
    plan: Plan,
    reservations: Sequence[Reservation],
    score: Score | None,
    beliefs: Beliefs | None = None,
    alternatives: pl.DataFrame | None = None,
) -> Path:
    """Write the report's page whole or not at all, and return its path.

    The page is one file without scripts and without anything to fetch. It says nothing of the time it was made, so that
    the same values make the same page. All text that comes from telemetry is escaped. `score` is None before the first
    feedback; `beliefs` are what it changed; `alternatives` are the rules that people use instead, run beside the plan.
    """
    template = templates(Path(__file__).parent).get_template("page.html.j2")
    text = template.render(
        light=LIGHT,
        dark=DARK,
        usage=usage,
        training=training,
        forecast=forecast,
        plan=plan,
        tiles=headline.tiles(usage=usage, training=training, forecast=forecast, plan=plan, reservations=reservations),
        **_demand(usage, forecast),
        **_plan(plan, forecast),
        **_alternatives(alternatives),
        **_reservations(reservations),
        backtest=tables.backtest(training.backtest),
        score=score,
        learned=None if score is None else tables.learned(score, beliefs),
    )
    write_atomic(path, text)
    return path


def _demand(usage: Usage, forecast: Forecast) -> dict[str, Any]:
    """The demand's drawings."""
    total = demand.total_demand(usage)
    return {
        "demand_total": _drawing(demand.draw_total(usage, forecast)),
        "demand_each": [(name, _drawing(svg)) for name, svg in demand.draw_each(usage, forecast)],
        "missing_hours": total["gpus"].null_count(),
    }


def _plan(plan: Plan, forecast: Forecast) -> dict[str, Any]:
    """The plan's drawings, legend and tables."""
    return {
        "plan_total": _drawing(capacity.draw_all(plan, forecast)),
        "plan_each": [(name, _drawing(svg)) for name, svg in capacity.draw_by_accelerator(plan, forecast)],
        "layers": capacity.layers(plan),
        "opacity": capacity.OPACITY,
        "pools": tables.pools(plan),
        "shortages": tables.shortages(plan),
        "limits": tables.limits(plan),
    }


def _alternatives(found: pl.DataFrame | None) -> dict[str, Any]:
    """The alternatives' drawing and table."""
    return {
        "alternatives": None if found is None else ways.table(found),
        "alternatives_drawn": None if found is None else _drawing(ways.draw(found)),
    }


def _reservations(lived: Sequence[Reservation]) -> dict[str, Any]:
    """The reservations' drawing and table."""
    shown = reservations.newest_together(lived)
    return {
        "gantt": _drawing(reservations.draw(shown)) if shown else None,
        "gantt_shown": len(shown),
        "reservation_count": len(lived),
        "reservations": tables.reservations(lived),
    }


def _drawing(svg: str) -> Markup:
    """Let a drawing into the page as it is: matplotlib escaped its text, `drawing.inline` its title."""
    return Markup(svg)  # noqa: S704
