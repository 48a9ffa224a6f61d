"""What an import would hold, before anything is written: the first rows as understood, demand and requests by hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from gangplan.clock import Clock
from gangplan.progress import Progress, no_progress
from gangplan.telemetry.ingestion import cache_of, understood
from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.timing import Timing
from gangplan.telemetry.values import Telemetry
from gangplan.tracking import Store

ROWS = 5
"""How many rows of each table are shown."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Telemetry as it is understood: rows of each table and the first of them, all GPUs and requests by hour."""

    telemetry: Telemetry
    counts: Mapping[str, int]
    first_rows: Mapping[str, Sequence[Row]]
    demand: Sequence[Row]
    requests: Sequence[Row]


def preview(
    source: str,
    store: Store,
    *,
    seed: int,
    clock: Clock,
    timing: Timing | None = None,
    reading: Reading | None = None,
    progress: Progress = no_progress,
) -> Preview:
    """Return a source's telemetry as it is understood, as an import would keep it; nothing is written.

    The parameters are those of `ingest`. The store need not be there; what a cluster forgot is read in its cache.

    Raises
    ------
    InputError
        When the source cannot be read or has no usable row.
    UnavailableError
        When a server does not answer.
    """
    cache = cache_of(store, keeps=False)
    _, seen = understood(source, seed=seed, clock=clock, timing=timing, reading=reading, cache=cache, progress=progress)
    tables = {name: frame for name, frame in seen.tables.items() if frame.height}
    rate = seen.requests.group_by(pl.col("time").dt.truncate("1h").alias("hour"), "tenant").agg(
        pl.col("requests_per_second").mean()
    )
    return Preview(
        telemetry=seen,
        counts={name: frame.height for name, frame in tables.items()},
        first_rows={name: frame.head(ROWS).to_dicts() for name, frame in tables.items()},
        demand=_by_hour(seen.demand, "gpus"),
        requests=_by_hour(rate, "requests_per_second"),
    )


def _by_hour(frame: pl.DataFrame, value: str) -> list[dict[str, Any]]:
    """Return the sum of all series in each hour; null where any is missing."""
    known = pl.col(value).is_not_null().all()
    return frame.group_by("hour").agg(pl.when(known).then(pl.col(value).sum()).alias(value)).sort("hour").to_dicts()
