"""How good a back-test is: weighted quantile loss, scaled error, coverage; pooled over rows, as the literature does."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import polars as pl

from gangplan.tables import pinball_loss


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures of one set of forecasts.

    `wql` is in per cent of mean demand; the shares are from 0 to 1; all are NaN where nothing was observed.
    """

    wql: float
    coverage_80: float
    below_95: float
    rows: int


def quality(table: pl.DataFrame) -> Quality:
    """Score quantile columns against `gpus` (missing hours aside).

    WQL = 100 x sum of `tables.pinball_loss` / sum of demand; coverage_80 is the share within [q0.1, q0.9].
    """
    known = table.drop_nulls("gpus")
    if known.is_empty():
        return Quality(wql=nan, coverage_80=nan, below_95=nan, rows=0)
    inside, below = pl.col("gpus").is_between("q0.1", "q0.9"), pl.col("gpus") <= pl.col("q0.95")
    loss, demand, coverage, below_95 = known.select(
        pinball_loss().sum().alias("loss"),
        pl.col("gpus").sum(),
        inside.mean().alias("coverage"),
        below.mean().alias("below"),
    ).row(0)
    return Quality(wql=percent(loss, demand), coverage_80=coverage, below_95=below_95, rows=known.height)


def percent(loss: float, demand: float) -> float:
    """WQL in per cent; with no demand at all 0 for a forecast of nothing, else infinite."""
    if demand > 0:
        return 100 * loss / demand
    return 0.0 if loss == 0 else inf


def mase(table: pl.DataFrame, scales: pl.DataFrame) -> float:
    """Mean over series of the median's absolute error / `scale`, the series' error of yesterday's same hour.

    Series without a scale are left out. Source: Hyndman and Koehler, Another look at measures of forecast accuracy
    (2006).
    """
    keys = [name for name in scales.columns if name != "scale"]
    error = (pl.col("q0.5") - pl.col("gpus")).abs().mean()
    each = table.drop_nulls("gpus").group_by(keys).agg(error.alias("error")).join(scales, on=keys)
    mean = each.filter(pl.col("scale") > 0).select((pl.col("error") / pl.col("scale")).mean()).item()
    return nan if mean is None else float(mean)
