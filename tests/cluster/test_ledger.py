"""The ledger's contract on Kueue, as far as Kueue can keep it; the clock is moved, Kueue's own is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gangplan.errors import (
    InputError,
    KeyConflictError,
    NotFoundError,
    StaleTokenError,
    UnsupportedError,
    WaitTimeoutError,
)
from gangplan.reserve.kueue.ledger import KueueLedger
from gangplan.testing import a_request
from gangplan.types import Limit, PodSet, Reservation, ReservationState, Token
from tests.cluster.conftest import Space, until

HOUR = timedelta(hours=1)
WAITING, GRANTED = ReservationState.WAITING, ReservationState.GRANTED
HALF = (PodSet(count=1, gpus_per_pod=4),)


def held(ledger: KueueLedger, key: str, **changes: object) -> tuple[Reservation, Token]:
    """Submit a request that is granted at once."""
    reservation = ledger.submit(a_request(key, **changes))
    assert reservation.token is not None, reservation
    return reservation, reservation.token


def test_a_gang_that_fits_is_granted_whole_at_once(ledger: KueueLedger, space: Space) -> None:
    """All its pods have slots of a flavor, a token and a lease of the asked duration."""
    granted, _ = held(ledger, "a")
    assert granted.state is GRANTED
    assert sum(place.gpus for place in granted.placements) == 8
    assert {place.pool for place in granted.placements} == {f"{space.name}-h100"}
    assert granted.granted_at is not None
    assert granted.expires_at == granted.granted_at + HOUR
    assert ledger.get(granted.id) == ledger.find("a") == granted


def test_a_gang_that_does_not_fit_gets_nothing_and_waits(ledger: KueueLedger) -> None:
    """A half-free queue grants no half gang: it waits, with an expected start, a limit and the holder named."""
    holder, _ = held(ledger, "a", pod_sets=HALF)
    waiting = ledger.submit(a_request("b"))
    assert (waiting.state, waiting.placements, waiting.token) == (WAITING, (), None)
    assert waiting.eta == holder.expires_at
    assert waiting.reason is not None
    assert waiting.reason.limit is Limit.CAPACITY
    assert "insufficient unused quota" in waiting.reason.message
    explained = ledger.explain(waiting.id)
    assert explained is not None
    assert explained.holders == (holder.id,)


def test_same_key_and_body_is_the_same_row(ledger: KueueLedger) -> None:
    """Submitting again, even after the end, answers with the one row."""
    first, token = held(ledger, "a")
    assert ledger.submit(a_request("a")) == first
    ended = ledger.release(first.id, token)
    assert ledger.submit(a_request("a")) == ended
    assert len(ledger.list()) == 1


def test_same_key_with_another_body_is_refused(ledger: KueueLedger) -> None:
    """The key is one request's alone."""
    held(ledger, "a")
    with pytest.raises(KeyConflictError, match="another body"):
        ledger.submit(a_request("a", priority=7))
    assert len(ledger.list()) == 1


def test_release_frees_for_the_next_and_answers_the_same_twice(ledger: KueueLedger) -> None:
    """The one who waited is granted soon after, and its token is not smaller."""
    first, token = held(ledger, "a")
    second = ledger.submit(a_request("b"))
    ended = ledger.release(first.id, token)
    assert ended.state is ReservationState.RELEASED
    assert ledger.release(first.id, token) == ended
    now_held = ledger.wait(second.id, timeout=timedelta(seconds=10))
    assert now_held.state is GRANTED
    assert (now_held.token or 0) >> 20 >= token >> 20


def test_a_stale_token_changes_nothing(ledger: KueueLedger) -> None:
    """Renew and release refuse any token but the present one."""
    granted, token = held(ledger, "a")
    with pytest.raises(StaleTokenError, match="nothing was changed"):
        ledger.release(granted.id, Token(token + 1))
    with pytest.raises(StaleTokenError, match="nothing was changed"):
        ledger.renew(granted.id, Token(token + 1))
    assert ledger.get(granted.id) == granted
    ledger.release(granted.id, token)
    with pytest.raises(StaleTokenError, match="cannot be renewed"):
        ledger.renew(granted.id, token)


def test_a_lease_ends_by_itself(ledger: KueueLedger, space: Space) -> None:
    """After its expiry the slots are the next one's, and the old token renews nothing; a late release is answered."""
    first, token = held(ledger, "a")
    second = ledger.submit(a_request("b", duration=2 * HOUR))  # Kueue's clock, by which it is granted, is not moved
    space.clock.advance(HOUR)
    assert ledger.wait(second.id, timeout=timedelta(seconds=10)).state is GRANTED
    assert ledger.get(first.id).state is ReservationState.EXPIRED
    with pytest.raises(StaleTokenError, match="expired"):
        ledger.renew(first.id, token)
    assert ledger.release(first.id, token).state is ReservationState.EXPIRED


def test_renewal_moves_the_end_but_never_past_the_walltime(ledger: KueueLedger, space: Space) -> None:
    """A heartbeat with a ttl sets the end from now; all renewals together stay within the walltime."""
    granted, token = held(ledger, "a", walltime=2 * HOUR)
    assert granted.granted_at is not None
    space.clock.advance(timedelta(minutes=30))
    ends = ledger.renew(granted.id, token, timedelta(minutes=1)).expires_at
    assert ends is not None
    assert timedelta(seconds=50) < ends - space.clock() <= timedelta(minutes=1)
    assert ledger.renew(granted.id, token, 9 * HOUR).expires_at == granted.granted_at + 2 * HOUR


