"""Chooses the source by what the user wrote."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from gangplan.clock import Clock, parse_utc
from gangplan.errors import InputError
from gangplan.progress import Progress
from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.sources.folder import read_path
from gangplan.telemetry.sources.kubernetes import PREFIX, read_cluster
from gangplan.telemetry.sources.mlflow import read_runs
from gangplan.telemetry.sources.prometheus import read_prometheus
from gangplan.telemetry.sources.sample import make_sample
from gangplan.telemetry.timing import Timing, replayed
from gangplan.telemetry.values import Telemetry

KNOWN = (
    "sample, a CSV or Parquet file or another table (docs/telemetry.md), a folder of them, "
    "prometheus+http://host:9090, kubernetes+<context>, or mlflow+ and an MLflow tracking URI"
)

_PLAIN = Timing()


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A folder for data that need not be read twice; one that is not kept is read, and nothing is written to it."""

    folder: Path | None = None
    keeps: bool = True

    def file(self, kind: str, source: str) -> Path | None:
        """Return the file for a source."""
        name = f"{kind}-{hashlib.sha256(source.encode()).hexdigest()[:16]}.parquet"
        return None if self.folder is None else self.folder / name


_NO_CACHE = Cache()


def load(
    source: str,
    *,
    seed: int,
    clock: Clock,
    progress: Progress,
    cache: Cache = _NO_CACHE,
    timing: Timing = _PLAIN,
    reading: Reading | None = None,
) -> Telemetry:
    """Return a source's telemetry with its own times.

    A cache that is not kept is read for what only it knows: a cluster's gangs that have ended.
    """
    now = clock()
    latest = timing.latest(now)
    until = timing.export_time(source, now, live=source == "sample" or "+" in source.partition("://")[0])
    as_of = parse_utc("at", timing.at) if timing.at else now
    if source == "sample":
        return _sample(seed, now)
    if source.startswith("prometheus+"):
        return read_prometheus(source, now, progress)
    if source.startswith(PREFIX):
        return read_cluster(source, now, progress, cache.file("cluster", source), keeps=cache.keeps)
    if source.startswith("mlflow+"):
        kept = cache.file("mlflow", source) if cache.keeps else None
        return read_runs(source, now, progress, kept, latest, as_of)
    if "://" in source:
        raise InputError("source", source, f"is of a kind that is not known: give {KNOWN}")
    exists = False
    with suppress(OSError):  # the name is too long, or a folder is not readable
        exists = bool(source) and Path(source).exists()
    if not exists:
        raise InputError("source", source, f"is not there: give {KNOWN}")
    return read_path(Path(source), now, reading, until=until, latest=latest, as_of=as_of)


def _sample(seed: int, now: datetime) -> Telemetry:
    """Return the sample, made up so that it ends now; it says so."""
    note = "the sample is made up: an invented cluster, whose history ends now"
    return replace(replayed(make_sample(seed).telemetry, now), notes=(note,))
