"""The forecast of demand that drifts: the last value less the GPUs of jobs that will have ended.

How many of the GPUs held now are still held later follows from a hazard by age, corrected by size, tenant and class.

A piecewise-constant hazard fitted as a Poisson regression of deaths on hours at risk: Friedman, Piecewise exponential
models for survival data with covariates, Annals of Statistics 10 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gangplan.forecast.models.naive import between_knots, knots_of, late_mean
from gangplan.forecast.models.trees import Trees, grower
from gangplan.forecast.series import MEDIAN, Floats, Ints, Jobs, Key, Panel, tidy
from gangplan.types import QUANTILES

ROUNDS = 80
LEAST_ENDS = 20
HAZARD: dict[str, object] = {
    "objective": "poisson",
    "num_leaves": 8,
    "learning_rate": 0.1,
    "lambda_l2": 5.0,
    "min_data_in_leaf": 1,
    "min_data_in_bin": 1,
    "min_sum_hessian_in_leaf": 10.0,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbosity": -1,
    "seed": 1,
}
_FLOOR = 1e-7  # deaths per hour where none was ever seen
_AGES = np.concatenate([[0.0], 0.05 * 2.0 ** np.arange(16), [1e9]])
_GRID = np.concatenate([[0.0], np.geomspace(0.05, 1000.0, 60)])
WINDOW = 336  # hours whose errors set the spread
SLOPE_HOURS = 1344
_PRIOR = 4.0  # windows
_NOTHING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """Jobs that end per hour of life: a rate for each age class, and trees that correct it by what the job is.

    names : tenants, classes and accelerators as the trees number them.
    """

    rates: Floats
    trees: Trees | None
    names: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]

    def of(self, gpus: Floats, kinds: list[Key]) -> Floats:
        """Return the ends per hour of each cell in each age class (cells x ages)."""
        if self.trees is None:
            return np.tile(self.rates, (gpus.size, 1))
        cells, ages = np.divmod(np.arange(gpus.size * self.rates.size), self.rates.size)
        columns = np.column_stack([self.columns(gpus, kinds)[cells], ages])
        return self.rates * self.trees.predict(columns).reshape(gpus.size, self.rates.size)

    def columns(self, gpus: Floats, kinds: list[Key]) -> Floats:
        """Return what the trees see but the age, by cell; a name that they never saw is missing."""
        places = [{name: place for place, name in enumerate(known)} for known in self.names]
        numbers = [[float(where.get(part, np.nan)) for where, part in zip(places, kind, strict=True)] for kind in kinds]
        return np.column_stack([gpus, np.array(numbers).reshape(-1, len(self.names))])


def fit_hazard(jobs: Jobs, now: float) -> Hazard:
    """Learn from all jobs known at `now`, the panel's last hour; what lies before its start is not at risk."""
    gpus, kinds, cell = _cells(jobs)
    risk, ends = _at_risk(jobs, now, cell, gpus.size)
    seen = risk.sum(axis=0)
    rates = np.where(seen > 0, np.maximum(ends.sum(axis=0) / np.maximum(seen, 1e-6), _FLOOR), _FLOOR)
    tenants, classes, accelerators = (tuple(sorted({kind[part] for kind in kinds})) for part in range(3))
    plain = Hazard(rates=rates, trees=None, names=(tenants, classes, accelerators))
    expected = risk * rates
    row, age = np.nonzero(expected > 1e-6)
    if ends.sum() < LEAST_ENDS:
        return plain
    columns = np.column_stack([plain.columns(gpus, kinds)[row], age])
    factor = ends[row, age] / expected[row, age]
    names = ["gpus", "tenant", "workload_class", "accelerator", "age"]
    trees = grower(columns, factor, HAZARD, names=names, weight=expected[row, age])({}, ROUNDS)
    return Hazard(rates=rates, trees=trees, names=plain.names)


def survivors(jobs: Jobs, hazard: Hazard, shape: tuple[int, int], first: int, ahead: Ints) -> Floats:
    """Return the GPUs held at the end of each hour, from `first` on, that are still held `ahead` hours later.

    `shape` is that of the panel that the jobs count to; the result is series x (hours - first) x ahead, expected GPUs.
    """
    # SciPy has no types; without job records it need not be imported.
    from scipy.sparse import csr_array  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    gpus, kinds, cell = _cells(jobs)
    chance = _chances(hazard.of(gpus, kinds), ahead).reshape(-1, ahead.size)
    low = np.maximum(np.floor(jobs.submitted).astype(np.int64) + 1, first + 1)
    high = np.minimum(np.ceil(np.minimum(jobs.ended, shape[1] + 1.0)).astype(np.int64), shape[1] + 1)
    lives = np.maximum(high - low, 0)  # ends of hours at which it was held
    job = np.repeat(np.arange(lives.size), lives)
    edge = np.arange(job.size) - np.repeat(np.cumsum(lives) - lives, lives) + low[job]
    age = np.searchsorted(_GRID, edge - jobs.submitted[job], "right") - 1
    width = shape[1] - first
    rows = jobs.series[job] * width + edge - 1 - first
    held: Any = csr_array(
        (jobs.gpus[job], (rows, cell[job] * _GRID.size + age)), shape=(shape[0] * width, gpus.size * _GRID.size)
    )
    return np.asarray(held @ chance, dtype=np.float64).reshape(shape[0], width, ahead.size)


def _cells(jobs: Jobs) -> tuple[Floats, list[Key], Ints]:
    """Group jobs of one size and kind: sizes and kinds of the cells, and the cell of each job."""
    pairs = np.column_stack([jobs.gpus, jobs.kind.astype(np.float64)])
    cells, cell = np.unique(pairs, axis=0, return_inverse=True)
    return cells[:, 0], [jobs.kinds[int(place)] for place in cells[:, 1]], cell.ravel()


