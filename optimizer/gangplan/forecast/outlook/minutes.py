"""Minutes to three hours ahead, for serving: demand at steps of 1 to 15 minutes, forecast by small LightGBM trees.

Two bases are corrected, on the scale of the square root, and both forecasts are averaged. Of five bases and four
averages this was the best, or within 2 % of it, on the last 30 % of three public traces (`make bench-forecast`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan.errors import InputError
from gangplan.forecast.evaluation import rows_of
from gangplan.forecast.models import LEAST_ROWS, ROUNDS, TREES, History, Trees, grower, last_value_quantiles
from gangplan.forecast.series import Floats, Ints, Panel, known_mean, tidy, widen
from gangplan.types import QUANTILES, SERIES

MAX_ROWS = 100_000
USUAL_DAYS = 7
BASES = ("last", "usual")
_DAY = timedelta(days=1)
_WEEKS_WORTH = 1.5  # as in the hourly model: trees know their own past too well

Rows: TypeAlias = tuple[Ints, Ints, Ints]
"""Series, last observed step (origin), and steps from there to the target, row by row."""


@dataclass(frozen=True, kw_only=True)
class MinutePanel(Panel):
    """Demand of all series at steps of minutes (`step`); values are series x steps, NaN where a sample is missing."""

    @property
    def steps(self) -> int:
        """The number of steps."""
        return self.values.shape[1]

    @property
    def day(self) -> int:
        """Steps of a day."""
        return _DAY // self.step

    @property
    def hour(self) -> int:
        """Steps of an hour."""
        return self.day // 24

    @cached_property
    def past(self) -> History:
        """The past in shares of each series' level."""
        return History(panel=replace(self, values=self.values / self.levels[:, None]))

    @cached_property
    def rooted(self) -> History:
        """The past on the scale of the root."""
        return History(panel=replace(self, values=np.sqrt(self.values / self.levels[:, None])))


@dataclass(frozen=True, kw_only=True)
class MinuteModel:
    """For each of `BASES` the trees of each level of `types.QUANTILES`; none where there was too little to learn."""

    trees: tuple[tuple[Trees, ...], ...]

    def quantiles(self, panel: MinutePanel, ahead: int) -> Floats:
        """Forecast the steps after the last one (series x ahead x levels, sorted, at least 0)."""
        quantiles = last_value_quantiles(panel, ahead)
        learned = _learnable(panel, ahead) if self.trees else np.zeros(0, dtype=np.int64)
        if learned.size:
            series, step = np.repeat(learned, ahead), np.tile(np.arange(1, ahead + 1), learned.size)
            rows = (series, np.full(series.size, panel.steps - 1), step)
            parts = [_ask(trees, panel, name, rows) for trees, name in zip(self.trees, BASES, strict=True)]
            mean = np.mean(parts, axis=0).reshape(learned.size, ahead, len(QUANTILES))
            factor = float(np.sqrt(1.0 + _WEEKS_WORTH * 7 * panel.day / panel.steps))
            quantiles[learned] = panel.levels[learned][:, None, None] * widen(mean, factor, 2.0 * panel.hour)
        return tidy(quantiles)


