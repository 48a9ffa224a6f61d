"""The report as one HTML file: drawings and tables, with nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from gangplan.config import write_atomic
from gangplan.pages import DARK, LIGHT, OPACITY, templates
from gangplan.report import alternatives as rules, capacity, demand, headline, reservations, tables
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

    The page is one file without scripts and without anything to fetch. It does not have the time at which it was made,
    so the same values make the same page. All text from telemetry is escaped. `score` is None before the first
    feedback; `beliefs` are what it changed; `alternatives` are simpler rules, compared with the plan.
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
        alternatives=None if alternatives is None else rules.table(alternatives),
        alternatives_drawn=None if alternatives is None else _drawing(rules.draw(alternatives)),
        **_reservations(reservations),
        backtest=tables.backtest(training.backtest),
        score=score,
        learned=None if score is None else tables.learned(score, beliefs),
    )
    write_atomic(path, text)
    return path


def _demand(usage: Usage, forecast: Forecast) -> dict[str, Any]:
    """Return the drawings of demand."""
    total = demand.total_demand(usage)
    return {
        "demand_total": _drawing(demand.draw_total(usage, forecast)),
        "demand_each": [(name, _drawing(svg)) for name, svg in demand.draw_each(usage, forecast)],
        "missing_hours": total["gpus"].null_count(),
    }


def _plan(plan: Plan, forecast: Forecast) -> dict[str, Any]:
    """Return the drawings, legend and tables of the plan."""
    return {
        "plan_total": _drawing(capacity.draw_all(plan, forecast)),
        "plan_each": [(name, _drawing(svg)) for name, svg in capacity.draw_by_accelerator(plan, forecast)],
        "layers": capacity.layers(plan),
        "opacity": OPACITY,
        "pools": tables.pools(plan),
        "shortages": tables.shortages(plan),
        "limits": tables.limits(plan),
    }


def _reservations(history: Sequence[Reservation]) -> dict[str, Any]:
    """Return the drawing and table of reservations."""
    shown = reservations.newest_together(history)
    return {
        "gantt": _drawing(reservations.draw(shown)) if shown else None,
        "gantt_shown": len(shown),
        "reservation_count": len(history),
        "reservations": tables.reservations(history),
    }


def _drawing(svg: str) -> Markup:
    """Put a drawing into the page as it is: matplotlib escaped its text, `drawing.inline` its title."""
    return Markup(svg)  # noqa: S704
