"""MLflow -> Usage: the newest import, with the reservations and announcements that were recorded since.

Reservations are demand too, so the ledger's history is recorded as jobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from mlflow.entities import Run

from gangplan.clock import Clock, floor_hour, require_utc
from gangplan.tables import DEMAND, JOBS, conform, empty
from gangplan.telemetry.announcements import read_announced, with_announced
from gangplan.telemetry.demand import fill_grid, hourly_demand
from gangplan.telemetry.quarantine import find_denied, read_releases, without
from gangplan.telemetry.timing import known_at
from gangplan.telemetry.values import TABLES, digest_of
from gangplan.tracking import TELEMETRY, Store, table_sha256
from gangplan.types import SERIES, Quarantine, Reservation, Usage

IMPORT = {"kind": "import"}
RESERVATIONS = {"kind": "reservations"}
DAY = timedelta(days=1)
RESERVED_SHARE = 0.95
"""A series whose demand was reserved to this share is taken for the ledger's alone."""


def read_usage(store: Store, now: datetime | None = None) -> Usage:
    """Return the newest import with the recorded reservations and the announcements; everything is read from MLflow.

    It ends with the last hour that was delivered. If `now` lies before that, it is what was known then.
    """
    usage = _newest(store)
    return usage if now is None else known_at(usage, now)


def last_hour(store: Store, now: datetime) -> datetime:
    """Return where the usage of `read_usage` ends; no table is read for it."""
    return min(_moment(_newest_run(store), "end"), floor_hour(require_utc("now", now)))


def kept_span(store: Store) -> tuple[datetime, datetime] | None:
    """Return the first hour and the end of the newest import, if there is one; no table is read for it."""
    newest = store.runs(TELEMETRY, IMPORT)
    return (_moment(newest[0], "start"), _moment(newest[0], "end")) if newest else None


def _moment(run: Run, tag: str) -> datetime:
    return datetime.fromisoformat(run.data.tags[tag])


def _newest(store: Store) -> Usage:
    """Return the newest import with what was recorded since."""
    run = _newest_run(store)
    return with_reservations(with_announced(read_import(store, run.info.run_id), read_announced(store)), store)


def _newest_run(store: Store) -> Run:
    return store.latest(TELEMETRY, IMPORT, remedy="bring telemetry in with `gangplan ingest`")


def with_reservations(usage: Usage, store: Store) -> Usage:
    """Return the usage with the recorded reservations as demand, without the hours that they deny."""
    recorded = store.runs(TELEMETRY, RESERVATIONS)
    if not recorded:
        return usage
    jobs = store.read_table(recorded[0].info.run_id, "jobs")
    quarantined = _denied(usage, jobs, store)
    usage = replace(usage, demand=without(usage.demand, quarantined), quarantined=quarantined)
    denied = [str(quarantine) for quarantine in quarantined]
    return replace(
        usage,
        sha256=digest_of([usage.sha256, recorded[0].data.tags["sha256.jobs"], *denied]),
        jobs=merge_jobs(usage.jobs, jobs),
        demand=add_demand(usage, jobs),
        notes=usage.notes + tuple(denied),
        reserved=jobs,
    )


def denied_hours(usage: Usage, store: Store) -> tuple[Quarantine, ...]:
    """Return the hours of an import that the recorded reservations deny and nobody has released."""
    recorded = store.runs(TELEMETRY, RESERVATIONS)
    return _denied(usage, store.read_table(recorded[0].info.run_id, "jobs"), store) if recorded else ()


def until_now(usage: Usage, now: datetime) -> Usage:
    """Return the telemetry with the hours up to now, which were not delivered yet: they are missing.

    The ledger is always fresh. So a series whose last known day was its reservations alone, or nearly, goes on by them.
    """
    end = floor_hour(require_utc("now", now))
    if end <= usage.end:
        return usage
    demand = fill_grid(usage.demand, usage.start, end)
    if usage.reserved is not None:
        late = hourly_demand(usage.reserved.filter(pl.col("submitted_at") < end), usage.end, end)
        late = late.join(_not_reserved(usage, usage.reserved), on=SERIES, how="anti")
        demand = pl.concat([demand.join(late, on=["hour", *SERIES], how="anti"), late]).sort(*SERIES, "hour")
    return replace(usage, end=end, known_until=usage.end, demand=demand)


