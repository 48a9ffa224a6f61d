"""Days to months ahead: growth by tenant or accelerator with intervals, and the day on which a pool is full.

The method is in docs/outlook.md. On the sample (45 origins, 42 days ahead) it lost 7.3 % WQL where AutoETS lost 9.4,
AutoTheta 10.6 and AutoARIMA 7.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import polars as pl

from gangplan import pages
from gangplan.errors import InputError
from gangplan.forecast.series import DAY, Floats, Ints, Panel, known_mean
from gangplan.types import QUANTILES, SERIES

DAYS = 90
WINDOW = 84
LEAST_DAYS = 28
PATHS = 400
TARGET = "target"
TOTAL = "all"
_WEEK = 7  # days
_FLOOR = 0.02  # of the mean: below it logs would tell of nothing but noise
_BAND = (0.1, 0.5, 0.9)
_MOST_CHARTS = 7
_PAST_DAYS = 120


@dataclass(frozen=True, kw_only=True)
class Trend:
    """A group's past days and its paths ahead, in GPUs.

    past : of each past day.
    paths : draws x days, with the noise of single days.
    smooth : draws x days, without that noise, at the level of the week's busiest day.
    rates : growth per day in logs, by draw.
    target : the path to a target that was announced, day by day; none without one.
    """

    name: str
    today: date
    past: Floats
    paths: Floats
    smooth: Floats
    rates: Floats
    target: Floats | None = None

    @property
    def quantiles(self) -> Floats:
        """Days x levels of `types.QUANTILES`."""
        levels: Floats = np.quantile(self.paths, QUANTILES, axis=0)
        return levels.T

    @property
    def per_month(self) -> tuple[float, float, float]:
        """Growth of 30 days as a share, at 10, 50 and 90 %."""
        low, middle, high = (float(np.expm1(30 * rate)) for rate in np.quantile(self.rates, _BAND))
        return low, middle, high


@dataclass(frozen=True, kw_only=True)
class CapacityDate:
    """When a capacity is reached in 10, 50 and 90 % of the paths; None where that lies beyond the days looked at.

    `busiest_now` is the usual busiest hour of the week's busiest day, in GPUs.
    """

    name: str
    capacity: float
    busiest_now: float = 0.0
    early: date | None = None
    middle: date | None = None
    late: date | None = None


def forecast_growth(
    panel: Panel, *, by: str = "tenant", days: int = DAYS, announced: pl.DataFrame | None = None, seed: int = 7
) -> tuple[Trend, ...]:
    """Forecast the daily mean GPUs of each tenant (or accelerator, or class) and of all, the largest first.

    Each tenant's newest target in `announced` (`tables.ANNOUNCED`) gives the trend its `target`.

    Raises
    ------
    InputError
        When `by` names no column of a series, or there are fewer than 28 days.
    """
    # A series' day counts as unknown with less than half of it known.
    means = np.stack([_filled(mean) for mean in known_mean(_whole_days(panel), axis=2, above=DAY // 2 - 1)])
    past = {name: means[rows].sum(axis=0) for name, rows in _groups(panel, by).items()}
    trends = _trends(panel, past, days, seed)
    targets: dict[str, tuple[date, date, float]] = {}
    if announced is not None and by == "tenant":
        rows = announced.filter(pl.col("kind") == TARGET).sort("start").select("tenant", "start", "end", "growth")
        targets = {tenant or TOTAL: (start.date(), end.date(), share) for tenant, start, end, share in rows.iter_rows()}
    ordered = (_sum(trends), *sorted(trends, key=_size, reverse=True))
    return tuple(_with_target(trend, targets.get(trend.name)) for trend in ordered)


def when_full(panel: Panel, capacity: dict[str, float], *, days: int = 365, seed: int = 7) -> tuple[CapacityDate, ...]:
    """Say when the usual busiest hour of the day reaches each accelerator's capacity (GPUs).

    An accelerator that nobody asked for is never full.
    """
    groups = {name: rows for name, rows in _groups(panel, "accelerator").items() if name in capacity}
    trends = _trends(panel, _busiest(panel, groups), days, seed) if groups else ()
    full = [_full(trend, capacity[trend.name]) for trend in trends]
    never = [CapacityDate(name=name, capacity=gpus) for name, gpus in capacity.items() if name not in groups]
    return tuple(sorted((*full, *never), key=lambda date: date.name))


def draw_growth(trends: tuple[Trend, ...]) -> bytes:
    """Draw the total and the largest groups below one another, as a PNG: the last months, the fan ahead, the target."""
    shown = trends[:_MOST_CHARTS]
    with pages.style():
        figure, panels = pages.new_panels(len(shown), 9, 0.5 + 1.9 * len(shown))
        for trend, axes in zip(shown, panels, strict=True):
            _draw_trend(axes, trend)
        panels[0].legend(ncols=5, loc="upper left")
        return pages.to_png(figure)


def _draw_trend(axes: pages.Axes, trend: Trend) -> None:
    past, blue = trend.past[-_PAST_DAYS:], pages.LIGHT["fan"]
    days = np.datetime64(trend.today) + 1 + np.arange(-past.size, trend.paths.shape[1], dtype="timedelta64[D]")
    ahead, levels = days[past.size :], dict(zip(QUANTILES, trend.quantiles.T, strict=True))
    axes.plot(days[: past.size], past, color=pages.LIGHT["ink"], linewidth=0.9, label="mean of the day")
    pages.band(axes, ahead, levels[0.1], levels[0.9], "fan", 0.25, label="8 of 10 cases")
    axes.plot(ahead, levels[0.95], color=blue, linewidth=0.7, linestyle=":", label="95 %")
    axes.plot(ahead, levels[0.5], color=blue, label="median")
    if trend.target is not None:
        axes.plot(ahead, trend.target, color=pages.LIGHT["c2"], linestyle="--", label="target")
    low, middle, high = trend.per_month
    name = "all together" if trend.name == TOTAL else trend.name
    axes.set(ylabel="GPUs", title=f"{name}: {middle:+.1%} a month ({low:+.1%} to {high:+.1%})")
    axes.set_ylim(0, 1.05 * max(float(past.max()), float(levels[0.95].max())))
    pages.time_axis(axes, ticks=12)


def _full(trend: Trend, capacity: float) -> CapacityDate:
    """Find the first day of each path that reaches the capacity (GPUs)."""
    reached = trend.smooth >= capacity
    first = np.where(reached.any(axis=1), reached.argmax(axis=1).astype(np.float64), np.inf)
    days = [float(np.quantile(first, level, method="higher")) for level in _BAND]
    early, middle, late = (trend.today + timedelta(days=1 + int(day)) if np.isfinite(day) else None for day in days)
    busiest = float(np.median(trend.smooth[:, 0]))
    return CapacityDate(name=trend.name, capacity=capacity, busiest_now=busiest, early=early, middle=middle, late=late)


def _groups(panel: Panel, by: str) -> dict[str, Ints]:
    names = np.array(names_by(panel, by))
    return {str(name): np.flatnonzero(names == name).astype(np.int64) for name in np.unique(names)}


def names_by(panel: Panel, by: str) -> list[str]:
    """Return each series' tenant, workload class or accelerator; refuse a `by` that is no column of a series."""
    if by not in SERIES:
        raise InputError.unknown("by", by, "no column of a series", SERIES)
    return [key[SERIES.index(by)] for key in panel.keys]


