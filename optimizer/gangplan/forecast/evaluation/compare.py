"""Two back-tests of the same days side by side: where one is better, by how much, and whether that may be luck.

A loss is the pinball loss of an hour and series, doubled and averaged over the levels, in GPUs; their sum over the sum
of demand is WQL. Luck is a paired test over origins: the sign of each origin's gap is flipped at random, and what is
counted is how often the mean gap is then at least as large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from gangplan.forecast.series import Floats
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.types import QUANTILES, SERIES

TIERS = {"all": "all series", "small": "series under 8 GPUs", "medium": "series of 8 to 64", "large": "series over 64"}
"""Tiers of series by their mean demand: less than a node, up to eight nodes, more."""

ROW = ["origin", "hour", *SERIES]
"""What a row of a back-test is known by."""

_BOUNDS = (8.0, 64.0)
_EXACT = 12  # origins up to which all flips are tried
_DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Gap:
    """One forecast against another on the same rows: WQL of both in per cent, and how sure the difference is.

    won : origins on which mine lost less; of `origins`.
    luck : how often luck alone gives a gap as large, from 0 to 1; NaN with fewer than two origins.
    share : of all demand, from 0 to 1.
    """

    name: str
    mine: float
    other: float
    won: int
    origins: int
    luck: float
    share: float

    @property
    def change(self) -> float:
        """Mine over the other's, less 1: negative is better."""
        return ratio(self.mine, self.other) - 1


def with_loss(table: pl.DataFrame, name: str = "loss") -> pl.DataFrame:
    """Return the observed rows of a back-test with each row's loss in GPUs."""
    moved = [pl.col("gpus") - pl.col(column) for column in QUANTILE_COLUMNS]
    each = [2 * pl.max_horizontal(q * over, (q - 1) * over) for q, over in zip(QUANTILES, moved, strict=True)]
    return table.drop_nulls("gpus").with_columns(pl.mean_horizontal(each).alias(name))


def side_by_side(mine: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that both back-tests have, with both losses (`loss`, `other`) and what is grouped by."""
    theirs = with_loss(other, "other").select(*ROW, "other")
    both = with_loss(mine).join(theirs, on=ROW, how="inner")
    step = (pl.col("hour") - pl.col("origin")).dt.total_hours() + 1
    return with_tier(both).with_columns(step.alias("step"))


def with_tier(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the tier of each row's series, by its mean demand in these rows."""
    mean, (low, high) = pl.col("gpus").mean().over(SERIES), _BOUNDS
    tier = pl.when(mean < low).then(pl.lit("small")).when(mean <= high).then(pl.lit("medium"))
    return rows.with_columns(tier.otherwise(pl.lit("large")).alias("tier"))


def gap(name: str, rows: pl.DataFrame, total: float) -> Gap:
    """Compare both losses on these rows; `total` is the demand that `share` is of."""
    each = rows.group_by("origin", maintain_order=True).agg(pl.col("loss", "other", "gpus").sum())
    demand, mine, other = (float(each[column].sum()) for column in ("gpus", "loss", "other"))
    gaps = (each["other"] - each["loss"]).to_numpy()
    return Gap(
        name=name,
        mine=percent(mine, demand),
        other=percent(other, demand),
        won=int((gaps > 0).sum()),
        origins=each.height,
        luck=luck(gaps),
        share=demand / total if total > 0 else 0.0,
    )


def gaps(rows: pl.DataFrame, by: pl.Expr, names: Mapping[str, str] | None = None) -> list[Gap]:
    """Compare by groups, the largest demand first, or in the order of `names` where these are given."""
    total = float(rows["gpus"].sum())
    keyed = rows.with_columns(by.alias("group"))
    found = {str(key[0]): part for key, part in keyed.group_by("group", maintain_order=True)}
    order = list(names) if names else sorted(found, key=lambda key: (-float(found[key]["gpus"].sum()), key))
    return [gap((names or {}).get(key, key), found[key], total) for key in order if key in found]


def luck(gaps: Floats) -> float:
    """How often flipped signs give a mean at least as far from 0; NaN with fewer than two gaps."""
    count = len(gaps)
    if count < 2:
        return math.nan
    flips = np.array(list(product((-1.0, 1.0), repeat=count))) if count <= _EXACT else _draw(count)
    means = np.abs(flips @ gaps) / count
    return float((means >= abs(float(gaps.mean())) * (1 - 1e-9)).mean())


def percent(loss: float, demand: float) -> float:
    """WQL in per cent; with no demand at all 0 for a forecast of nothing, else infinite."""
    if demand > 0:
        return 100 * loss / demand
    return 0.0 if loss == 0 else math.inf


def ratio(mine: float, other: float) -> float:
    """My loss over the other's; 1 when both are nothing."""
    if other > 0:
        return mine / other
    return 1.0 if mine == 0 else math.inf


def _draw(count: int) -> Floats:
    """Signs at random, always the same ones."""
    return np.random.default_rng(0).choice([-1.0, 1.0], (_DRAWS, count))