def test_cancel_ends_what_waits_and_what_holds(ledger: KueueLedger) -> None:
    """A cancelled holder frees its slots; a cancelled waiter leaves the line; again answers the same."""
    first, _ = held(ledger, "a")
    second, third = ledger.submit(a_request("b")), ledger.submit(a_request("c"))
    assert ledger.cancel(second.id).state is ReservationState.CANCELLED
    assert ledger.cancel(first.id) == ledger.cancel(first.id)
    assert ledger.wait(third.id, timeout=timedelta(seconds=10)).state is GRANTED


def test_a_window_that_passed_ends_the_request(ledger: KueueLedger, space: Space) -> None:
    """A request not started by its latest start expires, and holds nothing later."""
    first, token = held(ledger, "a")
    missed = ledger.submit(a_request("b", latest_start=space.clock() + timedelta(minutes=30)))
    space.clock.advance(timedelta(minutes=31))
    assert ledger.get(missed.id).state is ReservationState.EXPIRED
    ledger.release(first.id, token)
    assert held(ledger, "c")[0].state is GRANTED
    assert ledger.get(missed.id).state is ReservationState.EXPIRED


def test_priority_goes_first(ledger: KueueLedger) -> None:
    """Kueue's line is by priority, then by arrival; so are the expected starts."""
    first, token = held(ledger, "a")
    low, high = ledger.submit(a_request("low", priority=1)), ledger.submit(a_request("high", priority=9))
    assert first.expires_at is not None
    assert ledger.get(high.id).eta == first.expires_at
    assert ledger.get(low.id).eta == first.expires_at + HOUR
    ledger.release(first.id, token)
    assert ledger.wait(high.id, timeout=timedelta(seconds=10)).state is GRANTED
    assert ledger.get(low.id).state is WAITING


def test_a_watch_and_a_subscription_see_each_change(ledger: KueueLedger) -> None:
    """Waiting, granted, released: from one watch on the cluster, for all who listen."""
    first, token = held(ledger, "a")
    second = ledger.submit(a_request("b"))
    heard: list[ReservationState] = []
    ledger.subscribe(second.id, lambda now: heard.append(now.state))
    seen = ledger.watch(second.id)
    assert next(seen).state is WAITING
    ledger.release(first.id, token)
    until(lambda: GRANTED in heard)
    now = ledger.get(second.id)
    ledger.release(now.id, now.token or Token(0))
    states = [one.state for one in seen]
    assert (states[0], states[-1]) == (GRANTED, ReservationState.RELEASED)
    until(lambda: heard[-1] is ReservationState.RELEASED)


def test_waiting_ends_in_time(ledger: KueueLedger) -> None:
    """Who waits no longer hears why nothing came."""
    held(ledger, "a")
    waiting = ledger.submit(a_request("b"))
    with pytest.raises(WaitTimeoutError, match="insufficient unused quota"):
        ledger.wait(waiting.id, timeout=timedelta(seconds=1))


def test_what_is_not_there_is_said(ledger: KueueLedger) -> None:
    """An unknown reservation, and a Workload that is none of ours."""
    with pytest.raises(NotFoundError, match="is not in"):
        ledger.find("nothing")


def test_the_calendar_says_what_is_free(ledger: KueueLedger, space: Space) -> None:
    """Held until the walltime's end, free afterwards; what-if finds that moment and writes nothing."""
    first, _ = held(ledger, "a", pod_sets=HALF)
    now = space.clock()
    spans = ledger.calendar(now, now + 3 * HOUR)
    assert [(one.planned_gpus, one.held_gpus) for one in spans] == [(8, 4), (8, 0)]
    assert spans[0].end == first.expires_at
    assert ledger.what_if(a_request("big"))[0] == first.expires_at
    at, why = ledger.what_if(a_request("small", pod_sets=HALF))
    assert why is None
    assert at is not None
    assert at <= space.clock()
    never, reason = ledger.what_if(a_request("giant", pod_sets=(PodSet(count=3, gpus_per_pod=4),)))
    assert never is None
    assert reason is not None
    assert reason.limit is Limit.QUOTA
    assert len(ledger.list()) == 1


def test_what_ended_stays_until_it_is_compacted(ledger: KueueLedger, space: Space) -> None:
    """History has it, in order of arrival, until retention deletes it."""
    first, token = held(ledger, "a")
    ledger.release(first.id, token)
    second, _ = held(ledger, "b")
    assert [one.request.request_key for one in ledger.history()] == ["a", "b"]
    assert [one.request.request_key for one in ledger.history(space.clock() + HOUR)] == ["b"]
    assert ledger.compact(space.clock() + HOUR).reservations == 1
    assert [one.id for one in ledger.list()] == [second.id]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accelerators": ("b200",)}, "accelerators: 'b200' are in no flavor"),
        ({"pod_sets": (PodSet(count=2, gpus_per_pod=4, min_count=1),)}, "cannot change on Kueue"),
        ({"speed": {"h100": 2.0}}, "speed: .* cannot be kept"),
        ({"checkpoint": timedelta(minutes=1), "preemptible": True}, "checkpoint: .* without notice"),
        ({"priority_class": "no-such-class"}, "priority_class: .* is no WorkloadPriorityClass"),
    ],
)
def test_what_kueue_cannot_keep_is_refused_in_words(
    ledger: KueueLedger, changes: dict[str, object], words: str
) -> None:
    """The field, the value and the remedy; nothing is written."""
    with pytest.raises(InputError, match=words):
        ledger.submit(a_request("a", **changes))
    assert ledger.list() == ()


def test_calls_that_kueue_has_nothing_for_are_refused(ledger: KueueLedger) -> None:
    """Each says what to use instead."""
    for call in (ledger.policy, ledger.policies, ledger.replay, ledger.audit):
        with pytest.raises(UnsupportedError, match="a ledger on Kueue cannot do that"):
            call()
