"""Nodes that are expected back, and drains that are planned: promises keep, and holders are told in time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gangplan.errors import InputError, StrandedError
from gangplan.reserve import Ledger, Policy
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import NodeState, Outage, PodSet, Reservation, ReservationState

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ONE = (PodSet(count=1, gpus_per_pod=4),)
GRANTED, WAITING, INTERRUPTED = ReservationState.GRANTED, ReservationState.WAITING, ReservationState.INTERRUPTED
DRAINING, LOST, READY = NodeState.DRAINING, NodeState.LOST, NodeState.READY


@pytest.fixture
def four(empty: Ledger) -> Ledger:
    """A ledger with a pool of 4 nodes x 4 GPUs."""
    empty.publish(a_calendar([a_pool(max_nodes=4)]))
    return empty


def gang(ledger: Ledger, key: str, nodes: int, hours: float, **more: object) -> Reservation:
    """Ask for whole nodes."""
    pods = (PodSet(count=nodes, gpus_per_pod=4),)
    return ledger.submit(a_request(key, pod_sets=pods, duration=hours * HOUR, **more))


def node_of(reservation: Reservation) -> str:
    """Return the first node that it stands on."""
    return reservation.placements[0].node


def notice(ledger: Ledger, reservation: Reservation) -> tuple[object, str] | None:
    """Return until when a holder may stay, and why, where it was told."""
    told = ledger.get(reservation.id).notice
    return None if told is None else (told.until, told.why)


# ---------------------------------------------------------------- nodes that are expected back


def test_a_gang_whose_node_comes_back_is_placed_before_who_came_meanwhile(four: Ledger, fake: FakeClock) -> None:
    """Its place is kept where its node is expected; a newcomer that would be in its way waits, a short one does not.

    Source: volcano-sh/volcano#5805.
    """
    whole = gang(four, "gang", 4, 12)
    four.mark_node(node_of(whole), LOST, why="remediation")
    lost = four.get(whole.id)
    assert (lost.state, lost.promised, lost.eta) == (INTERRUPTED, True, NOW + HOUR)
    assert lost.reason is not None
    assert f"{node_of(whole)} is lost until 2026-03-02 10:00:00Z" in lost.reason.message
    fake.advance(20 * MINUTE)
    new = gang(four, "new", 1, 10, tenant="other")
    assert new.reason is not None
    assert (new.state, new.reason.limit) == (WAITING, "order")
    assert gang(four, "short", 1, 40 / 60, tenant="other").state is GRANTED
    assert four.mark_node(node_of(whole), LOST) is None  # said again by a monitor: it is expected when it was
    assert four.get(whole.id).eta == NOW + HOUR
    fake.advance(20 * MINUTE)
    four.cancel(four.find("short").id)
    four.mark_node(node_of(whole), READY)
    assert (four.get(whole.id).state, four.get(new.id).state) == (GRANTED, WAITING)
    fake.advance(6 * MINUTE)  # nobody has claimed it: whoever held it is gone too
    four.tick()
    assert (four.get(whole.id).state, four.get(new.id).state) == (ReservationState.EXPIRED, GRANTED)


def test_a_node_that_is_not_back_in_time_is_given_up(four: Ledger, fake: FakeClock) -> None:
    """What was promised on it moves, and who waited for the others starts; one that is back later is a node again."""
    four.set_policy(Policy(back_within=30 * MINUTE), by="ada", why="ours come back soon")
    whole = gang(four, "gang", 4, 12)
    four.mark_node("h100-owned-3", LOST)
    new = gang(four, "new", 1, 10, tenant="other")
    assert (four.get(whole.id).eta, new.state) == (NOW + 30 * MINUTE, WAITING)
    fake.advance(30 * MINUTE)
    assert four.get(whole.id).eta is None
    assert four.get(new.id).state is GRANTED
    assert four.outages() == {"h100-owned-3": Outage(state=LOST)}
    four.mark_node("h100-owned-3", READY)
    assert four.get(whole.id).eta == NOW + 30 * MINUTE + 10 * HOUR
    assert four.outages() == {}


def test_a_reboot_moves_no_promise(four: Ledger, fake: FakeClock) -> None:
    """A gang that waits keeps its start on a node that is back before it; what comes meanwhile fits before that."""
    first = gang(four, "first", 1, 1)
    whole = gang(four, "whole", 4, 2, tenant="b")
    assert whole.eta == NOW + HOUR
    free = next(f"h100-owned-{n}" for n in range(4) if f"h100-owned-{n}" != node_of(first))
    four.mark_node(free, LOST, why="reboot")
    assert four.get(whole.id).eta == NOW + HOUR
    assert gang(four, "long", 1, 24, tenant="c").state is WAITING
    assert gang(four, "short", 2, 1, tenant="c").state is GRANTED
    fake.advance(10 * MINUTE)
    four.mark_node(free, READY)
    fake.advance(50 * MINUTE)
    four.tick()
    assert four.get(whole.id).state is GRANTED


def test_a_promise_whose_node_is_late_waits_for_it(four: Ledger, fake: FakeClock) -> None:
    """It is not granted on a node that is not there; it starts when the node is expected, before all others."""
    first = gang(four, "first", 1, 0.5)
    whole = gang(four, "whole", 4, 2, tenant="b")
    free = next(f"h100-owned-{n}" for n in range(4) if f"h100-owned-{n}" != node_of(first))
    fake.advance(10 * MINUTE)
    four.mark_node(free, LOST, back=NOW + 50 * MINUTE)
    assert four.get(whole.id).eta == NOW + 30 * MINUTE
    fake.advance(20 * MINUTE)
    assert (four.get(whole.id).state, four.get(whole.id).eta) == (WAITING, NOW + 50 * MINUTE)
    assert gang(four, "long", 1, 24, tenant="c").state is WAITING
    four.mark_node(free, READY)
    assert four.get(whole.id).state is GRANTED


# ---------------------------------------------------------------- drains with an end, and planned ones


def test_a_drain_with_an_end_is_over_by_itself(four: Ledger, fake: FakeClock) -> None:
    """The gang that was moved off has the node promised for then."""
    whole = gang(four, "gang", 4, 12)
    four.mark_node("h100-owned-1", DRAINING, why="driver", back=NOW + 2 * HOUR)
    assert notice(four, whole) == (NOW + 10 * MINUTE, "node h100-owned-1 is draining")
    fake.advance(10 * MINUTE)
    again = four.get(whole.id)
    assert (again.state, again.eta) == (INTERRUPTED, NOW + 2 * HOUR)
    assert four.nodes() == {"h100-owned-1": DRAINING}
    fake.advance(110 * MINUTE)
    assert four.get(whole.id).state is GRANTED
    assert (four.nodes(), four.outages()) == ({}, {})


def test_a_planned_drain_tells_holders_in_time_and_takes_nothing_more(four: Ledger, fake: FakeClock) -> None:
    """No renewal passes it; the notice comes its `drain`, or the gang's own checkpoint, before, not days before."""
    begin, back = NOW + 5 * HOUR, NOW + 7 * HOUR
    plain = gang(four, "plain", 1, 2, walltime=8 * HOUR)
    careful = gang(four, "careful", 1, 2, walltime=8 * HOUR, checkpoint=30 * MINUTE, tenant="b")
    short = gang(four, "short", 1, 2, walltime=5 * HOUR, tenant="c")
    for held in (plain, careful, short):
        four.mark_node(node_of(held), DRAINING, why="firmware", begin=begin, back=back)
    assert four.nodes() == {}
    assert four.outages()[node_of(plain)] == Outage(state=DRAINING, begin=begin, back=back, why="firmware")
    assert plain.token is not None
    assert four.renew(plain.id, plain.token, 8 * HOUR).expires_at == begin
    assert [notice(four, held) for held in (plain, careful, short)] == [None, None, None]
    late = gang(four, "late", 4, 2, tenant="d")  # 4 nodes are there for 2 hours only after the drain
    assert late.eta == back
    assert gang(four, "fits", 1, 5, tenant="d").state is GRANTED
    assert careful.token is not None
    four.renew(careful.id, careful.token, 8 * HOUR)
    fake.advance(4.5 * HOUR)
    assert notice(four, careful) == (begin, f"node {node_of(careful)} will be drained")
    assert notice(four, plain) is None
    fake.advance(20 * MINUTE)
    assert notice(four, plain) == (begin, f"node {node_of(plain)} will be drained")
    fake.advance(10 * MINUTE)
    assert four.nodes() == dict.fromkeys([node_of(held) for held in (plain, careful, short)], DRAINING)
    assert [four.get(held.id).state for held in (plain, careful)] == [GRANTED, INTERRUPTED]  # one node is free
    fake.advance(2 * HOUR)
    four.tick()
    assert four.outages() == {}
    assert four.get(careful.id).state is GRANTED


