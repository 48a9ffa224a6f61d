"""What the ledger on Kueue does beside the contract; the clock is moved, Kueue's own is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from gangplan.clock import to_us
from gangplan.errors import (
    InputError,
    KeyConflictError,
    NotFoundError,
    StaleTokenError,
    UnsupportedError,
    WaitTimeoutError,
)
from gangplan.kube import END, claim_from
from gangplan.reserve.kueue.ledger import KueueLedger
from gangplan.reserve.kueue.objects import names, view
from gangplan.reserve.kueue.objects.record import Records
from gangplan.testing import a_request
from gangplan.types import Limit, PodSet, Reservation, ReservationId, ReservationState, Token
from tests.cluster.conftest import Space, until

HOUR = timedelta(hours=1)
WAITING, GRANTED = ReservationState.WAITING, ReservationState.GRANTED
HALF = (PodSet(count=1, gpus_per_pod=4),)


def held(ledger: KueueLedger, key: str, **changes: object) -> tuple[Reservation, Token]:
    """Submit a request that is granted at once."""
    reservation = ledger.submit(a_request(key, **changes))
    assert reservation.token is not None, reservation
    return reservation, reservation.token


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


# ---------------------------------------------------------------- records of what ended


def interrupted_release(space: Space, held: Reservation) -> None:
    """Do the first half of a release as a process does that dies then: the record is there, and the Workload too."""
    claim = claim_from(space.workload(held.id))
    Records(space.api, space.name).add(replace(claim, end=f"{view.RELEASED}:{to_us(space.clock())}"))


def interrupted_end(space: Space, held: Reservation) -> None:
    """Do the first half of any other end: the Workload is marked, and still there."""
    mark = {END: f"{view.CANCELLED}:{to_us(space.clock())}"}
    body = {"metadata": {"annotations": mark}}
    space.api.merge(f"{names.workloads(space.name)}/{held.id}", body)


def test_a_release_that_was_broken_off_is_brought_to_its_end(ledger: KueueLedger, space: Space) -> None:
    """It holds until the next ledger that keeps house gives the quota back, and ended when it was to end."""
    first, _ = held(ledger, "a")
    interrupted_release(space, first)
    assert ledger.get(first.id).state is GRANTED
    assert [one.state for one in ledger.list()] == [GRANTED]
    ledger.close()
    other = space.ledger()
    other.serve()
    assert other.wait(other.submit(a_request("b")).id, timeout=timedelta(seconds=10)).state is GRANTED
    assert other.get(first.id).state is ReservationState.RELEASED


def test_a_release_that_was_broken_off_does_not_end_what_was_renewed_since(ledger: KueueLedger, space: Space) -> None:
    """Its holder goes on: only its next release counts."""
    first, token = held(ledger, "a")
    interrupted_release(space, first)
    ledger.renew(first.id, token, timedelta(minutes=50))
    ledger.tick()
    assert ledger.get(first.id).state is GRANTED
    assert ledger.release(first.id, token).state is ReservationState.RELEASED


def test_any_other_end_that_was_broken_off_stands(ledger: KueueLedger, space: Space) -> None:
    """Whoever looks sees the end, nothing changes it, and the next that keeps house gives the quota back."""
    first, token = held(ledger, "a")
    interrupted_end(space, first)
    ended = ledger.get(first.id)
    assert ended.state is ReservationState.CANCELLED
    with pytest.raises(StaleTokenError, match="is cancelled"):
        ledger.renew(first.id, token)
    assert ledger.release(first.id, token) == ledger.cancel(first.id) == ended
    space.clock.advance(timedelta(seconds=6))
    ledger.tick()
    with pytest.raises(NotFoundError):
        space.workload(first.id)
    assert ledger.list() == (ended,)
    assert held(ledger, "b")[0].state is GRANTED


@pytest.mark.parametrize("serves", [False, True])
def test_what_is_over_is_not_revived_by_another_process(ledger: KueueLedger, space: Space, serves: bool) -> None:
    """Its key answers with its end, by one that was there and by one that came later, whatever they have heard."""
    early = space.ledger()
    if serves:
        early.serve()
    first, token = held(ledger, "a")
    ended = ledger.release(first.id, token)
    late = space.ledger()
    if serves:
        late.serve()
    assert early.submit(a_request("a")) == late.submit(a_request("a")) == ended
    with pytest.raises(KeyConflictError):
        late.submit(a_request("a", priority=7))
    assert held(late, "b")[0].state is GRANTED


def test_two_who_end_one_reservation_hear_the_same(ledger: KueueLedger, space: Space) -> None:
    """Released by some and cancelled by others at once: one end for all and for good, at the moment of the first."""
    first, token = held(ledger, "a")
    ledgers = [space.ledger() for _ in range(4)]
    for one in ledgers:
        one.serve()
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda n: _end(ledgers[n % 4], first.id, token, n), range(8)))
    stands = ledger.get(first.id)
    assert {one.state for one in ends} == {stands.state}
    assert stands.ended_at == min(one.ended_at for one in ends if one.ended_at)


def _end(ledger: KueueLedger, id: ReservationId, token: Token, number: int) -> Reservation:
    return ledger.release(id, token) if number % 2 else ledger.cancel(id)


def test_retention_leaves_nothing_that_could_come_back(ledger: KueueLedger, space: Space) -> None:
    """A record goes after its Workload, also where somebody died between the two."""
    first, _ = held(ledger, "a")
    interrupted_end(space, first)
    assert ledger.compact(space.clock() + HOUR).reservations == 1
    with pytest.raises(NotFoundError, match="there is no reservation"):
        ledger.get(first.id)
    assert held(ledger, "a")[0].state is GRANTED
