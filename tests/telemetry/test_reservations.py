"""What was reserved comes back as what was asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan import telemetry
from gangplan.telemetry.read import IMPORT, add_demand
from gangplan.tracking import TELEMETRY, Store
from gangplan.types import (
    GangRequest,
    PodSet,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
    Usage,
    WorkloadClass,
)

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST = datetime(2026, 3, 1, 0, tzinfo=UTC)
JOBS = (
    "job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at\n"
    "a,search,cost,a100,4,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z,2026-03-02T09:00:00Z\n"
)


def _clock() -> datetime:
    return NOW


def _reservation(
    name: str,
    *,
    tenant: str = "lab",
    accelerator: str = "h100-lab",
    kind: WorkloadClass = WorkloadClass.THROUGHPUT,
    submitted: datetime = FIRST + 2 * HOUR,
    granted: datetime | None = FIRST + 3 * HOUR,
    ended: datetime | None = FIRST + 4 * HOUR,
    earliest: datetime | None = None,
) -> Reservation:
    """A gang of two pods of four GPUs."""
    request = GangRequest(
        request_key=name,
        tenant=tenant,
        pod_sets=(PodSet(count=2, gpus_per_pod=4),),
        accelerators=(accelerator, "a100"),
        duration=HOUR,
        workload_class=kind,
        earliest_start=earliest,
    )
    state = ReservationState.RELEASED if ended else ReservationState.GRANTED if granted else ReservationState.WAITING
    return Reservation(
        id=ReservationId(name),
        request=request,
        state=state,
        submitted_at=submitted,
        token=Token(1) if granted else None,
        granted_at=granted,
        ended_at=ended,
    )


@pytest.fixture
def store(tmp_path: Path, mlflow_store: Store) -> Store:
    """A store with one small import."""
    (tmp_path / "jobs.csv").write_text(JOBS)
    telemetry.ingest(str(tmp_path / "jobs.csv"), mlflow_store, seed=7, clock=_clock)
    return mlflow_store


def _gpus(usage: Usage, tenant: str) -> list[float]:
    """Return a tenant's demand by hour."""
    return usage.demand.filter(tenant=tenant).sort("hour")["gpus"].to_list()


def test_reservation_is_demand_while_it_waits_and_while_it_holds(store: Store):
    """Eight GPUs are asked for from the submission to the end, as a series of their own, and zero in other hours."""
    before = telemetry.read_usage(store)
    run_id = telemetry.record_reservations([_reservation("r1")], store, clock=_clock)
    usage = telemetry.read_usage(store)
    assert _gpus(usage, "lab") == [0, 0, 8, 8, *[0] * 29]
    assert _gpus(usage, "search") == _gpus(before, "search")
    assert set(usage.demand.filter(tenant="lab")["accelerator"]) == {"h100-lab"}
    assert usage.jobs.filter(job_id="r1").select("submitted_at", "started_at", "ended_at").row(0) == (
        FIRST + 2 * HOUR,
        FIRST + 3 * HOUR,
        FIRST + 4 * HOUR,
    )
    assert run_id is not None
    assert store.client.get_run(run_id).data.tags["kind"] == "reservations"
    assert usage.sha256 != before.sha256
    assert usage.demand.schema == before.demand.schema


def test_recording_again_writes_nothing(store: Store):
    """The same history, or none, gives the same run; no history at all gives none."""
    assert telemetry.record_reservations([], store, clock=_clock) is None
    first = telemetry.record_reservations([_reservation("r1"), _reservation("r2")], store, clock=_clock)
    again = telemetry.record_reservations([_reservation("r2"), _reservation("r1")], store, clock=_clock)
    nothing_new = telemetry.record_reservations([], store, clock=lambda: NOW + HOUR)
    assert first == again == nothing_new
    assert len(store.runs(TELEMETRY, {"kind": "reservations"}, limit=9)) == 1


def test_newest_row_of_a_reservation_counts(store: Store):
    """A reservation that was waiting, then held, then ended, is one job with its last times; older ones stay."""
    telemetry.record_reservations(
        [_reservation("old"), _reservation("r1", granted=None, ended=None)], store, clock=_clock
    )
    waiting = telemetry.read_usage(store)
    assert _gpus(waiting, "lab")[2:] == [16, 16, *[8] * 29]
    telemetry.record_reservations([_reservation("r1", ended=None)], store, clock=_clock)
    telemetry.record_reservations([_reservation("r1", ended=FIRST + 5 * HOUR)], store, clock=_clock)
    usage = telemetry.read_usage(store)
    assert _gpus(usage, "lab")[2:6] == [16, 16, 8, 0]
    assert usage.jobs["job_id"].to_list().count("r1") == 1
    assert usage.jobs["job_id"].to_list().count("old") == 1


def test_advance_reservation_is_asked_for_from_its_earliest_start(store: Store):
    """What is booked today for later is no demand today; what starts early is asked for from its start."""
    later = _reservation("r1", earliest=FIRST + 6 * HOUR, granted=FIRST + 6 * HOUR, ended=FIRST + 7 * HOUR)
    dropped = _reservation("r2", earliest=FIRST + 9 * HOUR, granted=None, ended=FIRST + 3 * HOUR)
    telemetry.record_reservations([later, dropped], store, clock=_clock)
    assert _gpus(telemetry.read_usage(store), "lab") == [*[0] * 6, 8, *[0] * 26]


def test_reservation_after_the_last_import_is_a_job_and_no_demand_yet(store: Store):
    """The hour that still runs is not in the demand; the next import brings it in."""
    fresh = _reservation("r1", submitted=NOW - HOUR / 6, granted=NOW, ended=None)
    telemetry.record_reservations([fresh], store, clock=_clock)
    usage = telemetry.read_usage(store)
    assert usage.jobs.filter(job_id="r1").height == 1
    assert usage.demand.filter(pl.col("tenant") == "lab").is_empty()


def test_same_series_adds_up_but_a_live_source_has_counted_it_already(store: Store):
    """In a series of the import the GPUs add up; where the source watches the same cluster the larger one counts."""
    same = {"tenant": "search", "accelerator": "a100", "kind": WorkloadClass.COST}
    telemetry.record_reservations([_reservation("r1", **same)], store, clock=_clock)  # pyright: ignore[reportArgumentType]
    assert _gpus(telemetry.read_usage(store), "search")[:5] == [4, 4, 12, 12, 4]
    imported = store.latest(TELEMETRY, IMPORT, remedy="")
    store.client.set_tag(imported.info.run_id, "live", "true")
    assert _gpus(telemetry.read_usage(store), "search")[:5] == [4, 4, 8, 8, 4]


@pytest.mark.parametrize("live", [True, False])
def test_unmeasured_hour_stays_null(store: Store, live: bool):
    """A reservation does not make an hour known in which the rest was not measured."""
    usage = telemetry.read_usage(store)
    gone = usage.demand.with_columns(pl.when(pl.col("hour") != FIRST + 2 * HOUR).then(pl.col("gpus")).alias("gpus"))
    jobs = pl.DataFrame(
        [("r", "search", "cost", "a100", 1.0, FIRST, FIRST, FIRST + 5 * HOUR)], schema=usage.jobs.schema, orient="row"
    )
    after = add_demand(replace(usage, demand=gone, live=live), jobs)
    assert after["gpus"].to_list()[:4] == ([4, 4, None, 4] if live else [5, 5, None, 5])
