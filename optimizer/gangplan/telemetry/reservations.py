"""The ledger's history back into telemetry: what was reserved is what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import polars as pl

from gangplan.clock import Clock, require_utc
from gangplan.tables import JOBS
from gangplan.telemetry.read import RESERVATIONS, merge_jobs
from gangplan.tracking import TELEMETRY, Store, table_sha256
from gangplan.types import Reservation


def record_reservations(reservations: Iterable[Reservation], store: Store, *, clock: Clock) -> str | None:
    """Record reservations as jobs in a run of MLflow and return its id; None when there was never one.

    The newest such run holds all that were ever recorded, one row each, so that a second call with the same
    reservations writes nothing and gives the same run.
    """
    known = store.runs(TELEMETRY, RESERVATIONS)
    before = store.read_table(known[0].info.run_id, "jobs") if known else pl.DataFrame(schema=JOBS)
    jobs = merge_jobs(before, jobs_of(reservations))
    if jobs.equals(before):
        return known[0].info.run_id if known else None
    tags = {**RESERVATIONS, "sha256": table_sha256(jobs), "recorded_at": require_utc("now", clock()).isoformat()}
    with store.run(TELEMETRY, "reservations", tags) as run_id:
        store.log_table(run_id, "jobs", jobs)
        store.client.log_metric(run_id, "reservations", jobs.height)
    return run_id


def jobs_of(reservations: Iterable[Reservation]) -> pl.DataFrame:
    """Return reservations as jobs (JOBS): asked for from the submission, or from the earliest start, on.

    The accelerator is the one preferred, for that is what was asked, whatever was granted.
    """
    rows = [
        (
            str(each.id),
            each.request.tenant,
            each.request.workload_class.value,
            each.request.accelerators[0],
            float(each.request.gpus),
            _asked_from(each),
            each.granted_at,
            each.ended_at,
        )
        for each in reservations
    ]
    return pl.DataFrame(rows, schema=JOBS, orient="row")


def _asked_from(reservation: Reservation) -> datetime:
    """Return when the slots were wanted first, but never after they were granted or given up."""
    wanted = max(reservation.submitted_at, reservation.request.earliest_start or reservation.submitted_at)
    return min([wanted, *(moment for moment in (reservation.granted_at, reservation.ended_at) if moment)])
