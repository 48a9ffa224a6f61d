"""A pipeline's step and its tries: what a later try takes over, an earlier one cannot end any more."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from gangplan import client
from gangplan.errors import KeyConflictError
from gangplan.reserve import Ledger
from gangplan.testing import NOW, FakeClock, a_request
from gangplan.types import PodSet, Reservation, ReservationState

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
STEP = a_request("step")
RUN = "airflow/train/monday"
FIRST, SECOND, OTHER = f"{RUN}/big/1", f"{RUN}/big/2", "airflow/train/tuesday/big/1"


def submit(ledger: Ledger, attempt: str, **changes: object) -> Reservation:
    """Let a try of the step run, ready to wait for ten minutes."""
    return client.submit(ledger, replace(STEP, **changes), NOW + 10 * MINUTE, attempt)  # pyright: ignore[reportArgumentType]


def test_a_step_that_says_its_attempt_has_the_settings_time_to_claim(
    ledger: Ledger, fake: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes, or what the setting or the request says; without an attempt the lease lasts from the grant."""
    assert submit(ledger, FIRST).claim_by == NOW + 2 * MINUTE
    monkeypatch.setenv("GANGPLAN_CLAIM_WITHIN_S", "30")
    assert submit(ledger, SECOND).claim_by == NOW + 2 * MINUTE  # as the request was first made
    client.give_back(ledger, "step")
    assert submit(ledger, FIRST).claim_by == NOW + MINUTE / 2
    client.give_back(ledger, "step")
    assert submit(ledger, FIRST, claim_within=5 * MINUTE).claim_by == NOW + 5 * MINUTE
    client.give_back(ledger, "step")
    unnamed = submit(ledger, "")
    assert (unnamed.claim_by, unnamed.expires_at) == (None, NOW + HOUR)
    assert client.claim(ledger, unnamed) == unnamed


def test_a_claim_begins_the_lease(ledger: Ledger, fake: FakeClock) -> None:
    """Once; a second one changes nothing, and one of a lost grant says what stands."""
    granted = submit(ledger, FIRST)
    fake.advance(MINUTE)
    claimed = client.claim(ledger, granted)
    assert claimed.expires_at == fake() + HOUR
    fake.advance(MINUTE)
    assert client.claim(ledger, claimed) == claimed
    newer = submit(ledger, SECOND)
    assert client.claim(ledger, granted).token == newer.token


def test_a_later_try_takes_over_and_the_earlier_ends_nothing(ledger: Ledger) -> None:
    """Whether it waits or holds: the late end of an old try leaves what a newer one has."""
    granted = submit(ledger, FIRST)
    waiting = client.submit(ledger, a_request("line"), NOW + HOUR, FIRST)
    assert (submit(ledger, SECOND).id, submit(ledger, SECOND).attempt) == (granted.id, SECOND)
    assert client.submit(ledger, a_request("line"), NOW + HOUR, SECOND).id == waiting.id
    assert client.give_back(ledger, "step", FIRST) == []
    assert client.give_back(ledger, "line", FIRST) == []
    assert client.give_back(ledger, "line", SECOND)[0].state is ReservationState.CANCELLED
    assert client.give_back(ledger, "step", SECOND)[0].state is ReservationState.RELEASED
    assert client.give_back(ledger, "step", SECOND) == []


def test_two_runs_cannot_have_one_key_at_a_time(ledger: Ledger) -> None:
    """The second one is told who has it; once that is over, the key is free for it."""
    submit(ledger, FIRST)
    for changed in ({}, {"priority": 7}):
        with pytest.raises(KeyConflictError, match=f"live request of {FIRST}: give each run its own key"):
            submit(ledger, OTHER, **changed)
    client.give_back(ledger, "step", FIRST)
    assert submit(ledger, OTHER).request.request_key == "step#2"


@pytest.mark.parametrize(("held", "what"), [(False, "place in line is lost"), (True, "were given back")])
def test_a_changed_request_replaces_the_one_before(
    ledger: Ledger, held: bool, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A retry after an edit of the DAG asks for what it says now; the log says what became of the old request."""
    if not held:
        ledger.submit(a_request("holds"))
    before = submit(ledger, FIRST)
    with caplog.at_level(logging.WARNING, "gangplan.client"):
        after = submit(ledger, SECOND, pod_sets=(PodSet(count=1, gpus_per_pod=4),))
    assert after.request.request_key == "step#2"
    assert after.request.gpus == 4
    assert ledger.get(before.id).state is (ReservationState.RELEASED if held else ReservationState.CANCELLED)
    assert what in caplog.text


def test_without_an_attempt_a_changed_request_is_refused(ledger: Ledger) -> None:
    """Nobody knows whose the live one is."""
    submit(ledger, "")
    for attempt in ("", FIRST):
        with pytest.raises(KeyConflictError, match="another body"):
            submit(ledger, attempt, priority=7)


def test_all_that_a_run_has_is_given_back(ledger: Ledger) -> None:
    """Of all its tasks and tries, held or waiting; another run's stays."""
    submit(ledger, FIRST)
    client.submit(ledger, a_request("line"), NOW + HOUR, f"{RUN}/other/1")
    client.submit(ledger, a_request("else"), NOW + HOUR, OTHER)
    ended = client.give_back_owned(ledger, RUN)
    assert sorted(one.request.request_key for one in ended) == ["line", "step"]
    assert client.give_back_owned(ledger, RUN) == []
    assert ledger.find("else").state is ReservationState.GRANTED
