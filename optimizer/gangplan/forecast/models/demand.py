# pyright: reportUnknownMemberType=false
"""The demand model: what has a cycle and what drifts, averaged by how each did; pure, knows no MLflow.

Cycle: LightGBM quantile trees for all series correct profiles of days and weeks. Direct: the horizon is a feature.
Small trees on purpose: stock LightGBM loses to the last value on short, drifting series.
Drift: the Theta method and the survival of the jobs that run (LightGBM).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from gangplan.forecast.models import naive
from gangplan.forecast.models.drift import Held, Theta, forecast_held, theta_quantiles
from gangplan.forecast.models.features import History, build, choose_kinds, feature_names
from gangplan.forecast.models.profiles import CORRECTIONS, Correction, late_losses
from gangplan.forecast.models.survival import Hazard, fit_hazard
from gangplan.forecast.models.trees import TREES, Trees
from gangplan.forecast.series import Floats, Ints, Key, Panel, Shift, Standing, anchored, shifts_of, standings, tidy
from gangplan.types import QUANTILES

ROUNDS = 60
MAX_ROWS = 160_000  # more change the loss by less than 0.2 %
STEPS = (3, 7, 13, 25)  # hours between training origins; the long ones visit every hour of the day
WARM_UP = 48
LOOK_BACK = 336 + 840 + 336  # hours: windows whose losses count, features' four weeks and a week, profiles
LEAST_WEIGHT = 0.05  # a member that speaks for less is not asked: Theta is slow
_WEEKS_WORTH = 1.5  # how much wider trees' bands are for having been grown on few weeks: sqrt(1 + this / weeks)
_SOON = 6  # hours, within which the last value tells more than weeks do
_GAIN_WEEKS = 30.0  # series x weeks at which half of what trees gained on their own past is believed
_GAIN_ROWS = 40_000
_FORGOTTEN = timedelta(days=14)  # by then profiles know the new level alone
_CYCLES = 0.5  # a series that trusts what drifts for less, over all hours ahead, has a cycle

Step = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class DemandModel:
    """Trees for each of `CORRECTIONS` and level of `types.QUANTILES`, and what they need to know to be asked.

    hazard : how jobs end; none without job records.
    gains : what is left of a profile's error once it is corrected, by series (1: all of it).
    thetas : the Theta model of each series that is asked for one.
    fitted_until : the end of the last hour that the trees saw, in ISO 8601; empty when nothing could be learned.
    shifts : the series whose level had moved when it was fitted.
    anchor : what was learned of those alone, with their past brought to the new level; none where no level moved.
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

    def quantiles(self, panel: Panel, horizon: int) -> tuple[Floats, tuple[Standing, ...]]:
        """Forecast the `horizon` hours after the panel's end.

        Returns
        -------
        series x horizon x levels in GPUs, sorted and at least 0; and how each series stands (learned or fallen back).
        """
        found = standings(panel)
        learned = np.array([place for place, one in enumerate(found) if one.learnable and self.trees], dtype=np.int64)
        others = np.setdiff1d(np.arange(len(found)), learned)
        made = np.zeros((len(found), horizon, len(QUANTILES)))
        made[others] = naive.average_quantiles(panel.only(others), horizon)
        if learned.size:
            made[learned] = self.average(panel, learned, horizon)
        if self.anchor is not None:
            made = self._anchored(self.anchor, made, panel)
        made[[place for place, one in enumerate(found) if one.gone]] = 0.0
        return tidy(made), found

    def _anchored(self, anchor: DemandModel, made: Floats, panel: Panel) -> Floats:
        """Average a forecast (series x horizon x levels) with that from the new levels, as far as they are believed."""
        brought = anchored(panel, self.shifts)
        said, _ = anchor.quantiles(brought, made.shape[1])
        mixed = made.copy()
        for key, quantiles in zip(brought.keys, said, strict=True):
            place, belief = panel.keys.index(key), self.shifts[key].belief(panel.end)
            mixed[place] = belief * quantiles + (1 - belief) * made[place]
        return mixed

    def average(self, panel: Panel, series: Ints, horizon: int) -> Floats:
        """Forecast with both halves, weighted by what they lost of late (series x horizon x levels)."""
        histories = histories_of(panel, self.kinds, horizon)
        held, weight = self.weigh(panel, histories, series, horizon)
        _ = self.trees[0].booster  # imports LightGBM: not while another library is imported beside it
        with ThreadPoolExecutor(1) as pool:  # trees are asked in C, while Theta's library is imported and asked
            corrected = pool.submit(self.cycle, histories, levels(panel), series, horizon)
            drift = self.drift(panel, series, held.quantiles, weight.max(axis=1) >= LEAST_WEIGHT)
            cycle = _widened(corrected.result(), panel.hours)
        return weight[:, :, None] * drift + (1 - weight[:, :, None]) * cycle

    def weigh(self, panel: Panel, histories: tuple[History, ...], series: Ints, horizon: int) -> tuple[Held, Floats]:
        """Forecast from what is held, and say how far to trust what drifts (series x horizon, from 0 to 1)."""
        last = History(panel=panel, kinds=(), reach=0).last
        held = forecast_held(panel, last, series, self.hazard, horizon)
        gain = np.array([self.gains.get(panel.keys[int(row)], 1.0) for row in series])
        cycle = (levels(panel)[series] * gain)[:, None] * late_losses(histories, series, horizon)
        return held, naive.share(held.losses, cycle)

    def cycle(self, histories: tuple[History, ...], level: Floats, series: Ints, horizon: int) -> Floats:
        """Forecast with the corrected profiles alone (series x horizon x levels)."""
        rows = np.repeat(series, horizon)
        origin = np.full(rows.size, histories[0].panel.hours - 1)
        steps = np.tile(np.arange(1, horizon + 1), series.size)
        made = np.zeros((rows.size, len(QUANTILES)))
        for place, (correction, history) in enumerate(zip(CORRECTIONS, histories, strict=True)):
            trees = self.trees[place * len(QUANTILES) : (place + 1) * len(QUANTILES)]
            base = correction.profile(history, rows, origin, steps)
            columns = build(history, rows, origin, steps, base)
            moves = np.column_stack([tree.predict(columns) for tree in trees])
            made += tidy(correction.backward(base[:, None] + moves)) / len(CORRECTIONS)
        return level[series][:, None, None] * made.reshape(series.size, horizon, len(QUANTILES))

    def drift(self, panel: Panel, series: Ints, held: Floats, asked: NDArray[np.bool_]) -> Floats:
        """Average with Theta what is forecast for the series that are `asked` (series x horizon x levels)."""
        last = History(panel=panel, kinds=(), reach=0).last
        made = held.copy()
        for place in np.flatnonzero(asked):
            row = series[place]
            said, _ = theta_quantiles(_from_first(last[row]), held.shape[1], self.thetas.get(panel.keys[int(row)]))
            made[place] = (made[place] + said) / 2
        return made


