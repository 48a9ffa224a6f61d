"""The ledger's history as telemetry: reservations are recorded as jobs, because they are demand too."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import polars as pl

from gangplan.clock import Clock, require_utc
from gangplan.tables import JOBS, empty
from gangplan.telemetry.read import RESERVATIONS, merge_jobs
from gangplan.tracking import TELEMETRY, Store, table_sha256
from gangplan.types import Reservation


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