def test_a_planned_drain_that_is_moved_or_called_off_gives_the_time_back(four: Ledger, fake: FakeClock) -> None:
    """The lease may go on as long as before, unless others were promised the slots meanwhile."""
    held = gang(four, "held", 1, 2, walltime=8 * HOUR)
    node, token = node_of(held), held.token
    assert token is not None
    four.mark_node(node, DRAINING, begin=NOW + 2 * HOUR)
    assert four.renew(held.id, token, 8 * HOUR).expires_at == NOW + 2 * HOUR
    four.mark_node(node, DRAINING, begin=NOW + 5 * HOUR)
    assert four.renew(held.id, token, 8 * HOUR).expires_at == NOW + 5 * HOUR
    four.mark_node(node, READY)
    assert four.renew(held.id, token, 8 * HOUR).expires_at == NOW + 8 * HOUR
    four.mark_node(node, DRAINING, begin=NOW + 5 * HOUR)
    four.mark_node(node, DRAINING)
    assert notice(four, held) == (NOW + 10 * MINUTE, f"node {node} is draining")


@pytest.mark.parametrize(
    ("state", "begin", "back", "field"),
    [
        (LOST, HOUR, None, "begin"),
        (READY, HOUR, None, "begin"),
        (READY, None, HOUR, "back"),
        (DRAINING, None, -HOUR, "back"),
        (DRAINING, 2 * HOUR, HOUR, "back"),
        (LOST, None, 0 * HOUR, "back"),
    ],
)
def test_times_that_say_nothing_are_refused(
    four: Ledger, state: NodeState, begin: timedelta | None, back: timedelta | None, field: str
) -> None:
    """The field is named, and no node is marked."""
    times = {name: NOW + span for name, span in (("begin", begin), ("back", back)) if span is not None}
    with pytest.raises(InputError, match=field):
        four.mark_node("h100-owned-1", state, **times)
    assert four.outages() == {}


