"""Job records as columns, and what was known of them at a moment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import polars as pl

from gangplan.forecast.series.arrays import Floats, Ints, Key
from gangplan.tables import JOBS, conform
from gangplan.types import SERIES


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """Jobs with their times in hours from a panel's start; a job counts as demand from its submission on.

    series : the row of the panel that each job counts to.
    kind : its place in `kinds`, the series that it was recorded for.
    ended : infinite while it waits or runs.
    """

    series: Ints
    kind: Ints
    gpus: Floats
    submitted: Floats
    ended: Floats
    kinds: tuple[Key, ...]

    def known_at(self, hour: float) -> Jobs:
        """Hide the jobs submitted from that hour on, and the ends after it."""
        seen = self.submitted < hour
        ended = self.ended[seen]
        return replace(
            self,
            series=self.series[seen],
            kind=self.kind[seen],
            gpus=self.gpus[seen],
            submitted=self.submitted[seen],
            ended=np.where(ended <= hour, ended, np.inf),
        )


def jobs_of(table: pl.DataFrame, keys: tuple[Key, ...], start: datetime) -> Jobs | None:
    """Read a table of jobs (`tables.JOBS`); none where it has no job of those series."""
    places = pl.DataFrame([(*key, place) for place, key in enumerate(keys)], [*SERIES, "place"], orient="row")
    usable = conform("jobs", table, JOBS).filter(pl.col("gpus") > 0, pl.col("submitted_at").is_not_null())
    jobs = usable.join(places, on=list(SERIES), how="inner")
    if not jobs.height:
        return None

    def hours(name: str) -> Floats:
        passed = (jobs[name] - start).dt.total_microseconds().cast(pl.Float64) / 3.6e9
        return passed.fill_null(float("inf")).to_numpy()

    place = jobs["place"].cast(pl.Int64).to_numpy()
    return Jobs(
        series=place,
        kind=place,
        gpus=jobs["gpus"].to_numpy(),
        submitted=hours("submitted_at"),
        ended=hours("ended_at"),
        kinds=keys,
    )
