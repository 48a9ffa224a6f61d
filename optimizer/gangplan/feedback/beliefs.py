"""From a score to corrections of the forecast, by empirical Bayes.

docs/feedback.md has the method. Source: DerSimonian and Laird (1986), for the variance of the signal.
"""

from __future__ import annotations

from datetime import timedelta
from statistics import NormalDist

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from gangplan.tables import CORRECTIONS, conform
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

Floats = NDArray[np.float64]


def correct(by_series: pl.DataFrame, *, before: pl.DataFrame, age: timedelta, applied: pl.DataFrame) -> pl.DataFrame:
    """Return the new corrections (`CORRECTIONS`) from a score's table (`SCORE_BY_SERIES`).

    `before` are the earlier corrections, and `age` the time since the end of the span that they were learned from.
    `applied` are those that the scored forecast already had; its remaining error comes on top of them.
    """
    left = 0.5 ** max(0.0, age / HALF_LIFE)
    faded = before.select(*SERIES, pl.col("level", "width") ** left, pl.col("hours") * left)
    rows = _beside(_beside(by_series, faded, "prior"), applied, "held")
    hours, mean, width, held, held_width, prior, prior_width = (
        rows[name].cast(pl.Float64).to_numpy()
        for name in ("hours", "mean_gpus", "width", "held_level", "held_width", "prior_level", "prior_width")
    )
    median = mean + rows["bias"].to_numpy()
    # A series with next to no demand keeps its level.
    measured = held * np.clip(np.divide(mean, median, out=np.ones_like(mean), where=median > 1e-9), 0.25, 4.0)
    levels = _update(prior, measured, _level_noise(rows, hours))
    needed = held_width * _width_ratio(rows, hours, width, _share_removed(held, measured, levels))
    widths = _update(prior_width, needed, _WIDTH_NOISE / (hours / HOURS_ALIKE))
    total = rows["prior_hours"] + rows["hours"]
    new = rows.select(*SERIES, level=pl.Series(levels), width=pl.Series(widths), hours=total)
    every = pl.concat([new, faded.join(new, on=SERIES, how="anti")]).sort(SERIES)
    return conform("corrections", every.with_columns(pl.col("hours").round()), CORRECTIONS)


def _beside(rows: pl.DataFrame, corrections: pl.DataFrame, name: str) -> pl.DataFrame:
    """Add corrections to rows, in columns that begin with a name; a series without any has factors of 1."""
    named = corrections.select(*SERIES, pl.col("level", "width", "hours").cast(pl.Float64).name.prefix(f"{name}_"))
    both = rows.join(named, on=SERIES, how="left", maintain_order="left")
    return both.with_columns(
        pl.col(f"{name}_level", f"{name}_width").fill_null(1.0), pl.col(f"{name}_hours").fill_null(0.0)
    )


def shrink(deviations: ArrayLike, noise: ArrayLike) -> Floats:
    """Return the part of each deviation that is signal; `noise` are the sampling variances of the deviations.

    The variance of the signal is estimated from all deviations together.
    """
    apart, variance = np.asarray(deviations, dtype=np.float64), np.asarray(noise, dtype=np.float64)
    excess = float((apart**2 / variance).sum()) - apart.size
    signal = max(0.0, excess / float((1 / variance).sum())) if apart.size else 0.0
    return apart * signal / (signal + variance)


def _update(prior: Floats, measured: Floats, noise: Floats) -> Floats:
    """Move the prior factors towards the measured ones, by logarithms, within the band."""
    return np.clip(prior * np.exp(shrink(np.log(measured / prior), noise)), *BAND)


def _level_noise(rows: pl.DataFrame, hours: Floats) -> Floats:
    """Return the sampling variance of the logarithm of demand / forecast median."""
    relative = (rows["error_sd"] / (rows["mean_gpus"] + rows["bias"]).clip(1e-9)).to_numpy()
    hourly = (_DAY * USUAL_SD**2 + hours * np.minimum(relative, 4.0) ** 2) / (_DAY + hours)
    return hourly / (hours / HOURS_ALIKE) + ORIGIN_SD**2


def _share_removed(held: Floats, measured: Floats, new: Floats) -> Floats:
    """Return the share (0 to 1, of the logarithm) of a forecast's level error that the new level removes."""
    error = np.log(measured / held)
    share = np.divide(np.log(new / held), error, out=np.ones_like(error), where=np.abs(error) >= _NO_ERROR)
    return np.clip(share, 0.0, 1.0)


def _width_ratio(rows: pl.DataFrame, hours: Floats, levelled: Floats, removed: Floats) -> Floats:
    """Return the factor on the width with which 80 % of the hours would have been covered.

    The new level removes a share of the level error; the width must cover the rest. So the factor is between that for
    the whole level error (`levelled`), which follows from the coverage, and that for none.
    """
    covered = np.clip((hours * rows["coverage_80"].to_numpy() + _DAY * 0.8) / (hours + _DAY), 0.05, 0.995)
    reached = np.array([NormalDist().inv_cdf((1 + share) / 2) for share in covered.tolist()], dtype=np.float64)
    as_it_was = NormalDist().inv_cdf(0.9) / reached
    whole, none = (np.log(np.clip(factor, 0.25, 4.0)) for factor in (levelled, as_it_was))
    return np.exp(removed * whole + (1 - removed) * none)
