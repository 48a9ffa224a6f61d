"""Features of the trees, and the bases that they correct: forecasts from the cycle of days and weeks alone.

For a series, an origin and a horizon, features are numbers that were all known at the origin. Each value
of demand enters as its difference from the base, in units of the series' level, so that one set of trees serves all
series. Only the calendar and the events that are known ahead look past the origin.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan.forecast.models.naive import between_knots, knots_of, late_mean
from gangplan.forecast.series import DAY, WEEK, Floats, Ints, Panel, carried_forward, known_mean, ratio

LAGS = (0, 1, 2, 3, 6, 12, 24, 48, 72, 168)
MEANS = (3, 6, 12, 24, 72, 168, 336, 672)
SPREADS = (24, 168)
MAX_KINDS = 6
_SINCE_LIMIT = WEEK
_HALF_LIFE_DAYS = 4.0
_RECENT = 0.2
_MOVED = 0.5
_LOSS_HOURS = 2 * WEEK
_LOSS_STEP = 5  # hours between the targets that are looked at: in five days all hours of the day


@dataclass(frozen=True, kw_only=True)
class History:
    """A panel's past with running sums, from which features of many origins are gathered at once."""

    panel: Panel
    kinds: tuple[str, ...] = ()
    reach: int = 0  # hours past the panel's end that events are laid out for

    @cached_property
    def values(self) -> Floats:
        """The panel's demand; a missing hour is NaN."""
        return self.panel.values

    @cached_property
    def last(self) -> Floats:
        """Demand with missing hours filled from the last known one before."""
        return carried_forward(self.values)

    @cached_property
    def _sums(self) -> tuple[Floats, Floats, Floats]:
        """Running sums of demand, its square and the observed hours, each with a zero in front."""
        observed = ~np.isnan(self.values)
        filled = np.where(observed, self.values, 0.0)
        return _running(filled), _running(filled**2), _running(observed.astype(np.float64))

    @cached_property
    def _changes(self) -> tuple[tuple[Floats, Floats], ...]:
        """Running sums and counts of |y(t) - y(t - lag)| for one hour, a day and a week."""
        sums: list[tuple[Floats, Floats]] = []
        for lag in (1, DAY, WEEK):
            change = np.full_like(self.values, np.nan)
            change[:, lag:] = np.abs(self.values[:, lag:] - self.values[:, :-lag])
            known = ~np.isnan(change)
            sums.append((_running(np.where(known, change, 0.0)), _running(known.astype(np.float64))))
        return tuple(sums)

    @cached_property
    def events(self) -> tuple[Floats, Floats]:
        """For each kind: whether one is on, and hours since the last began (kinds x series x hours)."""
        hours = self.panel.hours + self.reach
        shape = (len(self.kinds), len(self.panel.keys), hours)
        on, since = np.zeros(shape), np.full(shape, np.nan)
        for start, end, kind, tenant in self.panel.events.sort("start").iter_rows():
            if kind in self.kinds:
                place, rows = self.kinds.index(kind), self.panel.rows_of(tenant)
                first, after = self.panel.span(start, end)
                on[place, rows, max(0, first) : max(0, first + 1, after)] = 1.0
                week = np.arange(max(0, first), max(0, min(first + _SINCE_LIMIT, hours)))
                since[place, np.array(rows, dtype=np.int64)[:, None], week] = week - first
        return on, since

    def at(self, series: Ints, hour: Ints) -> Floats:
        """Demand at those hours; NaN before the panel begins."""
        return np.where(hour >= 0, self.values[series, np.maximum(hour, 0)], np.nan)

    def mean(self, series: Ints, hour: Ints, width: int) -> Floats:
        """Mean of the observed among the `width` hours that end with `hour`."""
        total, _, count = self._sums
        low = np.maximum(hour + 1 - width, 0)
        return ratio(total[series, hour + 1] - total[series, low], count[series, hour + 1] - count[series, low])

    def spread(self, series: Ints, hour: Ints, width: int) -> Floats:
        """Standard deviation of the observed among the `width` hours that end with `hour`."""
        _, squares, count = self._sums
        low = np.maximum(hour + 1 - width, 0)
        known = count[series, hour + 1] - count[series, low]
        mean_square = ratio(squares[series, hour + 1] - squares[series, low], known)
        return np.sqrt(np.maximum(0.0, mean_square - self.mean(series, hour, width) ** 2))

    def changes(self, series: Ints, hour: Ints) -> list[Floats]:
        """How much demand moved of late from hour to hour, day to day and week to week (mean of 28 days)."""
        low = np.maximum(hour + 1 - 672, 0)
        return [
            ratio(total[series, hour + 1] - total[series, low], count[series, hour + 1] - count[series, low])
            for total, count in self._changes
        ]


