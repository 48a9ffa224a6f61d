"""Demand of months to come: typical weeks, and paths of growth that multiply them.

A typical week is one that happened (the middle one of its kind, by k-medoids): hours and series keep what they have in
common, which a mean week would lose. How often each kind came is its weight. A path says how large each month is.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import combinations, pairwise

import numpy as np

from gangplan.errors import InputError
from gangplan.plan.problem import Array, Series

WEEK = 168
KEPT_WEEKS = 12
"""So many of the last weeks are looked at for typical ones."""

_GRAIN = 6  # hours that are put together where weeks are compared: their shape counts, not single hours


@dataclass(frozen=True, kw_only=True, eq=False)
class LongDemand:
    """GPUs asked for, month by month: `means` times a typical week.

    start : the first day. weeks : shape (typical weeks, series, 168), from Monday 00:00 UTC, in GPUs for each GPU of
    `means`. weights : the share of all weeks that are like each. means : GPUs, shape (paths, series, months).
    """

    start: date
    series: tuple[Series, ...]
    weeks: Array
    weights: Array
    means: Array

    def __post_init__(self) -> None:
        for name in ("weeks", "weights", "means"):
            values = getattr(self, name)
            if not np.isfinite(values).all() or (values < 0).any():
                raise InputError(f"demand.{name}", "", "must be finite numbers of at least 0: mend the demand")

    @property
    def months(self) -> int:
        """How many months it looks ahead."""
        return self.means.shape[2]

    @property
    def edges(self) -> tuple[date, ...]:
        """The first day of each month, and the day after the last."""
        return tuple(add_months(self.start, month) for month in range(self.months + 1))

    @property
    def hours(self) -> Array:
        """Hours in each month."""
        edges = self.edges
        return np.array([(after - day).days * 24.0 for day, after in pairwise(edges)])


def add_months(day: date, months: int) -> date:
    """Return the same day so many months later, or that month's last."""
    years, month = divmod(day.month - 1 + months, 12)
    year = day.year + years
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def typical_weeks(values: Array, start: datetime, groups: Sequence[int], count: int) -> tuple[Array, Array]:
    """Find the weeks that stand best for the last ones, and the share of weeks that each stands for.

    Parameters
    ----------
    values : GPUs asked for, shape (series, hours), NaN where unknown, from `start` on
    groups : the group of each series; each group's mean is 1 in every week that is returned

    Raises
    ------
    InputError
        There is no whole week from a Monday on.
    """
    weeks = _whole_weeks(values, start)
    member = np.array(groups)[:, None] == np.arange(max(groups) + 1)
    level = np.einsum("wsh,sg->wg", weeks, member.astype(float)) / WEEK
    scale = np.divide(1.0, level, out=np.zeros_like(level), where=level > 0)
    scaled = weeks * scale[:, list(groups), None]
    shape = np.einsum("wsh,sg->wgh", scaled, member.astype(float)).reshape(len(weeks), -1, WEEK // _GRAIN, _GRAIN)
    apart = np.abs(shape.mean(axis=-1)[:, None] - shape.mean(axis=-1)[None]).sum(axis=(2, 3))
    chosen = min(
        combinations(range(len(weeks)), min(count, len(weeks))), key=lambda some: apart[:, list(some)].min(axis=1).sum()
    )
    nearest = apart[:, list(chosen)].argmin(axis=1)
    return scaled[list(chosen)], np.bincount(nearest, minlength=len(chosen)) / len(weeks)


def _whole_weeks(values: Array, start: datetime) -> Array:
    """Cut the last whole weeks, Monday to Sunday; an unknown hour is what the same hour of other weeks was."""
    first = (7 - start.weekday()) % 7 * 24 - start.hour
    first += WEEK if first < 0 else 0
    count = min(KEPT_WEEKS, (values.shape[1] - first) // WEEK)
    if count < 1:
        raise InputError(
            "demand", f"{values.shape[1]} hours", "has no whole week from a Monday on: import at least two weeks"
        )
    end = first + (values.shape[1] - first) // WEEK * WEEK
    weeks = values[:, end - count * WEEK : end].reshape(len(values), count, WEEK).swapaxes(0, 1)
    known = ~np.isnan(weeks)
    usual = np.where(known, weeks, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, weeks, usual)


def monthly_paths(daily: Array, start: date, months: int, count: int) -> Array:
    """Turn drawn days into equally likely paths of months: those draws that stand evenly from low to high growth.

    Parameters
    ----------
    daily : GPUs, shape (draws, groups, days), the first day being `start`

    Returns
    -------
    GPUs, shape (count, groups, months)
    """
    places = [(add_months(start, month) - start).days for month in range(months + 1)]
    if daily.shape[2] < places[-1]:
        raise InputError("months", months, f"is further ahead than the {daily.shape[2]} days of the forecast")
    means = np.stack([daily[:, :, a:b].mean(axis=2) for a, b in pairwise(places)], axis=2)
    order = means.sum(axis=(1, 2)).argsort(kind="stable")
    return means[order[[int((place + 0.5) / count * len(order)) for place in range(count)]]]


def days_of(start: date, months: int) -> int:
    """How many days so many months have."""
    return (add_months(start, months) - start) // timedelta(days=1)
