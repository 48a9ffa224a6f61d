"""Quarantine: hours of telemetry that the ledger denies are kept out until a person releases them.

A collector that counts twice, or loses half of a cluster, tells numbers that look like demand. The ledger is a second
witness: it knows what was asked of it in the same hours. What telemetry counts over what the ledger was asked for is
compared with its usual value in the same series; where two hours or more in a row are far from it, they are denied.
A spike that really came was asked of the ledger too, so that it is not denied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from gangplan.clock import HOUR, Clock, parse_utc
from gangplan.errors import InputError, NotFoundError
from gangplan.tracking import TELEMETRY, Store
from gangplan.types import SERIES, Quarantine, require_text

FACTOR = 3.0
"""So many times its usual value, or a part of it so small, the ratio is denied. Raised, smaller faults are believed."""
SPREADS = 4.0
"""It must be off by so many standard deviations as well (by the median deviation): the ledger sees little of some."""
LEAST_GPUS = 1.0
"""Hours in which the ledger was asked for less say nothing."""
LEAST_HOURS, MOST_HOURS = 24, 336
"""The usual ratio is the median of the hours before: at least so many, at most the last so many."""
IN_A_ROW = 2

_RELEASE = {"kind": "release"}
_BOUND = 100.0  # a ratio of nothing has no logarithm


@dataclass(frozen=True, kw_only=True)
class Release:
    """A person's word that the hours of a series since `start` are right, though the ledger denied them."""

    series: str
    start: datetime
    end: datetime
    by: str
    why: str

    def covers(self, quarantine: Quarantine) -> bool:
        """Return whether a quarantine is the one that was released; it may have grown by hours since."""
        return quarantine.series == self.series and self.start <= quarantine.start < self.end


def find_denied(counted: pl.DataFrame, asked: pl.DataFrame) -> tuple[Quarantine, ...]:
    """Return the hours of telemetry that the ledger denies.

    Parameters
    ----------
    counted
        What telemetry counted (DEMAND).
    asked
        What the ledger was asked for (DEMAND).
    """
    witness = asked.filter(pl.col("gpus") >= LEAST_GPUS)
    both = counted.drop_nulls("gpus").join(witness, on=["hour", *SERIES], suffix="_asked").sort(*SERIES, "hour")
    ratio = (pl.col("gpus") / pl.col("gpus_asked")).clip(1 / _BOUND, _BOUND).log()
    judged = (
        both.with_columns(ratio=ratio)
        .with_columns(usual=_median_before("ratio"))
        .with_columns(off=(pl.col("ratio") - pl.col("usual")).abs())
        .with_columns(spread=1.4826 * _median_before("off"))
        .filter(pl.col("off") > pl.max_horizontal(math.log(FACTOR), SPREADS * pl.col("spread").fill_null(0.0)))
    )
    begins = (pl.col("hour").diff() != HOUR).fill_null(value=True).cum_sum().over(SERIES)
    runs = (
        judged.with_columns(run=begins)
        .group_by(*SERIES, "run", maintain_order=True)
        .agg(
            pl.col("hour").min().alias("start"),
            pl.col("hour").max().alias("last"),
            pl.mean("gpus"),
            (pl.col("gpus_asked") * pl.col("usual").exp()).mean().alias("expected"),
            pl.len().alias("hours"),
        )
        .filter(pl.col("hours") >= IN_A_ROW)
    )
    return tuple(
        Quarantine(
            series="/".join(row[name] for name in SERIES),
            start=row["start"],
            end=row["last"] + HOUR,
            counted_gpus=round(row["gpus"], 1),
            expected_gpus=round(row["expected"], 1),
        )
        for row in runs.iter_rows(named=True)
    )


def _median_before(column: str) -> pl.Expr:
    """Return the median of a series' values in the hours before each."""
    return pl.col(column).rolling_median(MOST_HOURS, min_samples=LEAST_HOURS).shift(1).over(SERIES)


def without(demand: pl.DataFrame, quarantined: Iterable[Quarantine]) -> pl.DataFrame:
    """Return the demand (DEMAND) with null in the quarantined hours: unknown, never zero."""
    series = pl.concat_str(*SERIES, separator="/")
    for quarantine in quarantined:
        denied = (series == quarantine.series) & pl.col("hour").is_between(quarantine.start, quarantine.end, "left")
        demand = demand.with_columns(gpus=pl.when(~denied).then("gpus"))
    return demand


def read_releases(store: Store) -> tuple[Release, ...]:
    """Return what people released, the newest first."""
    return tuple(
        Release(
            start=parse_utc("start", run.data.tags["start"]),
            end=parse_utc("end", run.data.tags["end"]),
            **{name: run.data.tags[name] for name in ("series", "by", "why")},
        )
        for run in store.runs(TELEMETRY, _RELEASE, limit=1000)
    )


def release(
    series: str, store: Store, quarantined: Iterable[Quarantine], *, by: str, why: str, clock: Clock
) -> tuple[Quarantine, ...]:
    """Release all quarantined hours of a series (tenant/workload class/accelerator) and return them.

    Raises NotFoundError where nothing of that series is quarantined.
    """
    require_text("by", by, 1)
    require_text("why", why, 1)
    if len(series.split("/")) != len(SERIES):
        raise InputError("series", series, "is no series: give it like search/latency/h100")
    known = tuple(quarantined)
    freed = tuple(quarantine for quarantine in known if quarantine.series == series)
    if not freed:
        names = ", ".join(dict.fromkeys(quarantine.series for quarantine in known)) or "nothing is"
        raise NotFoundError(f"series {series}: is not quarantined: {names}")
    for each in freed:
        span = {"start": each.start.isoformat(), "end": each.end.isoformat(), "released_at": clock().isoformat()}
        with store.run(
            TELEMETRY, f"release {series}"[:250], {**_RELEASE, **span, "series": series, "by": by, "why": why}
        ):
            pass
    return freed
