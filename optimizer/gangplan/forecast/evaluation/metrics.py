"""How good a back-test is: weighted quantile loss, scaled error, coverage; pooled over rows, as the literature does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from gangplan.forecast.series import Floats
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import QUANTILES

LEVELS = np.array(QUANTILES)


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

    WQL = 100 x 2 x mean pinball loss over levels / mean demand; coverage_80 is the share within [q0.1, q0.9].
    """
    known = table.drop_nulls("gpus")
    demand = known["gpus"].to_numpy()
    made = known.select(QUANTILE_COLUMNS).to_numpy()
    if not demand.size:
        return Quality(wql=float("nan"), coverage_80=float("nan"), below_95=float("nan"), rows=0)
    low, high, upper = (made[:, QUANTILES.index(level)] for level in (0.1, 0.9, 0.95))
    return Quality(
        wql=_wql(made, demand),
        coverage_80=float(((demand >= low) & (demand <= high)).mean()),
        below_95=float((demand <= upper).mean()),
        rows=demand.size,
    )


def mase(table: pl.DataFrame, scales: pl.DataFrame) -> float:
    """Mean over series of the median's absolute error / `scale`, the series' error of yesterday's same hour.

    Series without a scale are left out. Source: Hyndman and Koehler, Another look at measures of forecast accuracy
    (2006).
    """
    keys = [name for name in scales.columns if name != "scale"]
    error = (pl.col("q0.5") - pl.col("gpus")).abs().mean()
    each = table.drop_nulls("gpus").group_by(keys).agg(error.alias("error")).join(scales, on=keys)
    found = each.filter(pl.col("scale") > 0).select((pl.col("error") / pl.col("scale")).mean()).item()
    return float("nan") if found is None else float(found)


def pinball(made: Floats, demand: Floats) -> Floats:
    """Pinball loss, rows x levels: what each quantile costs against what came."""
    over = demand[:, None] - made
    return np.maximum(LEVELS * over, (LEVELS - 1) * over)


def _wql(made: Floats, demand: Floats) -> float:
    """WQL in per cent; with no demand at all, 0 for a forecast of nothing, else infinite."""
    loss, mean = float(pinball(made, demand).mean()), float(demand.mean())
    if mean > 0:
        return 200.0 * loss / mean
    return 0.0 if loss == 0 else float("inf")