def build(
    history: History, series: Ints, origin: Ints, horizon: Ints, base: Floats
) -> tuple[list[str], NDArray[np.float32]]:
    """Return the names of the features, and the features (rows x names).

    `history` has demand in units of each series' level. Given row by row: the series, the last observed hour, how many
    hours after it the target lies (from 1), and the base that the trees correct.
    """
    absolute = origin + horizon + history.panel.start.hour
    change_hour, change_day, change_week = history.changes(series, origin)
    columns: dict[str, Floats | Ints] = {
        "horizon": horizon,
        "hour_of_day": absolute % DAY,
        "day_of_week": (absolute // DAY + history.panel.start.weekday()) % 7,
        "base": base,
        **{f"lag_{lag}": history.at(series, origin - lag) - base for lag in LAGS},
        **{f"mean_{width}": history.mean(series, origin, width) - base for width in MEANS},
        **{f"spread_{width}": history.spread(series, origin, width) for width in SPREADS},
        "change_hour": change_hour,
        "change_day": change_day,
        "change_week": change_week,
        **{name: value - base for name, value in _same_hour(history, series, origin, horizon).items()},
        **_steps(history, series, origin, horizon),
        **_events(history, series, origin, horizon),
    }
    return list(columns), np.column_stack(list(columns.values())).astype(np.float32)


def choose_kinds(events: pl.DataFrame) -> tuple[str, ...]:
    """Return the kinds of events with the most hours, at most `MAX_KINDS`."""
    length = (pl.col("end") - pl.col("start")).dt.total_minutes().sum()
    ranked = events.group_by("kind").agg(length.alias("length")).sort(["length", "kind"], descending=[True, False])
    return tuple(ranked["kind"].head(MAX_KINDS))


def _same_hour(history: History, series: Ints, origin: Ints, horizon: Ints) -> dict[str, Floats]:
    """Return demand at the target's hour of earlier days and weeks that the origin knows."""
    target = origin + horizon
    days = [history.at(series, target - back(horizon, DAY) - DAY * step) for step in range(7)]
    weeks = [history.at(series, target - back(horizon, WEEK) - WEEK * step) for step in range(4)]
    return {
        "same_hour_1_day": days[0],
        "same_hour_2_days": days[1],
        "same_hour_7_days_mean": known_mean(np.stack(days), axis=0),
        "same_hour_1_week": weeks[0],
        "same_hour_2_weeks": weeks[1],
        "same_hour_4_weeks_mean": known_mean(np.stack(weeks), axis=0),
    }


def _steps(history: History, series: Ints, origin: Ints, horizon: Ints) -> dict[str, Floats]:
    """Return how demand moved from the origin's hour to the target's, on earlier days and weeks."""
    target = origin + horizon

    def step(period: int, earlier: int) -> Floats:
        hours = back(horizon, period) + period * earlier
        return history.at(series, target - hours) - history.at(series, origin - hours)

    weeks = [step(WEEK, earlier) for earlier in range(4)]
    mean = known_mean(np.stack(weeks), axis=0)
    return {"step_yesterday": step(DAY, 0), "step_last_week": weeks[0], "step_4_weeks_mean": mean}


def _events(history: History, series: Ints, origin: Ints, horizon: Ints) -> dict[str, Floats]:
    """Return, for each kind: on at the target, on at the origin, hours since it began at the target."""
    on, since = history.events
    columns: dict[str, Floats] = {}
    for place, kind in enumerate(history.kinds):
        # in characters that LightGBM accepts; the place keeps it unique
        name = f"event_{place}_{re.sub(r'[^A-Za-z0-9]+', '_', kind).strip('_')}"
        columns[f"{name}_at_target"] = on[place, series, origin + horizon]
        columns[f"{name}_at_origin"] = on[place, series, origin]
        columns[f"{name}_since"] = since[place, series, origin + horizon]
    return columns


def back(horizon: Ints, period: int) -> Ints:
    """Return the hours of the fewest whole periods that lead from the target back to what the origin knows."""
    return -(-horizon // period) * period


def _running(values: Floats) -> Floats:
    """Running sums along the hours, with a zero in front."""
    return np.concatenate([np.zeros((values.shape[0], 1)), np.cumsum(values, axis=1)], axis=1)


Profile = Callable[[History, Ints, Ints, Ints], Floats]


@dataclass(frozen=True, kw_only=True)
class Correction:
    """A base and the scale on which trees correct it; on that of the root, busy hours count less beside quiet ones."""

    profile: Profile
    root: bool

    def forward(self, values: Floats) -> Floats:
        """Bring demand (in units of its level) to the scale."""
        return np.sqrt(values) if self.root else values

    def backward(self, values: Floats) -> Floats:
        """Bring it back."""
        return np.maximum(values, 0.0) ** 2 if self.root else values


def recent_days(history: History, series: Ints, origin: Ints, horizon: Ints) -> Floats:
    """Half the same hour's mean over seven days, where recent ones weigh more, half last week's same hour."""
    days, week = _days(history, series, origin, horizon), _week(history, series, origin, horizon)
    return _first_known((days + week) / 2, days, week, history.last[series, origin])


def last_week(history: History, series: Ints, origin: Ints, horizon: Ints) -> Floats:
    """Mostly last week's same hour, moved by half the change of level since then."""
    then = np.where(origin >= WEEK, history.mean(series, np.maximum(origin - WEEK, 0), DAY), np.nan)
    change = np.nan_to_num(history.mean(series, origin, DAY) - then)
    days = _days(history, series, origin, horizon)
    moved = _week(history, series, origin, horizon) + _MOVED * change
    return _first_known(_RECENT * days + (1 - _RECENT) * moved, days, moved, history.last[series, origin])


CORRECTIONS = (
    Correction(profile=recent_days, root=True),
    Correction(profile=recent_days, root=False),
    Correction(profile=last_week, root=True),
)
"""Their forecasts are averaged; none is chosen."""


def late_losses(histories: tuple[History, ...], series: Ints, horizon: int) -> Floats:
    """Return the recent absolute error of the mean of all profiles, uncorrected (series x horizon, in levels)."""
    knots, hours = knots_of(horizon), histories[0].panel.hours
    target = np.arange(hours - 1, max(DAY, hours - 1 - _LOSS_HOURS), -_LOSS_STEP)[::-1]
    grid = np.meshgrid(series, knots, target, indexing="ij")
    seen = grid[2] - grid[1] >= DAY
    rows, steps, came = (axis[seen] for axis in grid)
    profile = np.zeros(rows.size)
    for correction, history in zip(CORRECTIONS, histories, strict=True):
        base = correction.profile(history, rows, came - steps, steps)
        profile += correction.backward(base) / len(CORRECTIONS)
    lost = np.full(seen.shape, np.nan)
    lost[seen] = np.abs(CORRECTIONS[0].backward(histories[0].values[rows, came]) - profile)
    means = late_mean(lost.reshape(-1, target.size), _LOSS_STEP)
    return between_knots(horizon, means.reshape(series.size, knots.size, 1))[:, :, 0]


def _days(history: History, series: Ints, origin: Ints, horizon: Ints) -> Floats:
    """The same hour's weighted mean over the seven days before the origin."""
    newest = origin + horizon - back(horizon, DAY)
    total, weights = np.zeros(series.size), np.zeros(series.size)
    for day in range(7):
        value = history.at(series, newest - DAY * day)
        weight = 2.0 ** (-day / _HALF_LIFE_DAYS) * ~np.isnan(value)
        total += np.nan_to_num(value) * weight
        weights += weight
    return ratio(total, weights)


def _week(history: History, series: Ints, origin: Ints, horizon: Ints) -> Floats:
    """The same hour a week before, or more weeks where that is not known yet."""
    return history.at(series, origin + horizon - back(horizon, WEEK))


def _first_known(*candidates: Floats) -> Floats:
    """Take, row by row, the first candidate that is known."""
    chosen = candidates[0]
    for other in candidates[1:]:
        chosen = np.where(np.isnan(chosen), other, chosen)
    return chosen
