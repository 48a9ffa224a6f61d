"""How many of the GPUs held now are still held later: a hazard by age, which trees correct by size, tenant and class.

A piecewise-constant hazard fitted as a Poisson regression of deaths on hours at risk: Friedman, Piecewise exponential
models for survival data with covariates, Annals of Statistics 10 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gangplan.forecast.models.trees import Trees, grower
from gangplan.forecast.series import Floats, Ints, Jobs, Key

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

    Parameters
    ----------
    shape
        Series and hours of the panel that the jobs count to.

    Returns
    -------
    series x (hours - first) x ahead, expected GPUs.
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
