"""One retraining without MLflow: fit, back-test, score, fit again on everything. Pure: same data, same result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from gangplan.config import Settings
from gangplan.forecast import backtest, model
from gangplan.forecast.bundle import Bundle
from gangplan.forecast.metrics import Quality, mase, quality
from gangplan.forecast.panel import Panel
from gangplan.progress import Progress
from gangplan.types import SERIES

_PARTS = 12.0  # two fits of five levels each, the back-test, the logging


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a retraining found: both fits, the back-test with its figures, and words about single series."""

    panel: Panel
    bundle: Bundle
    window: backtest.Window
    table: pl.DataFrame
    naive: pl.DataFrame
    quality: Quality
    naive_quality: Quality
    notes: tuple[str, ...]


def run(panel: Panel, settings: Settings, progress: Progress) -> Trial:
    """Back-test the recipe on the past, then fit it on everything."""
    window = backtest.choose_window(panel, settings.horizon_hours, settings.backtest_origins)
    before = panel.until(window.origins[0])
    tested = model.fit(before, window.horizon, seed=settings.seed, step=_said(progress, 0, "fit for the back-test"))
    progress(5, _PARTS, f"back-test of {len(window.origins)} origins")
    table, naive = backtest.run(tested, panel, window), backtest.run_naive(panel, window)
    steering = model.fit(panel, settings.horizon_hours, seed=settings.seed, step=_said(progress, 6, "fit on all data"))
    return Trial(
        panel=panel,
        bundle=Bundle(steering=steering, tested=tested),
        window=window,
        table=table,
        naive=naive,
        quality=quality(table),
        naive_quality=quality(naive),
        notes=(*panel.notes, *notes(panel, steering)),
    )


def against(trial: Trial, champion: Bundle) -> tuple[float, float] | None:
    """WQL of challenger and champion on the origins that neither's tested fit has seen; none when there is none."""
    known_until = champion.tested.fitted_until
    origins = tuple(
        origin
        for origin in trial.window.origins
        if not known_until or trial.panel.until(origin).end >= datetime.fromisoformat(known_until)
    )
    if not origins:
        return None
    window = backtest.Window(origins=origins, horizon=trial.window.horizon)
    theirs = backtest.run(champion.tested, trial.panel, window)
    ours = trial.table.filter(pl.col("origin").is_in(theirs["origin"].unique().to_list()))
    return quality(ours).wql, quality(theirs).wql


def figures(trial: Trial) -> dict[str, float]:
    """All metrics by name: pooled, for the first day and three days, and by series."""
    step = backtest.steps(trial.table)
    found = {**_named(trial.quality, ""), **_named(trial.naive_quality, "naive_")}
    for hours in (24, 72):
        found |= {f"wql_{hours}": quality(trial.table.filter(step <= hours)).wql}
        found |= {f"naive_wql_{hours}": quality(trial.naive.filter(step <= hours)).wql}
    found["mase"] = mase(trial.table, backtest.scales(trial.panel, trial.window))
    for key, rows in trial.table.group_by(SERIES, maintain_order=True):
        found |= {f"{name}.{'.'.join(map(str, key))}": value for name, value in _named(quality(rows), "").items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def by_day(trial: Trial) -> list[tuple[int, float]]:
    """WQL of each day ahead, as (last hour of the day, WQL)."""
    day = ((backtest.steps(trial.table) - 1) // 24).alias("day")
    days = sorted(trial.table.with_columns(day)["day"].unique())
    return [(24 * (int(one) + 1), quality(trial.table.filter(day == one)).wql) for one in days]


def notes(panel: Panel, fitted: model.DemandModel) -> tuple[str, ...]:
    """Say which series are not learned and why, and when none is."""
    said = [one.note for one in model.standings(panel) if not one.learnable]
    if not fitted.trees:
        said.append("no trees were fitted: there is too little to learn from, all series are forecast by naive members")
    return tuple(said)


def _named(found: Quality, prefix: str) -> dict[str, float]:
    """A quality's figures under their metric names."""
    return {
        f"{prefix}wql": found.wql,
        f"{prefix}coverage_80": found.coverage_80,
        f"{prefix}below_95": found.below_95,
    }


def _said(progress: Progress, start: float, text: str) -> model.Step:
    """Tell the progress of a fit that begins at part `start`."""

    def step(done: int, total: int) -> None:
        progress(start + 5 * done / total, _PARTS, f"{text}, level {done} of {total}")

    return step