# ---------------------------------------------------------------- maintenance in the calendar


def test_a_calendar_with_a_gap_is_told_to_those_who_run_into_it(empty: Ledger, fake: FakeClock) -> None:
    """No renewal passes its begin; the holder is told in time, leaves, and comes back when the nodes do.

    Source: FredHutch/wiki#1161, openpbs/openpbs#1070.
    """
    pool, gap = a_pool("h100-x"), [2, 2, 2, 2, 0, 0, 2]
    empty.publish(a_calendar([pool]))
    running = gang(empty, "running", 1, 3, walltime=8 * HOUR)
    with pytest.raises(StrandedError, match="running"):
        empty.publish(a_calendar([pool], hours=gap), keep=True)
    empty.publish(a_calendar([pool], hours=gap))
    assert running.token is not None
    assert empty.renew(running.id, running.token, 6 * HOUR).expires_at == NOW + 4 * HOUR
    assert notice(empty, running) is None
    fake.advance(3 * HOUR + 50 * MINUTE)
    assert notice(empty, running) == (NOW + 4 * HOUR, "the calendar has no node h100-x-0 from then on")
    empty.publish(a_calendar([pool], hours=gap), keep=True)  # who was told is not stranded by it
    fake.advance(10 * MINUTE)
    again = empty.get(running.id)
    assert (again.state, again.eta) == (INTERRUPTED, NOW + 6 * HOUR)
    fake.advance(2 * HOUR)
    assert empty.get(running.id).state is GRANTED


def test_a_calendar_that_has_the_nodes_again_gives_the_time_back(empty: Ledger) -> None:
    """A maintenance that was called off leaves the lease as it was."""
    pool = a_pool("h100-x")
    empty.publish(a_calendar([pool]))
    running = gang(empty, "running", 2, 3, walltime=8 * HOUR)
    empty.publish(a_calendar([pool], hours=[2, 1]))
    assert running.token is not None
    assert empty.renew(running.id, running.token, 6 * HOUR).expires_at == NOW + HOUR
    empty.publish(a_calendar([pool], hours=[2, 2]))
    assert empty.renew(running.id, running.token, 6 * HOUR).expires_at == NOW + 6 * HOUR


def test_who_is_to_leave_later_may_be_preempted_now_and_spared_again(four: Ledger, fake: FakeClock) -> None:
    """The planned drain holds again when the beneficiary leaves."""
    held = gang(four, "held", 4, 2, walltime=8 * HOUR, preemptible=True)
    four.mark_node(node_of(held), DRAINING, begin=NOW + 5 * HOUR)
    fake.advance(HOUR)
    urgent = gang(four, "urgent", 1, 1, tenant="b", priority=1000)
    told = notice(four, held)
    assert told is not None
    assert told[0] == fake() + 2 * MINUTE
    four.cancel(urgent.id)
    assert notice(four, held) is None
    assert held.token is not None
    assert four.renew(held.id, held.token, 8 * HOUR).expires_at == NOW + 5 * HOUR