def from_table(table: pl.DataFrame, step: timedelta, end: datetime) -> MinutePanel:
    """Make a panel of a table with `time` (a step's start), the columns of a series, and `value`; gaps become NaN."""
    first = table["time"].min()
    if not isinstance(first, datetime) or end - first < timedelta(hours=6):
        raise InputError("demand", f"{table.height} rows", "are less than six hours: bring in more fine telemetry")
    names = table.select(SERIES).unique().sort(SERIES)
    values = np.full((names.height, (end - first) // step), np.nan)
    placed = table.join(names.with_row_index("place"), on=list(SERIES))
    column = (placed["time"] - first).dt.total_seconds().to_numpy() // int(step.total_seconds())
    inside = (column >= 0) & (column < values.shape[1])
    values[placed["place"].to_numpy()[inside], column[inside]] = placed["value"].to_numpy()[inside]
    return MinutePanel(start=first, step=step, keys=tuple(names.iter_rows()), values=values)


def to_table(panel: MinutePanel, quantiles: Floats) -> pl.DataFrame:
    """Lay quantiles (series x steps x levels) out as rows: `time`, the series, a column for each level."""
    return rows_of(panel, quantiles).rename({"hour": "time"}).drop("origin")


def fit(panel: MinutePanel, ahead: int, *, seed: int) -> MinuteModel:
    """Learn from rows drawn over all series, origins and steps ahead; same seed, same trees."""
    rows = _rows(panel, ahead, seed)
    if rows[0].size < LEAST_ROWS:
        return MinuteModel(trees=())
    sets: list[tuple[Trees, ...]] = []
    for name in BASES:
        base = _base(panel, name, *rows)
        series, origin, step = rows
        missed = panel.rooted.values[series, origin + step] - base
        grow = grower(_columns(panel, *rows, base), missed, {**TREES, "num_threads": 1, "seed": seed})
        sets.append(tuple(grow({"alpha": level}, ROUNDS) for level in QUANTILES))
    return MinuteModel(trees=tuple(sets))


def _rows(panel: MinutePanel, ahead: int, seed: int) -> Rows:
    """Draw rows of which origin and target were both observed, after a first day of warm-up."""
    learned = _learnable(panel, ahead)
    first, last = min(panel.day + panel.hour, panel.steps // 3), panel.steps - ahead - 1
    if not learned.size or last <= first:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing
    rng, most = np.random.default_rng(seed), min(MAX_ROWS, learned.size * (last - first) * ahead)
    series, origin = learned[rng.integers(0, learned.size, most)], rng.integers(first, last, most)
    step = rng.integers(1, ahead + 1, most)
    seen = ~np.isnan(panel.values[series, origin]) & ~np.isnan(panel.values[series, origin + step])
    return series[seen], origin[seen], step[seen]


def _learnable(panel: MinutePanel, ahead: int) -> Ints:
    """The series with three horizons of samples at least, that move, and that were there in the last hour."""
    known = ~np.isnan(panel.values)
    enough = known.sum(axis=1) >= 3 * ahead
    there = known[:, -panel.hour :].any(axis=1)
    highest = np.where(known, panel.values, -np.inf).max(axis=1)
    moves = highest > np.where(known, panel.values, np.inf).min(axis=1)
    return np.flatnonzero(enough & there & moves)


def _ask(trees: tuple[Trees, ...], panel: MinutePanel, name: str, rows: Rows) -> Floats:
    """Forecast with one base, in shares of the level (rows x levels)."""
    base = _base(panel, name, *rows)
    columns = _columns(panel, *rows, base)
    moved = base[:, None] + np.column_stack([tree.predict(columns) for tree in trees])
    return tidy(moved) ** 2


def _base(panel: MinutePanel, name: str, series: Ints, origin: Ints, step: Ints) -> Floats:
    """Return what the trees correct, on the scale of the root."""
    past, last = panel.past, np.nan_to_num(panel.past.last[series, origin])
    if name == "last":
        return np.sqrt(last)
    mean = past.mean(series, origin, panel.hour)
    moves = np.stack([_moved(panel, series, origin, step, day * panel.day) for day in range(1, USUAL_DAYS + 1)])
    move = np.nan_to_num(known_mean(moves, axis=0))
    return np.sqrt(np.maximum(0.0, np.where(np.isnan(mean), last, mean) + move))


def _moved(panel: MinutePanel, series: Ints, origin: Ints, step: Ints, back: int) -> Floats:
    """Return how demand moved at this time so many steps ago; NaN where that was not observed."""
    about = origin + step - back + panel.hour // 2
    seen = origin - back >= panel.hour
    then = panel.past.mean(series, np.clip(about, 0, panel.steps - 1), panel.hour)
    return np.where(seen, then - panel.past.mean(series, np.maximum(origin - back, 0), panel.hour), np.nan)


def _columns(panel: MinutePanel, series: Ints, origin: Ints, step: Ints, base: Floats) -> NDArray[np.float32]:
    """Return the features, all known at the origin; demand as its difference from the base (rows x features)."""
    target, half = origin + step, max(1, panel.hour // 2)
    clock = (panel.start - panel.start.replace(hour=0, minute=0, second=0, microsecond=0)) / panel.step
    widths = (3, half, panel.hour, 3 * panel.hour, 6 * panel.hour, panel.day)
    days = [_near(panel, series, target - back * panel.day) for back in (1, USUAL_DAYS)]
    columns = [
        step.astype(np.float64),
        (target + clock) % panel.day / panel.hour,
        base,
        *(panel.rooted.at(series, origin - lag) - base for lag in range(4)),
        *(np.sqrt(panel.past.mean(series, origin, width)) - base for width in widths),
        *(day - base for day in days),
        days[0] - _near(panel, series, origin - panel.day),
        panel.rooted.spread(series, origin, panel.hour),
        panel.rooted.spread(series, origin, panel.day),
    ]
    return np.column_stack(columns).astype(np.float32)


def _near(panel: MinutePanel, series: Ints, step: Ints) -> Floats:
    """Return the mean of the half hour about a step of the past, on the scale of the root; NaN before the first."""
    width = 2 * max(1, panel.hour // 4) + 1
    mean = panel.past.mean(series, np.maximum(step + width // 2, 0), width)
    return np.where(step >= 0, np.sqrt(mean), np.nan)
