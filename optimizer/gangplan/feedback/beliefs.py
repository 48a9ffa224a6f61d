"""From a score to corrections: an empirical-Bayes step from the beliefs before, faded, towards what was found.

For each series and each factor, on the log scale: the beliefs before fade towards 1 with a half-life of 14 days; what
was found is moved towards by `signal / (signal + noise)`. The noise is known from the series' own errors and its number
of hours; the signal is the spread of the findings over all series beyond their noise (DerSimonian and Laird, 1986). A
forecast that was wrong by chance is thus left alone, and one that was wrong for many hours or many series is believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import NormalDist
from typing import Any

import polars as pl

from gangplan.tables import CORRECTIONS, conform, empty
from gangplan.types import SERIES

BAND = (0.5, 2.0)
"""No factor leaves this band, whatever was found."""
HALF_LIFE = timedelta(days=14)
"""After this time without news, half of a correction (on the log scale) is left."""
HOURS_ALIKE = 12
"""Errors of neighbouring hours are alike: this many count as one independent look."""
ORIGIN_SD = 0.05
"""Forecasts of one span come from one origin and miss together by about this much, however many hours there are."""
USUAL_SD = 0.2
"""The relative hourly error of a series that is not known yet; it weighs as much as a day of hours."""
_DAY = 24
_NO_ERROR = 1e-6
_WIDTH_NOISE = 0.79
"""Variance of the log 0.8 quantile of a half-normal from one look: 0.16 / (density x quantile)^2."""

Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Belief:
    """One series' factors and the hours behind them."""

    level: float = 1.0
    width: float = 1.0
    hours: float = 0.0


def correct(by_series: pl.DataFrame, *, before: pl.DataFrame, age: timedelta, applied: pl.DataFrame) -> pl.DataFrame:
    """Return the new corrections.

    Parameters
    ----------
    by_series
        The score's table (`SCORE_BY_SERIES`).
    before, age
        The corrections believed before (`CORRECTIONS`) and the time since their evidence ended.
    applied
        The corrections that the scored forecast held already: its remaining error comes on top of them.
    """
    faded = {key: _fade(belief, age) for key, belief in _as_beliefs(before).items()}
    held = _as_beliefs(applied)
    rows = by_series.to_dicts()
    keys = [_key(row) for row in rows]
    prior = [faded.get(key, Belief()) for key in keys]
    under = [held.get(key, Belief()) for key in keys]
    found = [one.level * _level_found(row) for one, row in zip(under, rows, strict=True)]
    levels = _update([one.level for one in prior], found, [_level_noise(row) for row in rows])
    believed = [_believed(one.level, to, new) for one, to, new in zip(under, found, levels, strict=True)]
    widths = _update(
        [one.width for one in prior],
        [one.width * _width_found(row, part) for one, row, part in zip(under, rows, believed, strict=True)],
        [_WIDTH_NOISE / _looks(row) for row in rows],
    )
    for key, level, width, old, row in zip(keys, levels, widths, prior, rows, strict=True):
        faded[key] = Belief(level=level, width=width, hours=old.hours + row["hours"])
    return _as_frame(faded)


def shrink(found: Sequence[float], noise: Sequence[float]) -> list[float]:
    """Move from 0 towards each finding by the share of it that is signal.

    `found` are deviations and `noise` their sampling variances; the signal's variance is estimated from all of them.
    """
    weights = [1 / variance for variance in noise]
    excess = sum(w * x * x for w, x in zip(weights, found, strict=True)) - len(found)
    signal = max(0.0, excess / sum(weights)) if weights else 0.0
    return [x * signal / (signal + variance) for x, variance in zip(found, noise, strict=True)]


def _update(prior: Sequence[float], found: Sequence[float], noise: Sequence[float]) -> list[float]:
    """Step from prior factors towards the found ones, on the log scale, within the band."""
    moved = shrink([math.log(new / old) for old, new in zip(prior, found, strict=True)], noise)
    return [min(max(old * math.exp(step), BAND[0]), BAND[1]) for old, step in zip(prior, moved, strict=True)]


def _level_found(row: dict[str, Any]) -> float:
    """What happened over the median, as a factor; a series near nothing says nothing."""
    median = row["mean_gpus"] + row["bias"]
    return _bounded(row["mean_gpus"] / median, 4) if median > 1e-9 else 1.0


def _level_noise(row: dict[str, Any]) -> float:
    """The sampling variance of the log ratio of happened to median."""
    relative = row["error_sd"] / max(row["mean_gpus"] + row["bias"], 1e-9)
    hourly = (_DAY * USUAL_SD**2 + row["hours"] * min(relative, 4.0) ** 2) / (_DAY + row["hours"])
    return hourly / _looks(row) + ORIGIN_SD**2


def _believed(held: float, found: float, new: float) -> float:
    """The share (0 to 1, log scale) of a forecast's level error that the new level takes away."""
    error = math.log(found / held)
    return 1.0 if abs(error) < _NO_ERROR else min(max(math.log(new / held) / error, 0.0), 1.0)


def _width_found(row: dict[str, Any], believed: float) -> float:
    """The width that would have held 80 % of hours once the believed share of the level error is gone.

    Error that is not believed to come again in the level has to be covered by the width: between the width with all of
    the error still there, read from the coverage, and that with none of it.
    """
    covered = (row["hours"] * row["coverage_80"] + _DAY * 0.8) / (row["hours"] + _DAY)
    as_it_was = NormalDist().inv_cdf(0.9) / NormalDist().inv_cdf((1 + min(max(covered, 0.05), 0.995)) / 2)
    levelled = math.log(_bounded(row["width"], 4))
    return math.exp(believed * levelled + (1 - believed) * math.log(_bounded(as_it_was, 4)))


def _looks(row: dict[str, Any]) -> float:
    """How many independent looks the hours of a series are worth."""
    return row["hours"] / HOURS_ALIKE


def _bounded(factor: float, most: float) -> float:
    """Keep a raw factor within [1/most, most], so that its logarithm is one."""
    return min(max(factor, 1 / most), most)


def _fade(belief: Belief, age: timedelta) -> Belief:
    """Let a belief go back towards 1."""
    left = 0.5 ** max(0.0, age / HALF_LIFE)
    return Belief(level=belief.level**left, width=belief.width**left, hours=belief.hours * left)


def _key(row: dict[str, Any]) -> Key:
    """The series of a row."""
    return tuple(row[name] for name in SERIES)


def _as_beliefs(corrections: pl.DataFrame) -> dict[Key, Belief]:
    """Read a table of corrections by series."""
    return {
        _key(row): Belief(level=row["level"], width=row["width"], hours=row["hours"]) for row in corrections.to_dicts()
    }


def _as_frame(beliefs: dict[Key, Belief]) -> pl.DataFrame:
    """Write a table of corrections, sorted by series."""
    rows = [
        {**dict(zip(SERIES, key, strict=True)), "level": one.level, "width": one.width, "hours": round(one.hours)}
        for key, one in sorted(beliefs.items())
    ]
    return conform("corrections", pl.DataFrame(rows), CORRECTIONS) if rows else empty(CORRECTIONS)
