"""The lease of running work is kept, and its loss is never quiet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from gangplan.client.lease import hold
from gangplan.clock import floor_hour
from gangplan.config import present
from gangplan.errors import StaleTokenError, UnavailableError
from gangplan.reserve import Ledger, open_ledger
from gangplan.reserve.policy.rules import Policy, Preemption
from gangplan.testing import FakeClock, a_calendar, a_pool, a_request, memory_ledger
from gangplan.types import NodeState, PodSet, Reservation, ReservationState, Token

pytestmark = pytest.mark.present("a thread renews leases of one second")
LEASE = timedelta(seconds=1)
PATIENCE_S = 20.0


@pytest.fixture
def ledger() -> Ledger:
    """A ledger in memory that lives by the machine's clock, as the renewing thread does."""
    ledger = open_ledger("memory://")
    ledger.publish(a_calendar(start=floor_hour(present())))
    return ledger


def granted(ledger: Ledger) -> tuple[Reservation, Token]:
    """Reserve all there is for one second, renewable for an hour."""
    held = ledger.submit(a_request(duration=LEASE, walltime=timedelta(hours=1)))
    assert held.token is not None
    return held, held.token


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds, and fail when it does not come about."""
    until = present() + timedelta(seconds=PATIENCE_S)
    pause = threading.Event()
    while not holds():
        assert present() < until
        pause.wait(0.02)


def test_the_lease_outlives_its_first_end(ledger: Ledger) -> None:
    """Work that runs longer than one lease still holds its slots, and another gang still waits for them."""
    held, token = granted(ledger)
    with hold(ledger, held.id, token) as kept:
        eventually(lambda: present() > held.submitted_at + 2 * LEASE)
        ledger.tick()
        assert ledger.get(held.id).state is ReservationState.GRANTED
        assert ledger.submit(a_request("other")).state is ReservationState.WAITING
        kept.check()


def test_work_that_was_told_to_end_renews_for_what_is_left_of_a_renewal() -> None:
    """From then on, however often it is told; for half of one at least, so that it may save."""
    fake, second = FakeClock(), timedelta(seconds=1)
    ledger = memory_ledger(fake)
    held, token = granted(ledger)
    with hold(ledger, held.id, token, ttl=50 * second, clock=fake) as kept:
        fake.advance(10 * second)
        assert kept.ttl == 50 * second
        for passed, left in ((0, 50), (15, 35), (30, 25)):
            fake.advance(passed * second)
            kept.told_to_end()
            assert kept.ttl == left * second


def test_a_stale_token_stops_the_work_before_it_starts(ledger: Ledger) -> None:
    """A token that is not the reservation's present one raises before the block runs."""
    held, token = granted(ledger)
    ledger.release(held.id, token)
    with pytest.raises(StaleTokenError), hold(ledger, held.id, token):
        pytest.fail("the block ran without its slots")


def test_a_lost_lease_is_told_between_steps_and_at_the_end(ledger: Ledger) -> None:
    """When the slots are taken away, `check` raises, and so does the end of a block that never asked."""
    held, token = granted(ledger)
    asked: list[str] = []

    def work() -> None:
        with hold(ledger, held.id, token) as kept:
            ledger.cancel(held.id)
            assert kept.lost.wait(PATIENCE_S)
            with pytest.raises(StaleTokenError, match=held.id) as told:
                kept.check()
            asked.append(str(told.value))

    with pytest.raises(StaleTokenError, match="the lease was lost") as ended:
        work()
    assert asked == [str(ended.value)]


def test_the_work_s_own_error_is_what_is_seen(ledger: Ledger) -> None:
    """An error of the block is not covered by the loss of the lease."""
    held, token = granted(ledger)

    def work() -> None:
        with hold(ledger, held.id, token) as kept:
            ledger.cancel(held.id)
            assert kept.lost.wait(PATIENCE_S)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


class Away:
    """A ledger whose renewals fail from the second on, for a number of times."""

    def __init__(self, ledger: Ledger, times: int) -> None:
        self.ledger = ledger
        self.left = times
        self.calls = 0

    def renew(self, id: str, token: Token, ttl: timedelta | None = None) -> Reservation:
        """Renew, or be away."""
        self.calls += 1
        if self.calls > 1 and self.left > 0:
            self.left -= 1
            raise UnavailableError("the ledger is away")
        return self.ledger.renew(id, token, ttl)  # type: ignore[arg-type]


