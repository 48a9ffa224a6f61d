# pyright: reportUnknownMemberType=false
"""Minutes to three hours ahead, for serving: demand at steps of 1 to 15 minutes, forecast by small LightGBM trees.

Two bases are corrected, each by one set of trees for all series and all steps ahead, on the scale of the root: what is
(the last value), and what is usual (the last hour's mean, moved as demand moved at this time of the seven days before).
Both are averaged, never chosen between. Direct: the step ahead is a feature.

Five bases and four averages of them were tried on the last 30 % of each of three public traces at 5 minutes. This
average was the best or within 2 % of it in all, at one hour and at three: on the very days that
`make bench-forecast` reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan.errors import InputError
from gangplan.forecast import models
from gangplan.forecast.models import TREES, History, Trees
from gangplan.forecast.series import Floats, Ints, Key, Panel, tidy
from gangplan.tables import EVENTS, QUANTILE_COLUMNS, empty
from gangplan.types import QUANTILES, SERIES

ROUNDS = 60
MAX_ROWS = 100_000
USUAL_DAYS = 7
BASES = ("last", "usual")
_DAY = timedelta(days=1)
_WEEKS_WORTH = 1.5  # as in the hourly model: trees know their own past too well
_MEDIAN = QUANTILES.index(0.5)


@dataclass(frozen=True, kw_only=True)
class Fine:
    """Demand of all series at steps of minutes; values are series x steps, NaN where a sample is missing."""

    start: datetime
    step: timedelta
    keys: tuple[Key, ...]
    values: Floats

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.values.shape[1]

    @property
    def end(self) -> datetime:
        """The end of the last step."""
        return self.start + self.steps * self.step

    @property
    def day(self) -> int:
        """Steps of a day."""
        return _DAY // self.step

    @property
    def hour(self) -> int:
        """Steps of an hour."""
        return self.day // 24

    @cached_property
    def level(self) -> Floats:
        """The mean of each series, by which it is scaled; 1 where there is none."""
        count = (~np.isnan(self.values)).sum(axis=1)
        mean = np.nansum(self.values, axis=1) / np.maximum(count, 1)
        return np.where(mean > 0, mean, 1.0)

    @cached_property
    def panel(self) -> Panel:
        """The same as a panel, whose hours are these steps."""
        return Panel(start=self.start, keys=self.keys, values=self.values, events=empty(EVENTS))

    @cached_property
    def past(self) -> History:
        """The past in shares of each series' level."""
        return self._history(self.values / self.level[:, None])

    @cached_property
    def rooted(self) -> History:
        """The past on the scale of the root."""
        return self._history(np.sqrt(self.values / self.level[:, None]))

    def until(self, steps: int) -> Fine:
        """Return the first steps: all that was known then."""
        return Fine(start=self.start, step=self.step, keys=self.keys, values=self.values[:, :steps])

    def _history(self, values: Floats) -> History:
        """Lay running sums over values."""
        return History(
            panel=Panel(start=self.start, keys=self.keys, values=values, events=empty(EVENTS)), kinds=(), reach=0
        )


@dataclass(frozen=True, kw_only=True)
class MinuteModel:
    """For each of `BASES` the trees of each level of `types.QUANTILES`; none where there was too little to learn."""

    trees: tuple[tuple[Trees, ...], ...]

    def quantiles(self, fine: Fine, ahead: int) -> Floats:
        """Forecast the steps after the last one (series x ahead x levels, sorted, at least 0)."""
        made = models.last_value_quantiles(fine.panel, ahead)
        learned = _learnable(fine, ahead) if self.trees else np.zeros(0, dtype=np.int64)
        if learned.size:
            rows, step = np.repeat(learned, ahead), np.tile(np.arange(1, ahead + 1), learned.size)
            origin = np.full(rows.size, fine.steps - 1)
            parts = [
                _asked(trees, fine, name, rows, origin, step) for trees, name in zip(self.trees, BASES, strict=True)
            ]
            mean = np.mean(parts, axis=0).reshape(learned.size, ahead, len(QUANTILES))
            made[learned] = fine.level[learned][:, None, None] * _widened(mean, fine)
        return tidy(made)


