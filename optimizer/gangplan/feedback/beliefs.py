"""From a score to corrections of the forecast, by empirical Bayes.

For each series there are two factors, one on the level and one on the width; all steps are on the logarithms. The
earlier factors fade towards 1 with a half-life of 14 days. They then move towards the measured factors by the share
`signal / (signal + noise)`. The noise follows from the series' own errors and its number of hours; the signal is the
variance of the measured factors over all series beyond their noise (DerSimonian and Laird, 1986). So one chance error
changes little, and errors in many hours or many series change much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import NormalDist
from typing import Any

import polars as pl

from gangplan.tables import CORRECTIONS
from gangplan.types import SERIES

BAND = (0.5, 2.0)
"""The smallest and the largest factor."""
HALF_LIFE = timedelta(days=14)
"""After this time without a new score, half of a correction (its logarithm) is left."""
HOURS_ALIKE = 12
"""Errors of neighbouring hours are similar, so this many hours count as one independent observation."""
ORIGIN_SD = 0.05
"""The relative error that all hours of a forecast share because they have one origin; more hours do not reduce it."""
USUAL_SD = 0.2
"""The relative hourly error of a new series; it counts as much as 24 measured hours."""
_DAY = 24
_NO_ERROR = 1e-6
_WIDTH_NOISE = 0.79
"""The variance of the logarithm of a half-normal's 0.8 quantile from one observation: 0.16 / (density x quantile)^2."""

Key = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Belief:
    """The factors of one series, and the number of hours that they were learned from."""

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
        The earlier corrections (`CORRECTIONS`), and the time since the end of the span that they were learned from.
    applied
        The corrections that the scored forecast already had; its remaining error comes on top of them.
    """
    faded = {key: _fade(belief, age) for key, belief in _as_beliefs(before).items()}
    held = _as_beliefs(applied)
    rows = by_series.to_dicts()
    prior = [faded.get(_key(row), Belief()) for row in rows]
    under = [held.get(_key(row), Belief()) for row in rows]
    measured = [belief.level * _level_ratio(row) for belief, row in zip(under, rows, strict=True)]
    levels = _update([belief.level for belief in prior], measured, [_level_noise(row) for row in rows])
    shares = [_share_removed(belief.level, to, new) for belief, to, new in zip(under, measured, levels, strict=True)]
    widths = _update(
        [belief.width for belief in prior],
        [belief.width * _width_ratio(row, share) for belief, row, share in zip(under, rows, shares, strict=True)],
        [_WIDTH_NOISE / _observations(row) for row in rows],
    )
    for row, level, width, old in zip(rows, levels, widths, prior, strict=True):
        faded[_key(row)] = Belief(level=level, width=width, hours=old.hours + row["hours"])
    corrections = [(*key, belief.level, belief.width, round(belief.hours)) for key, belief in sorted(faded.items())]
    return pl.DataFrame(corrections, schema=CORRECTIONS, orient="row")


def shrink(deviations: Sequence[float], noise: Sequence[float]) -> list[float]:
    """Return the part of each deviation that is signal; `noise` are the sampling variances of the deviations.

    The variance of the signal is estimated from all deviations together.
    """
    weights = [1 / variance for variance in noise]
    excess = sum(w * x * x for w, x in zip(weights, deviations, strict=True)) - len(deviations)
    signal = max(0.0, excess / sum(weights)) if weights else 0.0
    return [x * signal / (signal + variance) for x, variance in zip(deviations, noise, strict=True)]


def _update(prior: Sequence[float], measured: Sequence[float], noise: Sequence[float]) -> list[float]:
    """Move the prior factors towards the measured ones, by logarithms, within the band."""
    moved = shrink([math.log(new / old) for old, new in zip(prior, measured, strict=True)], noise)
    return [min(max(old * math.exp(step), BAND[0]), BAND[1]) for old, step in zip(prior, moved, strict=True)]


def _level_ratio(row: dict[str, Any]) -> float:
    """Return demand / forecast median; 1 for a series with next to no demand."""
    median = row["mean_gpus"] + row["bias"]
    return _bounded(row["mean_gpus"] / median, 4) if median > 1e-9 else 1.0


def _level_noise(row: dict[str, Any]) -> float:
    """Return the sampling variance of the logarithm of demand / forecast median."""
    relative = row["error_sd"] / max(row["mean_gpus"] + row["bias"], 1e-9)
    hourly = (_DAY * USUAL_SD**2 + row["hours"] * min(relative, 4.0) ** 2) / (_DAY + row["hours"])
    return hourly / _observations(row) + ORIGIN_SD**2


def _share_removed(held: float, measured: float, new: float) -> float:
    """Return the share (0 to 1, of the logarithm) of a forecast's level error that the new level removes."""
    error = math.log(measured / held)
    return 1.0 if abs(error) < _NO_ERROR else min(max(math.log(new / held) / error, 0.0), 1.0)


def _width_ratio(row: dict[str, Any], removed: float) -> float:
    """Return the factor on the width with which 80 % of the hours would have been covered.

    The new level removes a share of the level error; the width must cover the rest. So the factor is between that for
    the whole level error, which follows from the coverage, and that for none.
    """
    covered = (row["hours"] * row["coverage_80"] + _DAY * 0.8) / (row["hours"] + _DAY)
    as_it_was = NormalDist().inv_cdf(0.9) / NormalDist().inv_cdf((1 + min(max(covered, 0.05), 0.995)) / 2)
    levelled = math.log(_bounded(row["width"], 4))
    return math.exp(removed * levelled + (1 - removed) * math.log(_bounded(as_it_was, 4)))


def _observations(row: dict[str, Any]) -> float:
    """Return the number of independent observations in the hours of a series."""
    return row["hours"] / HOURS_ALIKE


def _bounded(factor: float, most: float) -> float:
    """Return the factor limited to [1/most, most]."""
    return min(max(factor, 1 / most), most)


def _fade(belief: Belief, age: timedelta) -> Belief:
    """Return a belief that has faded towards 1 for that long."""
    left = 0.5 ** max(0.0, age / HALF_LIFE)
    return Belief(level=belief.level**left, width=belief.width**left, hours=belief.hours * left)


def _key(row: dict[str, Any]) -> Key:
    """Return the series of a row."""
    return tuple(row[name] for name in SERIES)


def _as_beliefs(corrections: pl.DataFrame) -> dict[Key, Belief]:
    """Read a table of corrections by series."""
    return {
        _key(row): Belief(level=row["level"], width=row["width"], hours=row["hours"]) for row in corrections.to_dicts()
    }
