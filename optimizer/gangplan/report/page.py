"""The report as one HTML file: drawings and tables, with nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from gangplan.config import write_atomic
from gangplan.pages import DARK, LIGHT, OPACITY, templates
from gangplan.report import (
    alternatives as rules,
    capacity,
    carried as carrying,
    demand,
    headline,
    reservations as gantt,
    tables,
)
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
    carried: pl.DataFrame | None = None,
) -> Path:
    """Write the report's page whole or not at all, and return its path.

    The page is one file without scripts and without anything to fetch. It does not have the time at which it was made,
    so the same values make the same page. All text from telemetry is escaped. `score` is None before the first
    feedback; `beliefs` are what it changed; `alternatives` are simpler rules, compared with the plan; `carried` are the
    hours in which plans were carried out (tables.CARRIED).
    """
    template = templates(Path(__file__).parent).get_template("page.html.j2")
    text = template.render(
        light=LIGHT,
        dark=DARK,
        opacity=OPACITY,
        usage=usage,
        training=training,
        forecast=forecast,
        plan=plan,
        history=reservations,
        score=score,
        beliefs=beliefs,
        alternatives=alternatives,
        carried=carried,
        carrying=carrying,
        tiles=headline.tiles(usage=usage, training=training, forecast=forecast, plan=plan, reservations=reservations),
        demand=demand,
        capacity=capacity,
        rules=rules,
        gantt=gantt,
        tables=tables,
    )
    write_atomic(path, text)
    return path
