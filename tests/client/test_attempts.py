"""A pipeline's step that runs again while the ledger looks for slots in place of those that it lost."""

from __future__ import annotations

from datetime import timedelta

from gangplan.client import attempts
from gangplan.reserve import Ledger
from gangplan.testing import FakeClock, a_request
from gangplan.types import NodeState, PodSet, Reservation, ReservationState

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
STEP = a_request("step", pod_sets=(PodSet(count=1, gpus_per_pod=4),))


def run(ledger: Ledger, fake: FakeClock) -> Reservation:
    """Let the step run (again), ready to wait for ten minutes."""
    return attempts.submit(ledger, STEP, fake() + 10 * MINUTE)


def lose_node(ledger: Ledger, of: Reservation) -> None:
    """Lose the node that a reservation stands on."""
    ledger.mark_node(of.placements[0].node, NodeState.LOST)


def test_a_step_waits_for_its_replacement_and_takes_it_up(ledger: Ledger, fake: FakeClock) -> None:
    """Long after its first patience it still waits, by its new one; the new token's lease lasts for the whole work."""
    first = run(ledger, fake)
    rest = ledger.submit(a_request("rest", pod_sets=STEP.pod_sets, walltime=2 * HOUR))
    fake.advance(30 * MINUTE)
    lose_node(ledger, first)
    again = run(ledger, fake)
    assert (again.id, again.state) == (first.id, ReservationState.INTERRUPTED)
    assert attempts.patience(again, fake() + 10 * MINUTE) == fake() + 10 * MINUTE
    assert rest.token is not None
    ledger.release(rest.id, rest.token)
    claimed = ledger.get(first.id)
    assert claimed.expires_at == fake() + 5 * MINUTE
    taken = attempts.claim(ledger, claimed)
    assert (taken.token, taken.expires_at) == (claimed.token, fake() + HOUR)
    assert (taken.token or 0) > (first.token or 0)


def test_a_replacement_that_is_there_already_is_kept_at_once(ledger: Ledger, fake: FakeClock) -> None:
    """A step that runs again finds the slots that were given in place of the lost ones, for the whole duration."""
    first = run(ledger, fake)
    lose_node(ledger, first)
    again = run(ledger, fake)
    assert again.state is ReservationState.GRANTED
    assert again.placements != first.placements
    assert again.expires_at == fake() + HOUR


def test_a_replacement_that_was_lost_too_is_not_renewed(ledger: Ledger, fake: FakeClock) -> None:
    """What was granted and taken away again in the same moment is returned as it waits."""
    first = run(ledger, fake)
    lose_node(ledger, first)
    claimed = ledger.get(first.id)
    lose_node(ledger, claimed)
    assert attempts.claim(ledger, claimed).state is ReservationState.INTERRUPTED


def test_a_first_grant_is_not_touched(ledger: Ledger, fake: FakeClock) -> None:
    """A step that runs again while it holds its first slots gets them as they are."""
    first = run(ledger, fake)
    fake.advance(10 * MINUTE)
    assert run(ledger, fake).expires_at == first.expires_at


def test_a_step_that_runs_again_after_its_lease_ran_out_asks_anew(ledger: Ledger, fake: FakeClock) -> None:
    """Though nobody has written to the ledger since: what ran out has ended."""
    first = run(ledger, fake)
    fake.advance(2 * HOUR)
    again = run(ledger, fake)
    assert (again.request.request_key, again.state) == ("step#2", ReservationState.GRANTED)
    assert ledger.get(first.id).state is ReservationState.EXPIRED


def test_an_interrupted_step_gives_its_place_back(ledger: Ledger, fake: FakeClock) -> None:
    """The clean-up of a step whose nodes went away takes it out of the line."""
    first = run(ledger, fake)
    ledger.submit(a_request("rest", pod_sets=STEP.pod_sets))
    lose_node(ledger, first)
    assert [row.state for row in attempts.give_back(ledger, "step")] == [ReservationState.CANCELLED]
