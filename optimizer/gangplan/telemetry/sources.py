"""Tells the sources apart by what the user wrote."""

from __future__ import annotations

from gangplan.clock import Clock
from gangplan.errors import InputError
from gangplan.progress import Progress
from gangplan.telemetry.sample import make_sample
from gangplan.telemetry.values import Telemetry


def load(source: str, *, seed: int, clock: Clock, progress: Progress) -> Telemetry:
    """Return a source's telemetry on the source's own time axis."""
    if source == "sample":
        return make_sample(seed).telemetry
    raise InputError("source", source, "is not there: use sample, a CSV or Parquet file, a folder of them, ...")