def fit(panel: Panel, horizon: int, *, seed: int, step: Step | None = None) -> DemandModel:
    """Learn from all of the panel that can be learned from; `step` hears of each level that is done.

    Series whose level moved are learned from once more, with their past at the new level: as a member of the average.
    """
    made = _fit(panel, horizon, seed, step or _silent)
    shifts = _shifts_of_cycles(panel, horizon) if made.trees else {}
    if not shifts:
        return made
    return replace(made, shifts=shifts, anchor=_fit(anchored(panel, shifts), horizon, seed, _silent))


def _shifts_of_cycles(panel: Panel, horizon: int) -> dict[Key, Shift]:
    """Find the new levels that matter: what drifts is there at once, and only a cycle has to be brought to them."""
    shifts = {key: one for key, one in shifts_of(panel).items() if panel.end - one.since <= _FORGOTTEN}
    if not shifts:
        return {}
    brought = anchored(panel, shifts)
    learned = np.array([place for place, one in enumerate(standings(brought)) if one.learnable], dtype=np.int64)
    plain = DemandModel(trees=(), kinds=(), fitted_until="")
    _, drift = plain.weigh(brought, histories_of(brought, (), horizon), learned, horizon)
    keys = (brought.keys[int(place)] for place in learned[drift.mean(axis=1) < _CYCLES])
    return {key: shifts[key] for key in keys}


def _fit(panel: Panel, horizon: int, seed: int, step: Step) -> DemandModel:
    """Learn from a panel as it is."""
    kinds = choose_kinds(panel.events)
    rows = _training_rows(panel, horizon)
    if rows[0].size < 2 * int(str(TREES["min_data_in_leaf"])):
        return DemandModel(trees=(), kinds=kinds, fitted_until="")
    trees: list[Trees] = []
    left = np.zeros(len(panel.keys))
    for place, correction in enumerate(CORRECTIONS):
        done = place * len(QUANTILES)
        grown, remains = _grow(panel, correction, rows, kinds, seed, horizon, done, step)
        trees += grown
        left += remains / len(CORRECTIONS)
    made = DemandModel(
        trees=tuple(trees),
        kinds=kinds,
        fitted_until=panel.end.isoformat(),
        hazard=None if panel.jobs is None else fit_hazard(panel.jobs, panel.hours),
        gains=_believed(panel, left),
        rows=rows[0].size,
    )
    return replace(made, thetas=_fit_thetas(made, panel, horizon))


