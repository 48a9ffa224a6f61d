"""Chooses the source by what the user wrote."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from gangplan.clock import Clock
from gangplan.errors import InputError
from gangplan.progress import Progress
from gangplan.telemetry.sources.folder import read_path
from gangplan.telemetry.sources.kubernetes import PREFIX, read_cluster
from gangplan.telemetry.sources.mlflow import read_runs
from gangplan.telemetry.sources.prometheus import read_prometheus
from gangplan.telemetry.sources.sample import make_sample
from gangplan.telemetry.timing import Timing, replayed
from gangplan.telemetry.values import Telemetry

KNOWN = (
    "sample, a CSV or Parquet file, a folder of them, prometheus+http://host:9090, "
    "kubernetes+<context>, or mlflow+ and an MLflow tracking URI"
)

_PLAIN = Timing()


def load(
    source: str,
    *,
    seed: int,
    clock: Clock,
    progress: Progress,
    cache: Path | None = None,
    timing: Timing = _PLAIN,
    latest: datetime | None = None,
) -> Telemetry:
    """Return a source's telemetry with its own times.

    Parameters
    ----------
    cache
        A folder for data that need not be read twice.
    latest
        No time may be after it; by default, after now.
    """
    now = clock()
    until = timing.export_time(source, now, live=source == "sample" or "+" in source.partition("://")[0])
    if source == "sample":
        return _sample(seed, now)
    if source.startswith("prometheus+"):
        return read_prometheus(source, now, progress)
    if source.startswith(PREFIX):
        return read_cluster(source, now, progress, _kept("cluster", source, cache))
    if source.startswith("mlflow+"):
        return read_runs(source, now, progress, _kept("mlflow", source, cache), latest)
    if "://" in source:
        raise InputError("source", source, f"is of a kind that is not known: give {KNOWN}")
    exists = False
    with suppress(OSError):  # the name is too long, or a folder is not readable
        exists = bool(source) and Path(source).exists()
    if not exists:
        raise InputError("source", source, f"is not there: give {KNOWN}")
    return read_path(Path(source), now, until=until, latest=latest)


def _sample(seed: int, now: datetime) -> Telemetry:
    """Return the sample, made up so that it ends now; it says so."""
    note = "the sample is made up: an invented cluster, whose history ends now"
    return replace(replayed(make_sample(seed).telemetry, now), notes=(note,))


def _kept(kind: str, source: str, cache: Path | None) -> Path | None:
    """Return the file of the cache for a source."""
    name = f"{kind}-{hashlib.sha256(source.encode()).hexdigest()[:16]}.parquet"
    return None if cache is None else cache / name
