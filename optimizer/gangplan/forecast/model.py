# pyright: reportUnknownMemberType=false
"""The demand model: LightGBM quantile trees for all series, averaged with naive members; pure, knows no MLflow.

Direct: the horizon is a feature, the target is y(t+h) - y(t) in units of the series' level. Small trees on purpose:
stock LightGBM loses to the last value on short, drifting series.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from gangplan.forecast import naive
from gangplan.forecast.features import History, build, choose_kinds, feature_names
from gangplan.forecast.panel import Floats, Ints, Panel
from gangplan.forecast.series import Standing, standings
from gangplan.types import QUANTILES

ROUNDS = 60
MAX_ROWS = 160_000  # more change the loss by less than 0.2 %
STEPS = (3, 7, 13, 25)  # hours between training origins; the long ones visit every hour of the day
WARM_UP = 48
TREES: dict[str, object] = {
    "objective": "quantile",
    "num_leaves": 5,
    "learning_rate": 0.05,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.5,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}

Step = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class DemandModel:
    """Trees for each level of `types.QUANTILES`, and what they need to know to be asked.

    `fitted_until` is the end of the last hour that the trees saw, in ISO 8601; empty when nothing could be learned.
    """

    trees: tuple[lgb.Booster, ...]
    kinds: tuple[str, ...]
    fitted_until: str
    rows: int = 0

    def quantiles(self, panel: Panel, horizon: int) -> tuple[Floats, tuple[Standing, ...]]:
        """Forecast the `horizon` hours after the panel's end.

        Returns
        -------
        series x horizon x levels in GPUs, sorted and at least 0; and how each series stands (learned or fallen back).
        """
        found = standings(panel)
        made = naive.average_quantiles(panel, horizon)
        learned = np.array([place for place, one in enumerate(found) if one.learnable], dtype=np.int64)
        if self.trees and learned.size:
            made[learned] = (made[learned] + self.trees_alone(panel, learned, horizon)) / 2
        made[[place for place, one in enumerate(found) if one.gone]] = 0.0
        return np.maximum(0.0, np.sort(made, axis=2)), found

    def trees_alone(self, panel: Panel, series: Ints, horizon: int) -> Floats:
        """Forecast with the trees and nothing else (series x horizon x levels)."""
        history = History(panel=panel, kinds=self.kinds, reach=horizon)
        rows = np.repeat(series, horizon)
        origin = np.full(rows.size, panel.hours - 1)
        steps = np.tile(np.arange(1, horizon + 1), series.size)
        scale = levels(panel)[rows]
        columns = build(history, rows, origin, steps, scale)
        moves = [np.asarray(tree.predict(columns, num_threads=1)) for tree in self.trees]
        made = history.last[rows, origin][:, None] + scale[:, None] * np.column_stack(moves)
        return np.maximum(0.0, np.sort(made.reshape(series.size, horizon, len(QUANTILES)), axis=2))


def fit(panel: Panel, horizon: int, *, seed: int, step: Step | None = None) -> DemandModel:
    """Learn from all of the panel that can be learned from; `step` hears of each level that is done."""
    kinds = choose_kinds(panel.events)
    series, origin, steps = _training_rows(panel, horizon)
    if series.size < 2 * int(str(TREES["min_data_in_leaf"])):
        return DemandModel(trees=(), kinds=kinds, fitted_until="")
    history = History(panel=panel, kinds=kinds, reach=horizon)
    scale = levels(panel)[series]
    moved = (panel.values[series, origin + steps] - panel.values[series, origin]) / scale
    columns = build(history, series, origin, steps, scale)
    trees = _grow(columns, moved, feature_names(kinds), seed, step or _silent)
    return DemandModel(trees=trees, kinds=kinds, fitted_until=panel.end.isoformat(), rows=series.size)


def levels(panel: Panel) -> Floats:
    """The mean demand of each series, by which it is scaled; 1 where there is none."""
    counts = (~np.isnan(panel.values)).sum(axis=1)
    means = np.nansum(panel.values, axis=1) / np.maximum(counts, 1)
    return np.where(means > 0, means, 1.0)


def threads() -> int:
    """The cores that a training takes: at most two, so that its neighbours keep theirs."""
    return min(2, os.cpu_count() or 1)


def _training_rows(panel: Panel, horizon: int) -> tuple[Ints, Ints, Ints]:
    """Choose (series, origin, horizon) rows whose origin and target were both observed.

    Origins are thinned until there are at most `MAX_ROWS`. All of the first 24 horizons are taken; of the later ones,
    which differ less and less, every 2nd and then every 4th.
    """
    learned = np.array([place for place, one in enumerate(standings(panel)) if one.learnable], dtype=np.int64)
    grids = (_grid(panel.hours, horizon, step) for step in STEPS[:-1])
    small = (grid for grid in grids if len(grid) * learned.size <= MAX_ROWS)
    grid = next(small, _grid(panel.hours, horizon, STEPS[-1]))
    series = np.repeat(learned, len(grid))
    origin, steps = np.tile(grid[:, 0], learned.size), np.tile(grid[:, 1], learned.size)
    known = ~np.isnan(panel.values[series, origin]) & ~np.isnan(panel.values[series, origin + steps])
    return series[known], origin[known], steps[known]


def _grid(hours: int, horizon: int, step: int) -> NDArray[np.int64]:
    """Pairs of an origin, every `step` hours back from the end, and a horizon whose target lies in the panel."""
    turns = enumerate(range(hours - 2, WARM_UP - 1, -step))
    pairs = [(origin, h) for turn, origin in turns for h in _horizons(horizon, turn) if origin + h < hours]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _horizons(horizon: int, turn: int) -> list[int]:
    """The horizons that an origin is trained at; `turn` shifts the thinned ones, so that all are seen."""
    return [h for h in range(1, horizon + 1) if h <= 24 or (h + turn) % (2 if h <= 72 else 4) == 0]


def _grow(
    columns: NDArray[np.float32], moved: Floats, names: list[str], seed: int, step: Step
) -> tuple[lgb.Booster, ...]:
    """Grow the trees of each level on one binned data set."""
    common = {**TREES, "seed": seed, "num_threads": 1}
    data = lgb.Dataset(columns, label=moved, feature_name=names, params=common).construct()

    def grow(level: float) -> lgb.Booster:
        return lgb.train({**common, "alpha": level}, data, num_boost_round=ROUNDS)

    trees: list[lgb.Booster] = []
    # A level each, side by side: LightGBM's own threads wait by spinning, which is slow where cores are shared.
    with ThreadPoolExecutor(threads()) as pool:
        for place, tree in enumerate(pool.map(grow, QUANTILES)):
            trees.append(tree)
            step(place + 1, len(QUANTILES))
    return tuple(trees)


def _silent(done: int, total: int, /) -> None:
    """Hear nothing."""
