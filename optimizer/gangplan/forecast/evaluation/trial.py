"""One training without MLflow: fit, back-test, score, fit again on everything; the same data gives the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from gangplan.config import Settings
from gangplan.forecast import models
from gangplan.forecast.evaluation import backtest
from gangplan.forecast.evaluation.compare import Quality, mase, quality
from gangplan.forecast.models import Bundle
from gangplan.forecast.series import Panel, status_of_series
from gangplan.progress import Progress
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import SERIES

Checkpoint = Callable[[str, Callable[[], models.DemandModel]], models.DemandModel]
"""Returns the fit of that name: a checkpoint left by a training that was killed, or else one made and kept now."""

_LEAST_GPUS = 1.0  # demand below this many GPUs in the mean is no measure for a difference
_PARTS = 12.0  # of a training's progress: two fits of five parts each, the back-test, the logging


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a training yields: both fits, the back-test with its figures, and notes on single series."""

    panel: Panel
    bundle: Bundle
    window: backtest.Window
    table: pl.DataFrame
    naive: pl.DataFrame
    quality: Quality
    naive_quality: Quality
    notes: tuple[str, ...]


def run_trial(
    panel: Panel, settings: Settings, progress: Progress, checkpoint: Checkpoint = lambda _, make: make()
) -> Trial:
    """Back-test the recipe on the past, then fit it on everything."""
    seed, window = settings.seed, backtest.choose_window(panel, settings.horizon_hours, settings.backtest_origins)
    first, second = _reporter(progress, 0, "fit for the back-test"), _reporter(progress, 6, "fit on all data")
    before = panel.until(window.origins[0])
    tested = checkpoint("tested", lambda: models.fit(before, window.horizon, seed=seed, step=first))
    progress(5, _PARTS, f"back-test of {len(window.origins)} origins")
    table, naive = backtest.run_backtest(tested, panel, window), backtest.run_naive(panel, window)
    steering = checkpoint("steering", lambda: models.fit(panel, settings.horizon_hours, seed=seed, step=second))
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


def backtest_champion(trial: Trial, champion: Bundle) -> pl.DataFrame | None:
    """Back-test the champion on the origins that neither's tested fit has seen; none when there is none."""
    known_until = champion.tested.fitted_until
    origins = tuple(
        origin
        for origin in trial.window.origins
        if not known_until or trial.panel.until(origin).end >= datetime.fromisoformat(known_until)
    )
    if not origins:
        return None
    window = backtest.Window(origins=origins, horizon=trial.window.horizon)
    return backtest.run_backtest(champion.tested, trial.panel, window)


def difference(trial: Trial, champion: Bundle, horizon: int) -> float:
    """Return how far apart challenger and champion are in what they forecast now, as a share of the demand; 0: twins.

    It is the mean over all series, hours and quantiles. Both are asked about the same hours ahead, so it needs no past
    that neither has seen.
    """
    mine, theirs = (fit.quantiles(trial.panel, horizon)[0] for fit in (trial.bundle.steering, champion.steering))
    apart = float(np.abs(mine - theirs).mean())
    return apart / max(float(mine.mean()), _LEAST_GPUS)


def leak(trial: Trial) -> float:
    """Return how far (GPUs) the first origin's forecast moves when all that came after it changes: 0, or it leaks."""
    origin = trial.window.origins[0]
    values = trial.panel.values.copy()
    values[:, origin:] = 3 * np.nan_to_num(values[:, origin:]) + 100
    jobs = trial.panel.jobs
    other = None if jobs is None else replace(jobs, ended=np.where(jobs.ended > origin, np.inf, jobs.ended))
    changed = replace(trial.panel, values=values, jobs=other)
    moved, _ = trial.bundle.tested.quantiles(changed.until(origin), trial.window.horizon)
    kept = trial.table.filter(pl.col("origin") == trial.panel.until(origin).end).select(QUANTILE_COLUMNS)
    return float(np.abs(moved.reshape(-1, len(QUANTILE_COLUMNS)) - kept.to_numpy()).max())


def seen_hours(trial: Trial) -> float:
    """Return how many of the tested hours lie before the end of what the tested fit was fitted on."""
    until = trial.bundle.tested.fitted_until
    if not until:
        return 0.0
    first = trial.panel.until(trial.window.origins[0]).end
    return max(0.0, (datetime.fromisoformat(until) - first).total_seconds() / 3600)


def seconds(trial: Trial, horizon: int) -> float:
    """Return the processor time of one forecast of all series, in seconds."""
    begin = time.process_time()
    trial.bundle.steering.quantiles(trial.panel, horizon)
    return time.process_time() - begin


def metrics_of(trial: Trial) -> dict[str, float]:
    """Return all metrics by name: pooled, for the first day and three days, and by series."""
    step = backtest.steps_ahead(trial.table)
    metrics = {**_named(trial.quality, ""), **_named(trial.naive_quality, "naive_")}
    for hours in (24, 72):
        metrics[f"wql_{hours}"] = quality(trial.table.filter(step <= hours)).wql
        metrics[f"naive_wql_{hours}"] = quality(trial.naive.filter(step <= hours)).wql
    metrics["mase"] = mase(trial.table, backtest.scales(trial.panel, trial.window))
    for key, rows in trial.table.group_by(SERIES, maintain_order=True):
        metrics |= {f"{name}.{'.'.join(map(str, key))}": value for name, value in _named(quality(rows), "").items()}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def daily_wql(trial: Trial) -> list[tuple[str, int, float]]:
    """Return WQL of each day ahead, of all series and of each, as (metric, last hour of the day, WQL)."""
    ended = 24 * ((backtest.steps_ahead(trial.table) - 1) // 24 + 1).alias("ended")
    rows: list[tuple[str, int, float]] = []
    for (hour,), day in trial.table.group_by(ended):
        rows.append(("wql_by_day", int(str(hour)), quality(day).wql))
        for key, series in day.group_by(SERIES):
            rows.append((f"wql_by_day.{'.'.join(map(str, key))}", int(str(hour)), quality(series).wql))
    return sorted(row for row in rows if math.isfinite(row[2]))


def notes(panel: Panel, fitted: models.DemandModel) -> tuple[str, ...]:
    """Say which series are not learned and why, and when none is."""
    lines = [status.note for status in status_of_series(panel) if status.problem]
    none = "no trees were fitted: there is too little to learn from, all series are forecast by naive members"
    return tuple(lines if fitted.trees else [*lines, none])


def _named(quality: Quality, prefix: str) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in vars(quality).items() if name != "rows"}


def _reporter(progress: Progress, start: float, text: str) -> models.Step:
    """Return what reports the progress of a fit that begins at part `start`."""

    def step(done: int, total: int) -> None:
        progress(start + 5 * done / total, _PARTS, f"{text}, level {done} of {total}")

    return step
