"""The demand model: a forecast of the cycle and one of the drift, averaged by their recent errors; knows no MLflow.

docs/forecast.md has the recipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count, repeat
from typing import TypeAlias

import numpy as np

from gangplan.forecast.models import naive
from gangplan.forecast.models.features import CORRECTIONS, Correction, History, build, choose_kinds, late_losses
from gangplan.forecast.models.survival import Hazard, fit_hazard, forecast_held
from gangplan.forecast.models.theta import THETA_HOURS, Theta, fit_theta, theta_quantiles
from gangplan.forecast.models.trees import LEAST_ROWS, ROUNDS, TREES, Trees, grower
from gangplan.forecast.series import (
    MEDIAN,
    WEEK,
    Bools,
    Floats,
    Ints,
    Key,
    Panel,
    SeriesStatus,
    Shift,
    at_new_levels,
    carried_forward,
    learnable_rows,
    shifts_of,
    status_of_series,
    tidy,
    widen,
)
from gangplan.types import QUANTILES

MAX_ROWS = 160_000  # more change the loss by less than 0.2 %
STEPS = (3, 7, 13, 25)  # hours between training origins; the long ones visit every hour of the day
WARM_UP = 48
LOOK_BACK = 336 + 840 + 336  # hours: windows whose losses count, features' four weeks and a week, profiles
LEAST_WEIGHT = 0.05  # Theta is slow: it is not asked for a series that it would move by less than this share
_WEEKS_WORTH = 1.5  # trees know their own past too well: after n weeks their bands are widened by sqrt(1 + 1.5 / n)
_SOON = 6  # hours, within which the last value tells more than weeks do
_GAIN_WEEKS = 30.0  # series x weeks at which half of what trees gained on their own past is believed
_GAIN_ROWS = 40_000
_FORGOTTEN = timedelta(days=14)  # by then profiles know the new level alone
_CYCLES = 0.5  # a series that trusts the drift for less, over all hours ahead, has a cycle
_SETS = len(CORRECTIONS) * len(QUANTILES)

Rows: TypeAlias = tuple[Ints, Ints, Ints]
"""Series, last observed hour (origin), and hours from there to the target, row by row."""

Step = Callable[[int, int], None]
"""Called with how many levels are done, of how many."""


@dataclass(frozen=True, kw_only=True)
class DemandModel:
    """Trees for each of `CORRECTIONS` and level of `types.QUANTILES`, and what they need to know to be asked.

    hazard : how jobs end; none without job records.
    gains : the share of a profile's error that is left once trees correct it, by series (1: all of it).
    thetas : the Theta model of each series that is asked for one.
    fitted_until : the end of the last hour that the trees saw, in ISO 8601; empty when nothing could be learned.
    shifts : the series whose level had shifted when it was fitted.
    anchor : a fit of those series alone, with their past brought to the new level; none where no level shifted.
    """

    trees: tuple[Trees, ...]
    kinds: tuple[str, ...]
    fitted_until: str
    hazard: Hazard | None = None
    gains: dict[Key, float] = field(default_factory=dict[Key, float])
    thetas: dict[Key, Theta] = field(default_factory=dict[Key, Theta])
    rows: int = 0
    shifts: dict[Key, Shift] = field(default_factory=dict[Key, Shift])
    anchor: DemandModel | None = None

    def quantiles(self, panel: Panel, horizon: int) -> tuple[Floats, tuple[SeriesStatus, ...]]:
        """Forecast the `horizon` hours after the panel's end; also say which series fell back to the naive members.

        Quantiles are series x horizon x levels, in GPUs, sorted and at least 0.
        """
        status = status_of_series(panel)
        learned = learnable_rows(panel) if self.trees else np.zeros(0, dtype=np.int64)
        others = np.setdiff1d(np.arange(len(status)), learned)
        quantiles = np.zeros((len(status), horizon, len(QUANTILES)))
        quantiles[others] = naive.average_quantiles(panel.only(others), horizon)
        if learned.size:
            quantiles[learned] = self._average(panel, learned, horizon)
        if self.anchor is not None:
            quantiles = self._anchored(self.anchor, quantiles, panel)
        quantiles[[row for row, series in enumerate(status) if series.vanished]] = 0.0
        return tidy(quantiles), status

    def _anchored(self, anchor: DemandModel, quantiles: Floats, panel: Panel) -> Floats:
        """Average a forecast (series x horizon x levels) with the anchor's, as far as the new levels are believed."""
        shifted = at_new_levels(panel, self.shifts)
        from_new_levels, _ = anchor.quantiles(shifted, quantiles.shape[1])
        mixed = quantiles.copy()
        for key, anchored in zip(shifted.keys, from_new_levels, strict=True):
            row, belief = panel.keys.index(key), self.shifts[key].belief(panel.end)
            mixed[row] = belief * anchored + (1 - belief) * quantiles[row]
        return mixed

    def _average(self, panel: Panel, series: Ints, horizon: int) -> Floats:
        """Forecast with both halves, weighted by their recent errors (series x horizon x levels)."""
        histories = histories_of(panel, self.kinds, horizon)
        held, weight = self.weigh(panel, histories, series, horizon)
        drift = self._drift(panel, series, held, weight.max(axis=1) >= LEAST_WEIGHT)
        cycle = widen(
            self._cycle(histories, panel.levels, series, horizon),
            float(np.sqrt(1.0 + _WEEKS_WORTH * WEEK / panel.hours)),
            _SOON,
        )
        return weight[:, :, None] * drift + (1 - weight[:, :, None]) * cycle

    def weigh(self, panel: Panel, histories: tuple[History, ...], series: Ints, horizon: int) -> tuple[Floats, Floats]:
        """Forecast from the GPUs held, and return how far to trust the drift (series x horizon, from 0 to 1)."""
        held, losses = forecast_held(panel, carried_forward(panel.values), series, self.hazard, horizon)
        gain = np.array([self.gains.get(panel.keys[int(row)], 1.0) for row in series])
        cycle = (panel.levels[series] * gain)[:, None] * late_losses(histories, series, horizon)
        return held, naive.share(losses, cycle)

    def _cycle(self, histories: tuple[History, ...], level: Floats, series: Ints, horizon: int) -> Floats:
        """Forecast with the corrected profiles alone (series x horizon x levels)."""
        rows = np.repeat(series, horizon)
        origin = np.full(rows.size, histories[0].panel.hours - 1)
        steps = np.tile(np.arange(1, horizon + 1), series.size)
        mean = np.zeros((rows.size, len(QUANTILES)))
        for place, (correction, history) in enumerate(zip(CORRECTIONS, histories, strict=True)):
            trees = self.trees[place * len(QUANTILES) : (place + 1) * len(QUANTILES)]
            base = correction.profile(history, rows, origin, steps)
            _, columns = build(history, rows, origin, steps, base)
            moves = np.column_stack([tree.predict(columns) for tree in trees])
            mean += tidy(correction.backward(base[:, None] + moves)) / len(CORRECTIONS)
        return level[series][:, None, None] * mean.reshape(series.size, horizon, len(QUANTILES))

    def _drift(self, panel: Panel, series: Ints, held: Floats, asked: Bools) -> Floats:
        """Average the forecast from the GPUs held with Theta's, for the series that are `asked` (as `held`)."""
        drift, windows = held.copy(), _theta_windows(panel, series)
        fitted = [self.thetas.get(panel.keys[int(row)]) for row in series]
        for hours in {windows[int(place)].size for place in np.flatnonzero(asked)}:
            places = [int(place) for place in np.flatnonzero(asked) if windows[int(place)].size == hours]
            models = [fitted[place] or fit_theta(windows[place]) for place in places]
            theta = theta_quantiles(np.stack([windows[place] for place in places]), held.shape[1], models)
            drift[places] = (drift[places] + theta) / 2
        return drift