def histories_of(panel: Panel, kinds: tuple[str, ...], horizon: int) -> tuple[History, ...]:
    """Bring a panel's end, as far back as a forecast of so many hours looks, to the scale of each correction."""
    level, first = levels(panel), max(0, panel.hours - LOOK_BACK - 2 * horizon)
    return tuple(_history(panel.since(first), level, correction, kinds, horizon) for correction in CORRECTIONS)


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
    panel: Panel,
    correction: Correction,
    rows: tuple[Ints, Ints, Ints],
    kinds: tuple[str, ...],
    seed: int,
    horizon: int,
    done: int,
    step: Step,
) -> tuple[list[Trees], Floats]:
    """Grow the trees of each level, for one correction, on one binned data set; and say what error is left."""
    import lightgbm as lgb  # a forecast alone needs less of it, later

    series, origin, steps = rows
    history = _history(panel, levels(panel), correction, kinds, horizon)
    base = correction.profile(history, series, origin, steps)
    columns = build(history, series, origin, steps, base)
    missed = history.values[series, origin + steps] - base
    common = {**TREES, "seed": seed, "num_threads": 1}
    data = lgb.Dataset(columns, label=missed, feature_name=feature_names(kinds), params=common).construct()

    def grow(level: float) -> Trees:
        return Trees(lgb.train({**common, "alpha": level}, data, num_boost_round=ROUNDS).model_to_string())

    trees: list[Trees] = []
    # A level each, side by side: LightGBM's own threads wait by spinning, which is slow where cores are shared.
    with ThreadPoolExecutor(threads()) as pool:
        for place, tree in enumerate(pool.map(grow, QUANTILES)):
            trees.append(tree)
            step(done + place + 1, len(CORRECTIONS) * len(QUANTILES))
    some = slice(None, None, rows[0].size // _GAIN_ROWS | 1)
    moved = trees[QUANTILES.index(0.5)].predict(columns[some])
    return trees, _left(series[some], missed[some], moved, len(panel.keys))


def _left(series: Ints, missed: Floats, moved: Floats, count: int) -> Floats:
    """The share of a base's absolute error that is left once it is corrected, by series; 1 where there was none."""
    before = np.bincount(series, np.abs(missed), count)
    after = np.bincount(series, np.abs(missed - moved), count)
    return np.divide(after, before, out=np.ones(count), where=before > 0)


def _believed(panel: Panel, left: Floats) -> dict[Key, float]:
    """Believe what trees gained on their own past the more, the more series and weeks they had to learn from."""
    learned = [place for place, one in enumerate(standings(panel)) if one.learnable]
    weeks = len(learned) * panel.hours / naive.WEEK
    belief = weeks / (weeks + _GAIN_WEEKS)
    return {panel.keys[place]: float(1.0 - belief * (1.0 - left[place])) for place in learned}


def _history(panel: Panel, level: Floats, correction: Correction, kinds: tuple[str, ...], horizon: int) -> History:
    """Bring a panel to the scale of a correction."""
    scaled = correction.forward(panel.values / level[:, None])
    return History(panel=replace(panel, values=scaled), kinds=kinds, reach=horizon)


def _widened(made: Floats, hours: int) -> Floats:
    """Move quantiles (series x horizon x levels) off their median: trees know their own past too well."""
    factor = np.sqrt(1.0 + _WEEKS_WORTH * naive.WEEK / hours)
    ramp = 1.0 + (factor - 1.0) * np.minimum(np.arange(made.shape[1], dtype=np.float64) / _SOON, 1.0)
    middle = made[:, :, [QUANTILES.index(0.5)]]
    return middle + ramp[:, None] * (made - middle)


def _fit_thetas(model: DemandModel, panel: Panel, horizon: int) -> dict[Key, Theta]:
    """Fit the Theta model of each series that will be asked for one."""
    learned = np.array([place for place, one in enumerate(standings(panel)) if one.learnable], dtype=np.int64)
    _, weight = model.weigh(panel, histories_of(panel, (), horizon), learned, horizon)
    last = History(panel=panel, kinds=(), reach=0).last
    asked = learned[weight.max(axis=1) >= LEAST_WEIGHT]
    return {panel.keys[place]: theta_quantiles(_from_first(last[place]), 1, None)[1] for place in asked}


def _from_first(values: Floats) -> Floats:
    """Leave the hours before the first known one out."""
    return values[~np.isnan(values)]


def _silent(done: int, total: int, /) -> None:
    """Hear nothing."""
