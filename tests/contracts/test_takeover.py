"""A grant belongs to an attempt, and to nobody for long until it is claimed: the same on every ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.contracts.test_ledger import soon

from gangplan.client import attempts
from gangplan.errors import InputError, KeyConflictError, NotFoundError, StaleTokenError
from gangplan.reserve import Ledger
from gangplan.testing import NOW, FakeClock, a_request
from gangplan.types import GangRequest, Reservation, ReservationState, Token

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
HANDOVER = timedelta(seconds=50)
FIRST, SECOND, OTHER = "airflow/train/monday/big/1", "airflow/train/monday/big/2", "airflow/train/tuesday/big/1"
Refused = Callable[..., None]


def claimable(key: str = "a", **changes: object) -> GangRequest:
    """Make a request whose grant must be claimed within two minutes."""
    return a_request(key, claim_within=2 * MINUTE, **changes)


def token_of(reservation: Reservation) -> Token:
    """Return the token of what holds slots."""
    assert reservation.token is not None
    return reservation.token


def test_a_grant_that_nobody_claims_goes_back_and_says_so(ledger: Ledger, fake: FakeClock) -> None:
    """The next in line has the slots then; the reservation tells until when somebody should have come."""
    granted = ledger.submit(claimable())
    assert (granted.claim_by, granted.expires_at) == (NOW + 2 * MINUTE, NOW + 2 * MINUTE)
    following = ledger.submit(a_request("b"))
    fake.advance(2 * MINUTE)
    ledger.tick()
    left = ledger.get(granted.id)
    assert (left.state, left.ended_at, left.claim_by) == (ReservationState.EXPIRED, NOW + 2 * MINUTE, granted.claim_by)
    soon(ledger, following.id)


def test_the_lease_and_the_walltime_of_a_claimed_grant_count_from_the_claim(ledger: Ledger, fake: FakeClock) -> None:
    """Who comes late by a minute has the whole time that it asked for; then renewals are as always."""
    granted = ledger.submit(claimable())
    fake.advance(MINUTE)
    claimed = ledger.renew(granted.id, token_of(granted))
    assert (claimed.claim_by, claimed.expires_at) == (None, NOW + MINUTE + HOUR)
    fake.advance(MINUTE)
    assert ledger.renew(granted.id, token_of(granted), 9 * HOUR).expires_at == claimed.expires_at
    ended = ledger.release(granted.id, token_of(granted))
    assert (ended.state, ended.claim_by) == (ReservationState.RELEASED, None)


def test_a_late_claim_takes_no_time_that_another_was_promised(ledger: Ledger, fake: FakeClock) -> None:
    """A promised start stays: the walltime then counts from the grant; and no claim outlasts the deadline."""
    granted = ledger.submit(claimable())
    promised = ledger.submit(a_request("b"))
    assert promised.eta == NOW + HOUR
    fake.advance(MINUTE)
    assert ledger.renew(granted.id, token_of(granted)).expires_at == NOW + HOUR
    assert ledger.get(promised.id).eta == NOW + HOUR
    ledger.cancel(granted.id)
    ledger.cancel(promised.id)
    due = ledger.submit(claimable("due", deadline=fake() + HOUR))
    fake.advance(MINUTE)
    assert ledger.renew(due.id, token_of(due)).expires_at == due.request.deadline


def test_another_attempt_takes_a_grant_over(ledger: Ledger, refused: Refused, fake: FakeClock) -> None:
    """It has a new token and must claim the slots again; the old attempt can renew, release and cancel nothing."""
    first = ledger.submit(claimable(), FIRST)
    ledger.renew(first.id, token_of(first))
    fake.advance(10 * MINUTE)
    second = ledger.submit(claimable(), SECOND)
    assert (second.id, second.placements, second.attempt) == (first.id, first.placements, SECOND)
    assert token_of(second) > token_of(first)
    assert second.claim_by == second.expires_at == fake() + 2 * MINUTE
    refused(StaleTokenError, "nothing was changed", lambda: ledger.renew(first.id, token_of(first)))
    refused(StaleTokenError, "nothing was changed", lambda: ledger.release(first.id, token_of(first)))
    refused(StaleTokenError, "nothing was changed", lambda: ledger.cancel(first.id, FIRST))
    assert ledger.submit(claimable(), SECOND) == second
    claimed = ledger.renew(second.id, token_of(second))
    assert (claimed.claim_by, claimed.expires_at) == (None, NOW + HOUR)
    assert ledger.cancel(second.id, SECOND).state is ReservationState.CANCELLED


def test_a_grant_that_need_not_be_claimed_keeps_its_lease_when_it_is_taken_over(ledger: Ledger) -> None:
    """Its token is a new one all the same."""
    first = ledger.submit(a_request("a"), FIRST)
    second = ledger.submit(a_request("a"), SECOND)
    assert token_of(second) > token_of(first)
    assert (second.claim_by, second.expires_at) == (None, first.expires_at)


def test_another_attempt_keeps_the_place_in_line(ledger: Ledger, refused: Refused, fake: FakeClock) -> None:
    """What waited first is granted first, to the attempt that asked last."""
    holder = ledger.submit(a_request("holds"))
    waiting = ledger.submit(claimable(), FIRST)
    behind = ledger.submit(a_request("behind", priority=50))
    fake.advance(MINUTE)
    again = ledger.submit(claimable(), SECOND)
    assert (again.id, again.eta, again.submitted_at) == (waiting.id, waiting.eta, waiting.submitted_at)
    refused(StaleTokenError, "nothing was changed", lambda: ledger.cancel(waiting.id, FIRST))
    ledger.release(holder.id, token_of(holder))
    soon(ledger, again.id)
    assert ledger.get(behind.id).state is ReservationState.WAITING


def test_another_owner_is_refused(ledger: Ledger, refused: Refused) -> None:
    """The words name who has the key, and what to do; whoever says no attempt gets what stands, and changes nothing."""
    first = ledger.submit(claimable(), FIRST)
    refused(KeyConflictError, f"live request of {FIRST}: give each run its own key", lambda: submit(ledger, OTHER))
    assert submit(ledger, "") == first
    ledger.release(first.id, token_of(first))
    assert submit(ledger, OTHER).attempt == FIRST


def submit(ledger: Ledger, attempt: str) -> Reservation:
    """Submit the request of these tests for an attempt."""
    return ledger.submit(claimable(), attempt)


def test_what_an_owner_has_can_be_listed(ledger: Ledger, fake: FakeClock) -> None:
    """By as much of the path as one gives; names are told apart at their ends."""
    for key, attempt in (("a", FIRST), ("b", OTHER), ("c", "airflow/train%2Fold/x/big/1"), ("d", "")):
        ledger.submit(claimable(key, duration=2 * HOUR), attempt)
        fake.advance(MINUTE / 4)
    waiting = ReservationState.WAITING

    def keys(owner: str, state: ReservationState | None = None) -> list[str]:
        return [one.request.request_key for one in ledger.list(state, owner)]

    assert keys("airflow/train") == ["a", "b"]
    assert keys("airflow/train", waiting) == ["b"]
    assert keys("airflow/train/monday/big") == ["a"]
    assert keys("airflow/train%2Fold") == ["c"]
    assert keys("airflow/trai") == []
    assert keys("") == ["a", "b", "c", "d"]
    assert ledger.find("a").owner == "airflow/train/monday/big"


def test_the_text_of_an_attempt_may_be_long_but_holds_no_line_breaks(ledger: Ledger, refused: Refused) -> None:
    """Ids of DAGs, runs and tasks are long each; what no ledger can show is refused by name."""
    long = "/".join(["airflow", *(name * 240 for name in "abc"), "-1", "1"])
    assert ledger.submit(a_request("a"), long).attempt == long
    for wrong in ("x" * 2001, "two\nlines"):
        refused(InputError, "attempt", lambda wrong=wrong: ledger.submit(a_request("b"), wrong))
        refused(InputError, "attempt", lambda wrong=wrong: ledger.cancel(ledger.find("a").id, wrong))


@pytest.mark.parametrize("ends", [ReservationState.RELEASED, ReservationState.EXPIRED])
def test_what_has_ended_is_taken_over_by_nobody(ledger: Ledger, fake: FakeClock, ends: ReservationState) -> None:
    """A later attempt hears how it ended, and whose it was."""
    first = ledger.submit(claimable(), FIRST)
    if ends is ReservationState.RELEASED:
        ledger.release(first.id, token_of(first))
    fake.advance(2 * MINUTE)
    after = submit(ledger, SECOND)
    assert (after.state, after.attempt) == (ends, FIRST)


def test_slots_between_two_steps_of_a_run_are_kept_for_the_handover_and_no_longer(
    ledger: Ledger, fake: FakeClock
) -> None:
    """The run has died: whoever waits next has them then, and needs nobody's help."""
    request = a_request("run", claim_within=HANDOVER)
    granted = attempts.submit(ledger, request, fake() + HOUR, FIRST)
    kept = attempts.claim(ledger, granted, HANDOVER)
    assert (kept.claim_by, kept.expires_at) == (None, NOW + HANDOVER)
    following = ledger.submit(a_request("b"))
    fake.advance(HANDOVER - timedelta(seconds=1))
    assert attempts.submit(ledger, request, fake() + HOUR, FIRST).token == granted.token
    assert attempts.claim(ledger, ledger.get(granted.id), HANDOVER).expires_at == fake() + HANDOVER
    fake.advance(HANDOVER)
    soon(ledger, following.id)
    assert ledger.get(granted.id).state is ReservationState.EXPIRED


def test_a_step_that_comes_after_its_slots_went_back_asks_for_the_same_again(ledger: Ledger, fake: FakeClock) -> None:
    """One that comes in time finds what stands; a run that never reserved is told so."""
    request = a_request("run", claim_within=HANDOVER)
    first = attempts.submit(ledger, request, fake() + MINUTE, FIRST)
    assert attempts.ask_again(ledger, "run", fake() + MINUTE).token == first.token
    attempts.give_back(ledger, "run")
    fake.advance(HOUR)
    second, third = (attempts.ask_again(ledger, "run", fake() + MINUTE) for _ in range(2))
    assert second.id == third.id != first.id
    assert (second.state, second.attempt, second.request.claim_within) == (ReservationState.GRANTED, FIRST, HANDOVER)
    assert second.request.latest_start == fake() + MINUTE + attempts.ABANDONED_AFTER
    with pytest.raises(NotFoundError, match="nothing was reserved under 'never': reserve it first"):
        attempts.ask_again(ledger, "never", fake() + MINUTE)