def _whole_days(panel: Panel) -> Floats:
    """The panel's last whole days (series x days x hours)."""
    count = panel.hours // DAY
    if count < LEAST_DAYS:
        raise InputError("demand", f"{count} days", f"is too little to tell growth: import at least {LEAST_DAYS} days")
    return panel.values[:, panel.hours - count * DAY :].reshape(len(panel.keys), count, DAY)


def _busiest(panel: Panel, groups: dict[str, Ints]) -> dict[str, Floats]:
    """Return the busiest hour of each day of each group."""
    days = _whole_days(panel)
    seen = {name: (~np.isnan(days[rows]).all(axis=0)).sum(axis=1) >= DAY // 2 for name, rows in groups.items()}
    peaks = {name: np.nansum(days[rows], axis=0).max(axis=1) for name, rows in groups.items()}
    return {name: _filled(np.where(seen[name], peak, np.nan)) for name, peak in peaks.items()}


def _filled(values: Floats) -> Floats:
    """Fill unknown days by straight lines; a series that begins late asked for nothing before."""
    known = np.flatnonzero(~np.isnan(values))
    return np.interp(np.arange(values.size), known, values[known], left=0.0) if known.size else np.zeros(values.size)


def _trends(panel: Panel, past: dict[str, Floats], days: int, seed: int) -> tuple[Trend, ...]:
    """Draw the paths of each group from its past days; all draw the same weeks."""
    length = min(WINDOW, next(iter(past.values())).size)
    rng = np.random.default_rng(seed)
    weeks = rng.integers(0, length - _WEEK + 1, (PATHS, -(-length // _WEEK)))
    steps = rng.integers(0, length // _WEEK - 1, (PATHS, -(-days // _WEEK)))
    stray = rng.integers(0, length, (PATHS, days))
    return tuple(_trend(name, values, panel, (weeks, steps, stray)) for name, values in past.items())


def _trend(name: str, past: Floats, panel: Panel, draws: tuple[Ints, Ints, Ints]) -> Trend:
    weeks, steps, stray = draws
    floor = _FLOOR * max(float(past.mean()), 1e-9)
    logs = np.log(np.maximum(past, floor))[-WINDOW:]
    time: Ints = np.arange(logs.size, dtype=np.int64)
    ahead: Ints = np.arange(1, stray.shape[1] + 1, dtype=np.int64)
    shape = _week_shape(logs)
    level = logs - shape[time % _WEEK]
    early, late = np.triu_indices(level.size, 1)
    slope = float(np.median((level[late] - level[early]) / (late - early)))  # Sen, JASA 63 (1968)
    rest = level - slope * time
    base = float(np.median(rest[-2 * _WEEK :])) + slope * time[-1]
    slopes = slope + _strays_of_slope(rest - np.median(rest), time, weeks)
    smooth = base + slopes[:, None] * ahead + _wander(level, steps)[:, : ahead.size]
    noise = (rest - np.median(rest))[stray]
    return Trend(
        name=name,
        today=panel.end.date() - timedelta(days=1),
        past=past,
        paths=np.exp(smooth + noise + shape[(time[-1] + ahead) % _WEEK]),
        smooth=np.exp(smooth + max(0.0, float(shape.max()))),
        rates=slopes,
    )


def _week_shape(logs: Floats) -> Floats:
    """Return how far each day of the week lies from the mean of the seven days about it (median, in logs)."""
    about = np.convolve(logs, np.ones(_WEEK) / _WEEK, "valid")
    apart, day = logs[3 : 3 + about.size] - about, np.arange(3, 3 + about.size) % _WEEK
    shape = np.array([float(np.median(apart[day == weekday])) for weekday in range(_WEEK)], dtype=np.float64)
    return shape - shape.mean()


def _strays_of_slope(rest: Floats, time: Ints, weeks: Ints) -> Floats:
    """Return how far the slope of each draw of whole weeks lies from the fitted one."""
    places = (weeks[:, :, None] + np.arange(_WEEK)).reshape(weeks.shape[0], -1)[:, : rest.size]
    about = time - time.mean()
    return (rest[places] * about).sum(axis=1) / float((about**2).sum())


def _wander(level: Floats, steps: Ints) -> Floats:
    """Draw the level's random walk by day from steps of the weekly means; half of their variance is single days'."""
    weekly = level[level.size % _WEEK :].reshape(-1, _WEEK).mean(axis=1)
    moved = np.sqrt(0.5) * (np.diff(weekly) - np.diff(weekly).mean())
    within = np.diff(np.sqrt(np.arange(_WEEK + 1) / _WEEK))
    return np.cumsum((moved[steps][:, :, None] * within).reshape(steps.shape[0], -1), axis=1)


def _sum(trends: tuple[Trend, ...]) -> Trend:
    """Add the groups' paths: each draw is one future of all."""
    sizes = np.array([_size(trend) for trend in trends])
    rates = np.sum([size * trend.rates for size, trend in zip(sizes, trends, strict=True)], axis=0)
    total = {name: np.sum([getattr(trend, name) for trend in trends], axis=0) for name in ("past", "paths", "smooth")}
    return Trend(name=TOTAL, today=trends[0].today, rates=rates / max(float(sizes.sum()), 1e-9), **total)


def _with_target(trend: Trend, target: tuple[date, date, float] | None) -> Trend:
    """Add the path to a target to a trend: steady growth from the level at the target's start until its end."""
    if target is None:
        return trend
    begun, ended, share = target
    first = trend.today - timedelta(days=trend.past.size - 1)
    place = min(max((begun - first).days, 0), trend.past.size - 1)
    level = float(trend.past[max(0, place - 3) : place + 4].mean())
    length = max(1, (ended - first).days - place)
    passed: Ints = trend.past.size - 1 - place + np.arange(1, trend.paths.shape[1] + 1, dtype=np.int64)
    return replace(trend, target=level * (1 + share) ** np.minimum(passed / length, 1.0))


def _size(trend: Trend) -> float:
    """The mean of a group's last week."""
    return float(trend.past[-_WEEK:].mean())
