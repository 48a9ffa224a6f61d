"""Telemetry that the ledger denies is kept out, named, and released by a person."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, strategies as st
from tests.command import caller, widen

from gangplan import summaries, telemetry
from gangplan.errors import InputError, NotFoundError
from gangplan.tables import DEMAND, conform
from gangplan.telemetry.quarantine import find_denied
from gangplan.tracking import Store
from gangplan.types import GangRequest, PodSet, Reservation, ReservationId, ReservationState, Token, WorkloadClass

HOUR, DAY = timedelta(hours=1), 24
START = datetime.fromisoformat("2026-03-02T00:00:00Z")
ASKED = 40 + 10 * np.sin(np.arange(16 * DAY) * 2 * np.pi / DAY)
"""What the ledger was asked for in 16 days: a daily cycle."""


def demand(gpus: np.ndarray, tenant: str = "search") -> pl.DataFrame:
    """Return the demand of one series."""
    hours = [START + hour * HOUR for hour in range(len(gpus))]
    series = {"tenant": tenant, "workload_class": "latency", "accelerator": "h100"}
    return conform("demand", pl.DataFrame({"hour": hours, "gpus": gpus}).with_columns(**_lits(series)), DEMAND)


def _lits(values: dict[str, str]) -> dict[str, pl.Expr]:
    return {name: pl.lit(value) for name, value in values.items()}


def counted(factor: float, first: int, hours: int, share: float = 1.0) -> pl.DataFrame:
    """Return telemetry that counts `share` of the truth (as where the ledger sees only a part), and a wrong stretch."""
    gpus = ASKED * share
    gpus[first : first + hours] *= factor
    return demand(gpus)


@pytest.mark.parametrize("factor", [5.0, 0.0, 0.05])
@pytest.mark.parametrize("share", [1.0, 1.8])
def test_a_poisoned_day_is_denied(factor: float, share: float) -> None:
    """Five times or none of it for a day: exactly those hours, with what was counted and what was to be expected."""
    (found,) = find_denied(counted(factor, 15 * DAY, DAY, share), demand(ASKED))
    assert (found.start, found.end) == (START + 15 * DAY * HOUR, START + 16 * DAY * HOUR)
    assert found.series == "search/latency/h100"
    assert found.expected_gpus == pytest.approx(40 * share, rel=0.02)
    assert found.counted_gpus == pytest.approx(40 * share * factor, abs=0.1)


def test_two_hours_are_enough_and_one_is_not() -> None:
    """It is named when the second bad hour is over; a single odd hour is let pass."""
    wrong = counted(5.0, 15 * DAY, DAY)
    until = wrong.filter(pl.col("hour") < START + (15 * DAY + 2) * HOUR)
    assert len(find_denied(until, demand(ASKED))) == 1
    assert find_denied(counted(5.0, 15 * DAY, 1), demand(ASKED)) == ()


def test_a_spike_that_the_ledger_was_asked_for_is_believed() -> None:
    """Eight times the demand, told by both: nothing is denied."""
    gpus = ASKED.copy()
    gpus[15 * DAY :] *= 8
    assert find_denied(demand(gpus), demand(gpus)) == ()


def test_where_the_ledger_says_nothing_nothing_is_denied() -> None:
    """No reservations, another series, or less than a day of common hours give no verdict."""
    wrong = counted(5.0, 15 * DAY, DAY)
    assert find_denied(wrong, demand(ASKED * 0)) == ()
    assert find_denied(wrong, demand(ASKED, "ads")) == ()
    assert find_denied(counted(5.0, 10, 10), demand(ASKED)) == ()


def test_where_the_ledger_sees_little_of_a_series_the_ratio_may_swing() -> None:
    """A series whose ratio to the ledger wanders by a factor of five as a rule is not denied for that."""
    swing = np.exp(np.random.default_rng(3).normal(0, 0.8, ASKED.size))
    assert find_denied(demand(ASKED * swing), demand(ASKED)) == ()


@given(noise=st.floats(0.0, 0.25), seed=st.integers(0, 1000), share=st.floats(0.3, 3.0))
def test_telemetry_with_noise_is_never_denied(noise: float, seed: int, share: float) -> None:
    """Whatever share the ledger sees, chance alone denies nothing."""
    chance = np.exp(np.random.default_rng(seed).normal(0, noise, ASKED.size))
    assert find_denied(demand(ASKED * share * chance), demand(ASKED)) == ()


NOW = START + 16 * DAY * HOUR


def now() -> datetime:
    """Return the hour after the last."""
    return NOW


@pytest.fixture
def poisoned(tmp_path, mlflow_store: Store) -> Store:
    """A store whose newest import counts the last day five times, beside a ledger that granted 8 GPUs all the time."""
    gpus = np.full(16 * DAY, 8.0)
    gpus[15 * DAY :] *= 5
    table = demand(gpus).with_columns(hour=pl.col("hour").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    table.write_csv(tmp_path / "demand.csv")
    telemetry.ingest(str(tmp_path / "demand.csv"), mlflow_store, seed=7, clock=now)
    request = GangRequest(
        request_key="search",
        tenant="search",
        pod_sets=(PodSet(count=1, gpus_per_pod=8),),
        accelerators=("h100",),
        duration=HOUR,
        workload_class=WorkloadClass.LATENCY,
    )
    held = Reservation(
        id=ReservationId("r1"),
        request=request,
        state=ReservationState.GRANTED,
        submitted_at=START,
        token=Token(1),
        granted_at=START,
    )
    telemetry.record_reservations([held], mlflow_store, clock=now)
    return mlflow_store


def test_denied_hours_are_missing_until_a_person_releases_them(poisoned: Store) -> None:
    """Their demand is null, a note names them; after the release they are demand again, and the digest tells."""
    before = telemetry.read_usage(poisoned)
    late = pl.col("hour") >= START + 15 * DAY * HOUR
    assert before.demand.filter(late)["gpus"].null_count() == DAY
    assert before.demand.filter(~late)["gpus"].null_count() == 0
    assert any("quarantined: search/latency/h100" in note for note in before.notes)
    telemetry.release("search/latency/h100", poisoned, before.quarantined, by="ada", why="a launch", clock=now)
    after = telemetry.read_usage(poisoned)
    assert after.quarantined == ()
    assert after.demand["gpus"].null_count() == 0
    assert after.sha256 != before.sha256


def test_a_release_names_what_it_is_about(poisoned: Store) -> None:
    """An unknown series, an empty reason and what is no series are refused; nothing is written."""
    quarantined = telemetry.read_usage(poisoned).quarantined
    with pytest.raises(NotFoundError, match="search/latency/h100"):
        telemetry.release("ads/latency/h100", poisoned, quarantined, by="ada", why="x", clock=now)
    with pytest.raises(InputError, match="series"):
        telemetry.release("search", poisoned, quarantined, by="ada", why="x", clock=now)
    with pytest.raises(InputError, match="why"):
        telemetry.release("search/latency/h100", poisoned, quarantined, by="ada", why="", clock=now)
    assert telemetry.read_usage(poisoned).quarantined == quarantined


def test_the_next_import_names_what_is_denied(poisoned: Store, tmp_path: Path) -> None:
    """The word `quarantined` and the series stand in what `gangplan ingest` prints."""
    report = telemetry.ingest(str(tmp_path / "demand.csv"), poisoned, seed=7, clock=now)
    said = summaries.of_ingest(report)
    assert said["quarantined"] == ["search/latency/h100"]
    assert any(note.startswith("quarantined: search/latency/h100, 2026-03-17 00:00") for note in said["notes"])


def test_the_command_lists_and_releases(
    poisoned: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is kept out makes the exit code 1; its times are those of JSON; after the release nothing is kept out."""
    widen(monkeypatch, 200)
    call, here = caller(monkeypatch, capsys), ("--home", str(tmp_path), "--now", NOW.isoformat(), "quarantine")
    listed = call(*here, "list", "--json")
    day = {"start": "2026-03-17T00:00:00+00:00", "end": "2026-03-18T00:00:00+00:00"}
    wanted = [{"series": "search/latency/h100", **day, "counted_gpus": 40.0, "expected_gpus": 8.0}]
    assert (listed.code, listed.json) == (1, wanted)
    assert "search/latency/h100" in call(*here, "list").out
    why = ("--by", "ada", "--why", "a launch", "--json")
    assert call(*here, "release", "search/latency/h100", *why).json == wanted
    assert (call(*here, "list", "--json").code, telemetry.read_usage(poisoned).quarantined) == (0, ())