def _not_reserved(usage: Usage, reserved: pl.DataFrame) -> pl.DataFrame:
    """Return the series of which more than a twentieth of the last known day's demand was not reserved."""
    begin = usage.end - DAY
    asked = hourly_demand(reserved.filter(pl.col("submitted_at") < usage.end), begin, usage.end)
    known = usage.demand.filter(pl.col("hour") >= begin, pl.col("gpus").is_not_null())
    both = known.join(asked, on=["hour", *SERIES], how="left", suffix="_reserved")
    sums = both.group_by(SERIES).agg(pl.col("gpus").sum(), pl.col("gpus_reserved").fill_null(0.0).sum())
    return sums.filter(pl.col("gpus_reserved") < RESERVED_SHARE * pl.col("gpus"))


def _denied(usage: Usage, jobs: pl.DataFrame, store: Store) -> tuple[Quarantine, ...]:
    """Return the hours that the ledger's jobs deny and nobody has released."""
    denied, releases = find_denied(usage.demand, hourly_demand(jobs, usage.start, usage.end)), read_releases(store)
    return tuple(one for one in denied if not any(release.covers(one) for release in releases))


def read_import(store: Store, run_id: str) -> Usage:
    """Return one import as it was logged."""
    tags = store.client.get_run(run_id).data.tags
    return Usage(
        source=tags["source"],
        sha256=tags["sha256"],
        start=datetime.fromisoformat(tags["start"]),
        end=datetime.fromisoformat(tags["end"]),
        run_id=run_id,
        notes=tuple(json.loads(tags.get("notes", "[]"))),
        live=tags["live"] == "true",
        **dict[str, Any]({name: store.read_table(run_id, name) for name in TABLES}),
    )


def record_reservations(reservations: Iterable[Reservation], store: Store, *, clock: Clock) -> str | None:
    """Record reservations as jobs in a run of MLflow and return its id; None when none was ever recorded.

    The newest such run holds all reservations that were ever recorded, one row each. A second call with the same
    reservations writes nothing and returns the same run.
    """
    known = store.runs(TELEMETRY, RESERVATIONS)
    before = store.read_table(known[0].info.run_id, "jobs") if known else empty(JOBS)
    jobs = merge_jobs(before, jobs_of(reservations))
    if jobs.equals(before):
        return known[0].info.run_id if known else None
    tags = {**RESERVATIONS, "sha256": table_sha256(jobs), "recorded_at": require_utc("now", clock()).isoformat()}
    with store.run(TELEMETRY, "reservations", tags) as run_id:
        store.log_table(run_id, "jobs", jobs)
        store.client.log_metric(run_id, "reservations", jobs.height)
    return run_id


def jobs_of(reservations: Iterable[Reservation]) -> pl.DataFrame:
    """Return reservations as jobs (JOBS), submitted at their submission or at the earliest start that they asked for.

    The accelerator is the preferred one, since that is what was asked for, whichever was granted.
    """
    rows = [
        (
            str(reservation.id),
            reservation.request.tenant,
            reservation.request.workload_class.value,
            reservation.request.accelerators[0],
            float(reservation.request.gpus),
            _asked_from(reservation),
            reservation.granted_at,
            reservation.ended_at,
        )
        for reservation in reservations
    ]
    return pl.DataFrame(rows, schema=JOBS, orient="row")


def _asked_from(reservation: Reservation) -> datetime:
    """Return when the slots were wanted first, but never after they were granted or given up."""
    wanted = max(reservation.submitted_at, reservation.request.earliest_start or reservation.submitted_at)
    return min([wanted, *(moment for moment in (reservation.granted_at, reservation.ended_at) if moment)])


def merge_jobs(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each job id (JOBS); a new row replaces the old one."""
    return pl.concat([old, new]).unique("job_id", keep="last", maintain_order=True).sort("submitted_at", "job_id")


def add_demand(usage: Usage, jobs: pl.DataFrame) -> pl.DataFrame:
    """Return the demand with that of reservations (JOBS) added; a series without reservations in an hour adds 0.

    A live source has already counted the pods that run on the reservations, so there the larger of the two counts
    instead of their sum.
    """
    asked = hourly_demand(jobs.filter(pl.col("submitted_at") < usage.end), usage.start, usage.end)
    imported = usage.demand.with_columns(imported=pl.lit(value=True))
    both = imported.join(asked, on=["hour", *SERIES], how="full", suffix="_reserved", coalesce=True)
    known, reserved = pl.col("gpus"), pl.col("gpus_reserved")
    together = pl.when(known.is_not_null()).then(pl.max_horizontal(known, reserved) if usage.live else known + reserved)
    gpus = pl.when(pl.col("imported").is_null()).then(reserved).when(reserved.is_null()).then(known).otherwise(together)
    return conform("demand", both.with_columns(gpus.alias("gpus")), DEMAND).sort(*SERIES, "hour")
