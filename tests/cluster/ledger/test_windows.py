"""Advance windows on Kueue: queued some time ahead, held until they open, never more than there is."""

from __future__ import annotations

from datetime import timedelta

from gangplan.testing import a_request
from gangplan.types import Limit, PodSet, ReservationState
from tests.cluster.conftest import Space, until

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GRANTED, WAITING = ReservationState.GRANTED, ReservationState.WAITING
HALF = (PodSet(count=1, gpus_per_pod=4),)


def test_a_window_far_away_holds_nothing_and_is_on_the_calendar(space: Space, queue: str) -> None:
    """It is a row in no queue; others may use the slots until shortly before."""
    ledger = space.ledger(ahead=5 * MINUTE)
    opens = space.clock() + 2 * HOUR
    window = ledger.submit(a_request("w", earliest_start=opens))
    assert (window.state, window.eta) == (WAITING, opens)
    assert window.reason is not None
    assert window.reason.limit is Limit.WINDOW
    assert "queueName" not in space.workload(window.id)["spec"]
    spans = ledger.calendar(opens - HOUR, opens + 2 * HOUR)
    assert [(one.start, one.held_gpus) for one in spans] == [(opens - HOUR, 0), (opens, 8), (opens + HOUR, 0)]
    assert ledger.submit(a_request("now")).state is GRANTED


def test_a_window_is_queued_ahead_holds_its_slots_and_opens_on_time(space: Space, queue: str) -> None:
    """From `ahead` on the slots are kept free for it by its own Workload; it is granted when it opens, not before."""
    ledger = space.ledger(ahead=5 * MINUTE)
    opens = space.clock() + HOUR
    window = ledger.submit(a_request("w", earliest_start=opens))
    space.clock.advance(HOUR - 4 * MINUTE)
    until(lambda: space.condition(window.id, "Admitted").startswith("True"))
    kept = ledger.get(window.id)
    assert (kept.state, kept.token, kept.eta) == (WAITING, None, opens)
    late = ledger.submit(a_request("late", priority=1000))
    assert late.state is WAITING
    space.clock.advance(4 * MINUTE)
    granted = ledger.get(window.id)
    assert (granted.state, granted.granted_at) == (GRANTED, opens)
    assert granted.expires_at == opens + HOUR
    assert granted.token is not None
    assert ledger.renew(granted.id, granted.token).state is GRANTED


def test_a_window_that_opens_wakes_who_waits_for_it(space: Space, queue: str) -> None:
    """Time alone grants it: its holder hears of that by subscription."""
    ledger = space.ledger(ahead=5 * MINUTE)
    window = ledger.submit(a_request("w", earliest_start=space.clock() + 10 * MINUTE))
    heard: list[ReservationState] = []
    ledger.subscribe(window.id, lambda now: heard.append(now.state))
    space.clock.advance(6 * MINUTE)
    until(lambda: space.condition(window.id, "Admitted").startswith("True"))
    space.clock.advance(4 * MINUTE)
    until(lambda: heard and heard[-1] is GRANTED)


def test_a_window_that_finds_its_slots_held_waits_and_says_so(space: Space, queue: str) -> None:
    """Nothing is allocated twice: who runs longer than the window's start keeps its slots, and the window is late."""
    ledger = space.ledger(ahead=5 * MINUTE)
    long = ledger.submit(a_request("long", duration=3 * HOUR))
    opens = space.clock() + HOUR
    window = ledger.submit(a_request("w", earliest_start=opens, latest_start=opens + 10 * MINUTE))
    space.clock.advance(HOUR + MINUTE)
    until(lambda: space.workload(window.id)["spec"].get("queueName") == "queue")
    late = until(lambda: (now := ledger.get(window.id)).reason and now.reason.limit is Limit.CAPACITY and now)
    assert late.state is WAITING
    assert ledger.get(long.id).state is GRANTED
    space.clock.advance(10 * MINUTE)
    assert ledger.get(window.id).state is ReservationState.EXPIRED


def test_a_cancelled_window_is_never_queued(space: Space, queue: str) -> None:
    """Its row is over, whatever the time."""
    ledger = space.ledger(ahead=5 * MINUTE)
    window = ledger.submit(a_request("w", earliest_start=space.clock() + HOUR, pod_sets=HALF))
    assert ledger.cancel(window.id).state is ReservationState.CANCELLED
    space.clock.advance(2 * HOUR)
    ledger.tick()
    assert ledger.get(window.id).state is ReservationState.CANCELLED
    assert ledger.calendar(space.clock(), space.clock() + HOUR)[0].held_gpus == 0