def fit(panel: Panel, horizon: int, *, seed: int, step: Step = lambda done, total: None) -> DemandModel:
    """Learn from all of the panel that can be learned from; `step` hears of each level that is done.

    Series whose level shifted are learned a second time, with their past at the new level, as a member of the average.
    """
    model = _fit(panel, horizon, seed, step)
    shifts = _shifts_of_cycles(panel, horizon) if model.trees else {}
    if not shifts:
        return model
    return replace(model, shifts=shifts, anchor=_fit(at_new_levels(panel, shifts), horizon, seed))


def _shifts_of_cycles(panel: Panel, horizon: int) -> dict[Key, Shift]:
    """Find the shifts that matter: a series that drifts follows a new level at once, one with a cycle does not."""
    shifts = {key: shift for key, shift in shifts_of(panel).items() if panel.end - shift.since <= _FORGOTTEN}
    if not shifts:
        return {}
    shifted = at_new_levels(panel, shifts)
    learned = learnable_rows(shifted)
    plain = DemandModel(trees=(), kinds=(), fitted_until="")
    _, drift = plain.weigh(shifted, histories_of(shifted, (), horizon), learned, horizon)
    keys = (shifted.keys[int(row)] for row in learned[drift.mean(axis=1) < _CYCLES])
    return {key: shifts[key] for key in keys}


def _fit(panel: Panel, horizon: int, seed: int, step: Step = lambda done, total: None) -> DemandModel:
    """Learn from a panel as it is."""
    kinds = choose_kinds(panel.events)
    rows = _training_rows(panel, horizon)
    if rows[0].size < LEAST_ROWS:
        return DemandModel(trees=(), kinds=kinds, fitted_until="")
    trees: list[Trees] = []
    left = np.zeros(len(panel.keys))
    done = count(1)
    for correction in CORRECTIONS:
        history = _history(panel, panel.levels, correction, kinds, horizon)
        grown, remains = _grow(correction, history, rows, seed, lambda: step(next(done), _SETS))
        trees += grown
        left += remains / len(CORRECTIONS)
    model = DemandModel(
        trees=tuple(trees),
        kinds=kinds,
        fitted_until=panel.end.isoformat(),
        hazard=None if panel.jobs is None else fit_hazard(panel.jobs, panel.hours),
        gains=_believed(panel, left),
        rows=rows[0].size,
    )
    return replace(model, thetas=_fit_thetas(model, panel, horizon))


