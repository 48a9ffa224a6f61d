"""How good a back-test is, and where one of two back-tests is better, by how much, and whether that may be luck.

The loss of an hour and series is `tables.pinball_loss`, in GPUs; the sum of losses over the sum of demand is WQL. Luck
is judged by a paired test over origins: the sign of each origin's gap is flipped at random, and it is counted how often
the mean gap is then at least as large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from gangplan.forecast.series import Floats
from gangplan.tables import pinball_loss
from gangplan.types import SERIES

TIERS = {"all": "all series", "small": "series under 8 GPUs", "medium": "series of 8 to 64", "large": "series over 64"}
"""Tiers of series by their mean demand: less than a node, up to eight nodes, more."""

ROW = ["origin", "hour", *SERIES]
"""What a row of a back-test is known by."""

SURE, LIKELY = 0.02, 0.10
"""Up to these shares a gap is hardly, or probably not, luck."""

_SAME = 0.005  # half a per cent is called the same
_BOUNDS = (8.0, 64.0)
_EXACT = 12  # origins up to which all flips are tried
_DRAWS = 10_000


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
        return Quality(wql=math.nan, coverage_80=math.nan, below_95=math.nan, rows=0)
    inside, below = pl.col("gpus").is_between("q0.1", "q0.9"), pl.col("gpus") <= pl.col("q0.95")
    loss, demand, coverage, below_95 = known.select(
        pinball_loss().sum().alias("loss"),
        pl.col("gpus").sum(),
        inside.mean().alias("coverage"),
        below.mean().alias("below"),
    ).row(0)
    return Quality(wql=percent(loss, demand), coverage_80=coverage, below_95=below_95, rows=known.height)


def percent(loss: float, demand: float) -> float:
    """WQL in per cent; with no demand at all 0 for a forecast of nothing, else math.infinite."""
    if demand > 0:
        return 100 * loss / demand
    return 0.0 if loss == 0 else math.inf


def mase(table: pl.DataFrame, scales: pl.DataFrame) -> float:
    """Mean over series of the median's absolute error / `scale`, the series' error of yesterday's same hour.

    Series without a scale are left out. Source: Hyndman and Koehler, Another look at measures of forecast accuracy
    (2006).
    """
    keys = [name for name in scales.columns if name != "scale"]
    error = (pl.col("q0.5") - pl.col("gpus")).abs().mean()
    each = table.drop_nulls("gpus").group_by(keys).agg(error.alias("error")).join(scales, on=keys)
    mean = each.filter(pl.col("scale") > 0).select((pl.col("error") / pl.col("scale")).mean()).item()
    return math.nan if mean is None else float(mean)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """One forecast against another on the same rows: WQL of both in per cent, and how sure the difference is.

    won : from how many of the `origins` mine lost less.
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

    @property
    def change_words(self) -> str:
        """How much less or more is lost."""
        if not math.isfinite(self.change):
            return "worse: the other one loses nothing"
        if abs(self.change) < _SAME:
            return "the same"
        return f"{abs(self.change):.1%} {'less' if self.change < 0 else 'more'}".replace("%", " %")

    @property
    def luck_words(self) -> str:
        """How likely luck is, as a judgement."""
        if abs(self.change) < _SAME:
            return "no gap"
        if math.isnan(self.luck):
            return "cannot be told"
        if self.luck <= SURE:
            return "hardly luck"
        return "probably not luck" if self.luck <= LIKELY else "may be luck"

    @property
    def luck_sentence(self) -> str:
        """Whether the gap may be luck; a probability is written as people count: 1 case in 64."""
        if math.isnan(self.luck):
            return "With a single starting day nobody can tell whether that is luck."
        if abs(self.change) < _SAME:
            return "So small a gap says nothing."
        often = f"1 case in {round(1 / max(self.luck, 1e-4)):,}"
        if self.luck >= 0.5:
            often = f"{100 * self.luck:.0f} % of all cases"
        return f"Luck alone makes a gap as large in {often}: {self.luck_words}."

    def headline(self, rival: str) -> str:
        """Return the whole comparison in a few sentences."""
        better = "Better than" if self.change < 0 else "Worse than"
        comparative = "As good as" if abs(self.change) < _SAME else better
        loss = f"its loss is {self.mine:.2f} % of demand, that of {rival} {self.other:.2f} %"
        origins = f"it was the better one from {self.won} of {self.origins} starting days"
        return f"{comparative} {rival}: {loss}; {origins}. {self.luck_sentence}"


def side_by_side(mine: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that both back-tests have, with both losses (`loss`, `other`), the series' tier and `step`."""
    theirs = other.drop_nulls("gpus").select(*ROW, other=pinball_loss())
    both = mine.drop_nulls("gpus").with_columns(loss=pinball_loss()).join(theirs, on=ROW, how="inner")
    step = (pl.col("hour") - pl.col("origin")).dt.total_hours() + 1
    mean, (low, high) = pl.col("gpus").mean().over(SERIES), _BOUNDS
    tier = pl.when(mean < low).then(pl.lit("small")).when(mean <= high).then(pl.lit("medium"))
    return both.with_columns(tier.otherwise(pl.lit("large")).alias("tier"), step.alias("step"))


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
    groups = {str(key[0]): part for key, part in keyed.group_by("group", maintain_order=True)}
    order = list(names) if names else sorted(groups, key=lambda key: (-float(groups[key]["gpus"].sum()), key))
    return [gap((names or {}).get(key, key), groups[key], total) for key in order if key in groups]


def places(gaps: Sequence[Gap], *, worse: bool) -> str:
    """Name the rows that are better, or worse, by more than luck likely makes; the surest first."""
    sign = 1 if worse else -1
    clear = [gap for gap in gaps if gap.luck <= LIKELY and sign * gap.change >= _SAME]
    named = [f"{gap.name} ({gap.change_words}, {gap.luck_words})" for gap in sorted(clear, key=lambda gap: gap.luck)]
    return "; ".join(named[:6]) or "nowhere by more than luck would make"


def luck(gaps: Floats) -> float:
    """How often flipped signs give a mean at least as far from 0; NaN with fewer than two gaps."""
    count = len(gaps)
    if count < 2:
        return math.nan
    if count <= _EXACT:
        flips = np.array(list(product((-1.0, 1.0), repeat=count)))
    else:
        flips = np.random.default_rng(0).choice([-1.0, 1.0], (_DRAWS, count))
    means = np.abs(flips @ gaps) / count
    return float((means >= abs(float(gaps.mean())) * (1 - 1e-9)).mean())


def ratio(mine: float, other: float) -> float:
    """My loss over the other's; 1 when both are nothing."""
    if other > 0:
        return mine / other
    return 1.0 if mine == 0 else math.inf