def test_a_ledger_that_comes_back_in_time_costs_nothing(ledger: Ledger) -> None:
    """One failed renewal is made up for before the lease ends."""
    held, token = granted(ledger)
    away = Away(ledger, times=1)
    with hold(away, held.id, token) as kept:  # type: ignore[arg-type]
        eventually(lambda: away.calls >= 3)
        kept.check()
    assert away.left == 0


def test_a_ledger_that_stays_away_loses_the_lease(ledger: Ledger) -> None:
    """When no renewal came through by the lease's end, the work is told to stop."""
    held, token = granted(ledger)
    with (
        pytest.raises(StaleTokenError, match="the ledger is away"),
        hold(Away(ledger, times=1000), held.id, token) as kept,  # type: ignore[arg-type]
    ):
        assert kept.lost.wait(PATIENCE_S)


def victim(ledger: Ledger, notice: timedelta) -> tuple[Reservation, Token]:
    """Reserve all there is, to be given up after notice, the holder's renewals being half a second apart at most."""
    rules = Preemption(notice=notice, grace=timedelta(0))
    ledger.set_policy(Policy(preemption=rules), by="ada", why="urgent work goes first")
    checkpoint = timedelta(seconds=1)
    held = ledger.submit(a_request(priority=1, preemptible=True, checkpoint=checkpoint))
    assert held.token is not None
    return held, held.token


def test_a_notice_reaches_the_work_in_time_to_save(ledger: Ledger) -> None:
    """The holder learns until when, why and for whom, stops, gives back, and the other gang starts at once."""
    held, token = victim(ledger, timedelta(minutes=5))
    with hold(ledger, held.id, token) as kept:
        assert kept.notice is None
        urgent = ledger.submit(a_request("urgent", tenant="search", priority=200))
        eventually(lambda: kept.notice is not None)
        assert kept.notice is not None
        assert (kept.notice.until, kept.notice.beneficiary) == (urgent.eta, "urgent")
        kept.check()
    ledger.release(held.id, token)
    assert ledger.get(urgent.id).state is ReservationState.GRANTED


def test_a_notice_that_is_taken_back_goes_away(ledger: Ledger) -> None:
    """When whoever wanted the slots leaves, the work goes on as if nothing had been said."""
    held, token = victim(ledger, timedelta(minutes=5))
    with hold(ledger, held.id, token) as kept:
        urgent = ledger.submit(a_request("urgent", priority=200))
        eventually(lambda: kept.notice is not None)
        ledger.cancel(urgent.id)
        eventually(lambda: kept.notice is None)
        kept.check()


def lost_as(ledger: Ledger, held: Reservation, token: Token, cause: Callable[[], object]) -> str:
    """Return what the work is told when its slots go away."""

    def work() -> None:
        with hold(ledger, held.id, token) as kept:
            cause()
            assert kept.lost.wait(PATIENCE_S)

    with pytest.raises(StaleTokenError) as told:
        work()
    return str(told.value)


def test_a_preempted_holder_is_told_for_whom(ledger: Ledger) -> None:
    """Work that did not leave in time hears that its slots were taken, and by whom."""
    held, token = victim(ledger, timedelta(seconds=1))
    said = lost_as(ledger, held, token, lambda: ledger.submit(a_request("urgent", tenant="search", priority=200)))
    assert "its slots were taken for another gang after notice (search urgent (priority 200) needs its slots)" in said


def test_a_holder_whose_node_is_lost_is_told_so(ledger: Ledger) -> None:
    """With nothing in their place, the work hears that its nodes went away and that it waits for others."""
    held, token = granted(ledger)
    said = lost_as(ledger, held, token, lambda: ledger.mark_node(held.placements[0].node, NodeState.LOST))
    assert "its nodes went away; it waits, ahead of all others, for slots in their place" in said


def test_a_holder_that_was_moved_is_told_where_to(ledger: Ledger) -> None:
    """With a spare node, the work hears which one its next run will have."""
    ledger.publish(a_calendar([a_pool(max_nodes=3)], start=floor_hour(present())))
    one = (PodSet(count=1, gpus_per_pod=4),)
    held = ledger.submit(a_request(pod_sets=one, duration=LEASE, walltime=timedelta(hours=1)))
    assert held.token is not None
    said = lost_as(ledger, held, held.token, lambda: ledger.mark_node(held.placements[0].node, NodeState.LOST))
    (place,) = ledger.get(held.id).placements
    assert f"it was given {place.node} in their place: run the step again" in said