def histories_of(panel: Panel, kinds: tuple[str, ...], horizon: int) -> tuple[History, ...]:
    """Bring a panel's end, as far back as a forecast of so many hours looks, to the scale of each correction."""
    first = max(0, panel.hours - LOOK_BACK - 2 * horizon)
    return tuple(_history(panel.since(first), panel.levels, correction, kinds, horizon) for correction in CORRECTIONS)


def _training_rows(panel: Panel, horizon: int) -> Rows:
    """Choose rows whose origin and target were both observed.

    Origins are thinned until there are at most `MAX_ROWS`. All of the first 24 horizons are taken; of the later ones,
    which differ less and less, every 2nd and then every 4th.
    """
    learned = learnable_rows(panel)
    grids = (_grid(panel.hours, horizon, step) for step in STEPS[:-1])
    small = (grid for grid in grids if len(grid) * learned.size <= MAX_ROWS)
    grid = next(small, _grid(panel.hours, horizon, STEPS[-1]))
    series = np.repeat(learned, len(grid))
    origin, steps = np.tile(grid[:, 0], learned.size), np.tile(grid[:, 1], learned.size)
    known = ~np.isnan(panel.values[series, origin]) & ~np.isnan(panel.values[series, origin + steps])
    return series[known], origin[known], steps[known]


def _grid(hours: int, horizon: int, step: int) -> Ints:
    """Pair origins, every `step` hours back from the end, with the horizons whose target lies in the panel."""
    pairs = [
        (origin, h)
        for turn, origin in enumerate(range(hours - 2, WARM_UP - 1, -step))
        for h in range(1, min(horizon, hours - 1 - origin) + 1)
        if h <= 24 or (h + turn) % (2 if h <= 72 else 4) == 0  # thinned horizons shift by turns, so all are seen
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _grow(
    correction: Correction, history: History, rows: Rows, seed: int, done: Callable[[], None]
) -> tuple[list[Trees], Floats]:
    """Grow the trees of each level on one binned data set; also return the share of each series' error that is left."""
    series, origin, steps = rows
    base = correction.profile(history, series, origin, steps)
    names, columns = build(history, series, origin, steps, base)
    missed = history.values[series, origin + steps] - base
    params = {**TREES, "seed": seed, "num_threads": 1}
    grow = grower(columns, missed, params, names=names)
    trees: list[Trees] = []
    # Levels are grown side by side, each on one thread: LightGBM's own threads spin while they wait, which is slow
    # where cores are shared. At most two cores are taken, so that neighbours keep theirs.
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for grown in pool.map(grow, [{"alpha": level} for level in QUANTILES], repeat(ROUNDS)):
            trees.append(grown)
            done()
    sample = slice(None, None, rows[0].size // _GAIN_ROWS | 1)
    moved = trees[MEDIAN].predict(columns[sample])
    return trees, _left(series[sample], missed[sample], moved, len(history.panel.keys))


def _left(series: Ints, missed: Floats, moved: Floats, count: int) -> Floats:
    """Return the share of a base's absolute error that is left after correction, by series; 1 where there was none."""
    before = np.bincount(series, np.abs(missed), count)
    after = np.bincount(series, np.abs(missed - moved), count)
    return np.divide(after, before, out=np.ones(count), where=before > 0)


def _believed(panel: Panel, left: Floats) -> dict[Key, float]:
    """Shrink what trees gained on their own past; the more series and weeks they learned from, the less."""
    learned = learnable_rows(panel)
    weeks = learned.size * panel.hours / WEEK
    belief = weeks / (weeks + _GAIN_WEEKS)
    return {panel.keys[int(row)]: float(1.0 - belief * (1.0 - left[row])) for row in learned}


def _history(panel: Panel, level: Floats, correction: Correction, kinds: tuple[str, ...], horizon: int) -> History:
    """Bring a panel to the scale of a correction."""
    scaled = correction.forward(panel.values / level[:, None])
    return History(panel=replace(panel, values=scaled), kinds=kinds, reach=horizon)


def _fit_thetas(model: DemandModel, panel: Panel, horizon: int) -> dict[Key, Theta]:
    """Fit the Theta model of each series that will be asked for one."""
    learned = learnable_rows(panel)
    _, weight = model.weigh(panel, histories_of(panel, (), horizon), learned, horizon)
    asked = learned[weight.max(axis=1) >= LEAST_WEIGHT]
    windows = _theta_windows(panel, asked)
    return {panel.keys[int(row)]: fit_theta(window) for row, window in zip(asked, windows, strict=True)}


def _theta_windows(panel: Panel, series: Ints) -> list[Floats]:
    """Return what Theta sees of each series: its last hours, those before the first known one left out."""
    last = carried_forward(panel.values[series])[:, -THETA_HOURS:]
    return [row[~np.isnan(row)] for row in last]