def from_table(table: pl.DataFrame, step: timedelta, end: datetime) -> Fine:
    """Make it of a table with `time` (a step's start), the columns of a series, and `value`; missing steps are NaN.

    Raises
    ------
    InputError
        When there are fewer than six hours of it.
    """
    first = table["time"].min()
    if not isinstance(first, datetime) or end - first < timedelta(hours=6):
        raise InputError("demand", f"{table.height} rows", "are less than six hours: bring in more fine telemetry")
    names = table.select(SERIES).unique().sort(SERIES)
    values = np.full((names.height, (end - first) // step), np.nan)
    placed = table.join(names.with_row_index("place"), on=list(SERIES))
    column = (placed["time"] - first).dt.total_seconds().to_numpy() // int(step.total_seconds())
    inside = (column >= 0) & (column < values.shape[1])
    values[placed["place"].to_numpy()[inside], column[inside]] = placed["value"].to_numpy()[inside]
    return Fine(start=first, step=step, keys=tuple(names.iter_rows()), values=values)


def to_table(fine: Fine, made: Floats) -> pl.DataFrame:
    """Lay quantiles out as rows: `time`, the series, a column for each level."""
    times = [fine.end + place * fine.step for place in range(made.shape[1])]
    names = {name: [key[place] for key in fine.keys for _ in times] for place, name in enumerate(SERIES)}
    levels = {name: made[:, :, level].ravel() for level, name in enumerate(QUANTILE_COLUMNS)}
    return pl.DataFrame({"time": times * len(fine.keys), **names, **levels})


def fit(fine: Fine, ahead: int, *, seed: int) -> MinuteModel:
    """Learn from rows drawn over all series, origins and steps ahead; same seed, same trees."""
    import lightgbm as lgb

    rows = _rows(fine, ahead, seed)
    if rows[0].size < 2 * int(str(TREES["min_data_in_leaf"])):
        return MinuteModel(trees=())
    grown: list[tuple[Trees, ...]] = []
    for name in BASES:
        base = _base(fine, name, *rows)
        series, origin, step = rows
        missed = fine.rooted.values[series, origin + step] - base
        common = {**TREES, "num_threads": 1, "seed": seed}
        data = lgb.Dataset(_columns(fine, *rows, base), label=missed, params=common).construct()
        trees = (lgb.train({**common, "alpha": level}, data, num_boost_round=ROUNDS) for level in QUANTILES)
        grown.append(tuple(Trees(tree.model_to_string()) for tree in trees))
    return MinuteModel(trees=tuple(grown))


def _rows(fine: Fine, ahead: int, seed: int) -> tuple[Ints, Ints, Ints]:
    """Draw (series, origin, step ahead) of which origin and target were both seen, after a first day of warming up."""
    learned = _learnable(fine, ahead)
    first, last = min(fine.day + fine.hour, fine.steps // 3), fine.steps - ahead - 1
    if not learned.size or last <= first:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing
    rng, most = np.random.default_rng(seed), min(MAX_ROWS, learned.size * (last - first) * ahead)
    series, origin = learned[rng.integers(0, learned.size, most)], rng.integers(first, last, most)
    step = rng.integers(1, ahead + 1, most)
    seen = ~np.isnan(fine.values[series, origin]) & ~np.isnan(fine.values[series, origin + step])
    return series[seen], origin[seen], step[seen]


def _learnable(fine: Fine, ahead: int) -> Ints:
    """The series with three horizons of samples at least, that move, and that were there in the last hour."""
    known = ~np.isnan(fine.values)
    enough = known.sum(axis=1) >= 3 * ahead
    there = known[:, -fine.hour :].any(axis=1)
    highest = np.where(known, fine.values, -np.inf).max(axis=1)
    moves = highest > np.where(known, fine.values, np.inf).min(axis=1)
    return np.flatnonzero(enough & there & moves)


def _asked(trees: tuple[Trees, ...], fine: Fine, name: str, series: Ints, origin: Ints, step: Ints) -> Floats:
    """Forecast with one base, in shares of the level (rows x levels)."""
    base = _base(fine, name, series, origin, step)
    columns = _columns(fine, series, origin, step, base)
    moved = base[:, None] + np.column_stack([tree.predict(columns) for tree in trees])
    return np.maximum(0.0, np.sort(moved, axis=1)) ** 2


def _base(fine: Fine, name: str, series: Ints, origin: Ints, step: Ints) -> Floats:
    """What the trees correct, on the scale of the root."""
    past, last = fine.past, np.nan_to_num(fine.past.last[series, origin])
    if name == "last":
        return np.sqrt(last)
    mean = past.mean(series, origin, fine.hour)
    moves = np.stack([_moved(fine, series, origin, step, day * fine.day) for day in range(1, USUAL_DAYS + 1)])
    known = ~np.isnan(moves)
    move = np.where(known, moves, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.sqrt(np.maximum(0.0, np.where(np.isnan(mean), last, mean) + move))


def _moved(fine: Fine, series: Ints, origin: Ints, step: Ints, back: int) -> Floats:
    """How demand moved at this time so many steps ago; NaN where that was not seen."""
    about = origin + step - back + fine.hour // 2
    seen = origin - back >= fine.hour
    then = fine.past.mean(series, np.clip(about, 0, fine.steps - 1), fine.hour)
    return np.where(seen, then - fine.past.mean(series, np.maximum(origin - back, 0), fine.hour), np.nan)


def _columns(fine: Fine, series: Ints, origin: Ints, step: Ints, base: Floats) -> NDArray[np.float32]:
    """What the trees see, all of it known at the origin; demand as its difference from the base."""
    target, half = origin + step, max(1, fine.hour // 2)
    clock = (fine.start - fine.start.replace(hour=0, minute=0, second=0, microsecond=0)) / fine.step
    widths = (3, half, fine.hour, 3 * fine.hour, 6 * fine.hour, fine.day)
    days = [_near(fine, series, target - back * fine.day) for back in (1, USUAL_DAYS)]
    columns = [
        step.astype(np.float64),
        (target + clock) % fine.day / fine.hour,
        base,
        *(fine.rooted.at(series, origin - lag) - base for lag in range(4)),
        *(np.sqrt(fine.past.mean(series, origin, width)) - base for width in widths),
        *(day - base for day in days),
        days[0] - _near(fine, series, origin - fine.day),
        fine.rooted.spread(series, origin, fine.hour),
        fine.rooted.spread(series, origin, fine.day),
    ]
    return np.column_stack(columns).astype(np.float32)


def _near(fine: Fine, series: Ints, step: Ints) -> Floats:
    """The mean of the half hour about a step of the past, on the scale of the root; NaN before the first."""
    width = 2 * max(1, fine.hour // 4) + 1
    found = fine.past.mean(series, np.maximum(step + width // 2, 0), width)
    return np.where(step >= 0, np.sqrt(found), np.nan)


def _widened(made: Floats, fine: Fine) -> Floats:
    """Move quantiles off their median, the more the shorter the past."""
    factor = np.sqrt(1.0 + _WEEKS_WORTH * 7 * fine.day / fine.steps)
    ramp = 1.0 + (factor - 1.0) * np.minimum(np.arange(made.shape[1], dtype=np.float64) / (2.0 * fine.hour), 1.0)
    middle = made[:, :, [_MEDIAN]]
    return middle + ramp[:, None] * (made - middle)