def _at_risk(jobs: Jobs, now: float, cell: Ints, cells: int) -> tuple[Floats, Floats]:
    """Return hours at risk within the panel, and ends, by cell and age class."""
    entry = np.maximum(-jobs.submitted, 0.0)[:, None]
    leave = (np.minimum(jobs.ended, now) - jobs.submitted)[:, None]
    spent = np.clip(np.minimum(leave, _AGES[1:]) - np.maximum(entry, _AGES[:-1]), 0.0, None)
    ended = (jobs.ended <= now)[:, None] & (leave > entry) & (leave >= _AGES[:-1]) & (leave < _AGES[1:])
    risk, ends = np.zeros((2, cells, _AGES.size - 1))
    np.add.at(risk, cell, spent)
    np.add.at(ends, cell, ended.astype(np.float64))
    return risk, ends


def _chances(rates: Floats, ahead: Ints) -> Floats:
    """Return the chance to live on to the middle of each hour ahead (cells x ages of the grid x ahead)."""
    later = _cumulative(rates, (_GRID[:, None] + ahead - 0.5).ravel())
    now = _cumulative(rates, _GRID)
    return np.exp(now[:, :, None] - later.reshape(len(rates), _GRID.size, ahead.size))


def _cumulative(rates: Floats, ages: NDArray[np.floating[Any]]) -> Floats:
    """Return the hazard summed up to each age (cells x ages)."""
    until = np.cumsum(rates * np.diff(_AGES), axis=1)
    until = np.concatenate([np.zeros((len(rates), 1)), until], axis=1)
    place = np.clip(np.searchsorted(_AGES, ages, "right") - 1, 0, rates.shape[1] - 1)
    return until[:, place] + rates[:, place] * (ages - _AGES[place])


def forecast_held(
    panel: Panel, last: Floats, series: Ints, hazard: Hazard | None, horizon: int
) -> tuple[Floats, Floats]:
    """Forecast last value + c x (survivors - last value), with the quantiles of its own past errors.

    c, from 0 to 1 for each series and horizon, is the regression of past changes on past expected losses. It is shrunk
    towards the c of the next shorter horizon, as if four more independent windows had shown that one; for the first
    horizon towards 0, which is the last value. Without job records it is 0 throughout. Also returns the mean absolute
    error of late (series x horizon, GPUs), NaN where no error is known.
    """
    knots = knots_of(horizon)
    first = max(0, panel.hours - SLOPE_HOURS)
    values, known = panel.values[series, first:], last[series, first:]
    losing = _expected_losses(panel, known, series, hazard, first, knots)
    changes, losses = np.zeros((series.size, knots.size, len(QUANTILES))), np.empty((series.size, knots.size, 1))
    slope, spread = np.zeros((series.size, 1)), changes[:, 0]
    for place, ahead in enumerate(knots):
        moved = values[:, ahead:] - known[:, :-ahead]
        lost = losing[:, : moved.shape[1], place]
        slope = _slope(lost, moved, int(ahead), slope)
        errors = (moved - slope * lost)[:, -WINDOW:]
        spread = _spread(errors, int(ahead), spread)
        changes[:, place] = slope * losing[:, -1:, place] + spread
        losses[:, place, 0] = late_mean(np.abs(errors - spread[:, [MEDIAN]]))
    quantiles = tidy(known[:, -1, None, None] + between_knots(horizon, changes))
    return quantiles, between_knots(horizon, losses)[:, :, 0]


def _expected_losses(
    panel: Panel, known: Floats, series: Ints, hazard: Hazard | None, first: int, ahead: Ints
) -> Floats:
    """Return the change by GPUs given back after each hour from `first` on (series x hours x ahead; negative, GPUs)."""
    if hazard is None or panel.jobs is None:
        return np.zeros((*known.shape, ahead.size))
    return survivors(panel.jobs, hazard, panel.values.shape, first, ahead)[series] - known[:, :, None]


def _slope(lost: Floats, moved: Floats, ahead: int, before: Floats) -> Floats:
    """Regress changes on expected losses, shrunk to `before` by the number of windows that do not overlap."""
    known = ~np.isnan(moved)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    about = np.where(known, lost - np.where(known, lost, 0.0).sum(axis=1, keepdims=True) / count, 0.0)
    power = (about**2).sum(axis=1, keepdims=True)
    both = (about * np.nan_to_num(moved)).sum(axis=1, keepdims=True)
    tells = power > _NOTHING
    slope = np.clip(np.divide(both, power, out=np.zeros_like(both), where=tells), 0.0, 1.0)
    windows = np.where(tells, count / ahead, 0.0)
    return (slope * windows + before * _PRIOR) / (windows + _PRIOR)


def _spread(errors: Floats, ahead: int, before: Floats) -> Floats:
    """Return quantiles of past errors, or `before` where none is known (series x levels).

    With errors of n windows that do not overlap, the spread is widened by sqrt(1 + 4 / n): few windows lie closer to
    each other than the next one will lie to them, and their scale is uncertain.
    """
    counts = (~np.isnan(errors)).sum(axis=1)
    spread = before.copy()
    known = counts > 0
    if known.any():
        complete = bool((counts == errors.shape[1]).all())
        quantiles = (np.quantile if complete else np.nanquantile)(errors[known], QUANTILES, axis=1).T
        median = quantiles[:, [MEDIAN]]
        wider = np.sqrt(1.0 + _PRIOR * ahead / counts[known])[:, None]
        spread[known] = median + wider * (quantiles - median)
    return spread
