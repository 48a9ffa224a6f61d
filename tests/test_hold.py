"""The lease of running work is kept, and its loss is never quiet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from gangplan.clock import floor_hour, system_clock
from gangplan.errors import StaleTokenError, UnavailableError
from gangplan.hold import hold
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import a_calendar, a_request
from gangplan.types import Reservation, ReservationState, Token

LEASE = timedelta(seconds=1)
PATIENCE_S = 20.0


@pytest.fixture
def ledger() -> Ledger:
    """A ledger in memory that lives by the machine's clock, as the renewing thread does."""
    ledger = open_ledger("memory://")
    ledger.publish(a_calendar(start=floor_hour(system_clock())))
    return ledger


def granted(ledger: Ledger) -> tuple[Reservation, Token]:
    """Reserve all there is for one second, renewable for an hour."""
    held = ledger.submit(a_request(duration=LEASE, walltime=timedelta(hours=1)))
    assert held.token is not None
    return held, held.token


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds, and fail when it does not come about."""
    until = system_clock() + timedelta(seconds=PATIENCE_S)
    pause = threading.Event()
    while not holds():
        assert system_clock() < until
        pause.wait(0.02)


def test_the_lease_outlives_its_first_end(ledger: Ledger) -> None:
    """Work that runs longer than one lease still holds its slots, and another gang still waits for them."""
    held, token = granted(ledger)
    with hold(ledger, held.id, token) as kept:
        eventually(lambda: system_clock() > held.submitted_at + 2 * LEASE)
        ledger.tick()
        assert ledger.get(held.id).state is ReservationState.GRANTED
        assert ledger.submit(a_request("other")).state is ReservationState.WAITING
        kept.check()


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
