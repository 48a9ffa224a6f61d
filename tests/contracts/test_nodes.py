"""Nodes that go away, and gangs that change their size; the same on every ledger."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gangplan.errors import InputError, NoRoomError, StaleTokenError
from gangplan.reserve import Ledger, Policy
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import Level, NodeState, PodSet, Reservation, ReservationState, Token, Topology

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ONE = (PodSet(count=1, gpus_per_pod=4),)
GRANTED = ReservationState.GRANTED


@pytest.fixture
def three(empty: Ledger) -> Ledger:
    """A ledger with a pool of 3 nodes x 4 GPUs."""
    empty.publish(a_calendar([a_pool(max_nodes=3)]))
    return empty


def nodes_of(reservation: Reservation) -> set[str]:
    """Return the nodes that it stands on."""
    return {place.node for place in reservation.placements}


# ---------------------------------------------------------------- nodes


def test_a_lost_node_interrupts_its_gang_and_a_replacement_comes_first(three: Ledger, fake: FakeClock) -> None:
    """The gang gets other slots under a new token before all others; its old token is good for nothing."""
    first = three.submit(a_request("first", pod_sets=ONE, priority=1))
    (node,) = nodes_of(first)
    three.submit(a_request("rest"))
    urgent = three.submit(a_request("urgent", pod_sets=ONE, priority=1000))
    three.mark_node(node, NodeState.LOST, why="ECC errors")
    lost = three.get(first.id)
    assert (lost.state, lost.token, lost.interruptions) == (ReservationState.INTERRUPTED, None, 1)
    with pytest.raises(StaleTokenError):
        three.renew(first.id, first.token or Token(0))
    rest = three.find("rest")
    three.release(rest.id, rest.token or Token(0))
    again = three.get(first.id)
    assert again.state is GRANTED
    assert (again.token or 0) > (first.token or 0)
    assert node not in nodes_of(again)
    assert again.expires_at == fake() + 5 * MINUTE  # claimed by a renewal, or free again soon
    assert three.renew(first.id, again.token or Token(0)).expires_at == fake() + HOUR
    assert three.get(urgent.id).state is GRANTED


def test_the_calendar_leaves_out_nodes_that_take_no_gang(three: Ledger) -> None:
    """What a node that is out has, free or held, is offered to nobody."""
    held = three.submit(a_request("held", pod_sets=(PodSet(count=1, gpus_per_pod=2),)))
    three.mark_node(nodes_of(held).pop(), NodeState.DRAINING)
    spans = three.calendar(NOW, NOW + 3 * HOUR)
    assert {span.free_gpus for span in spans} <= {6, 8}  # 6 where a replacement stands on another node
    three.mark_node("h100-owned-2", NodeState.LOST)
    assert max(span.free_gpus for span in three.calendar(NOW, NOW + HOUR)) == 4
    assert [span.planned_gpus for span in three.calendar(NOW, NOW + 3 * HOUR)] == [4, 8]  # it is expected back


def test_a_spare_node_replaces_a_lost_one_at_once(three: Ledger) -> None:
    """Where there is room the gang is placed again within the same call."""
    first = three.submit(a_request("first", pod_sets=ONE))
    three.mark_node(nodes_of(first).pop(), NodeState.LOST)
    again = three.get(first.id)
    assert again.state is GRANTED
    assert nodes_of(again) != nodes_of(first)


@pytest.mark.parametrize("late", ["latest_start", "deadline"])
def test_a_replacement_may_start_past_the_window(three: Ledger, fake: FakeClock, late: str) -> None:
    """The first start kept window and deadline; a gang whose node is lost after them is still placed elsewhere."""
    first = three.submit(a_request("first", pod_sets=ONE, duration=HOUR, **{late: fake() + HOUR}))
    fake.advance(10 * MINUTE)
    three.submit(a_request("rest", duration=4 * HOUR))
    fake.advance(49 * MINUTE)
    three.mark_node(nodes_of(first).pop(), NodeState.LOST)
    assert three.get(first.id).state is ReservationState.INTERRUPTED
    why = three.explain(first.id)
    assert why is not None
    assert "rest" in why.message
    fake.advance(10 * MINUTE)
    assert three.get(first.id).state is ReservationState.INTERRUPTED
    three.cancel(three.find("rest").id)
    assert three.get(first.id).state is GRANTED


def test_a_draining_node_gives_its_gangs_notice_and_takes_no_more(three: Ledger, fake: FakeClock) -> None:
    """Those on it have until the drain deadline; then they are placed elsewhere."""
    first = three.submit(a_request("first", pod_sets=ONE))
    (node,) = nodes_of(first)
    three.mark_node(node, NodeState.DRAINING, why="driver update")
    told = three.get(first.id)
    assert told.notice is not None
    assert (told.notice.until, told.notice.why) == (fake() + 10 * MINUTE, f"node {node} is draining")
    for key in ("b", "c", "d"):
        assert node not in nodes_of(three.submit(a_request(key, pod_sets=ONE, duration=5 * MINUTE)))
    fake.advance(10 * MINUTE)
    again = three.get(first.id)
    assert (again.state, again.interruptions) == (GRANTED, 1)
    assert node not in nodes_of(again)


def test_a_node_that_comes_back_takes_the_notice_back(three: Ledger) -> None:
    """A drain that was called off leaves the gang as it was."""
    first = three.submit(a_request("first", pod_sets=ONE))
    (node,) = nodes_of(first)
    three.mark_node(node, NodeState.DRAINING)
    three.mark_node(node, NodeState.READY)
    assert three.get(first.id) == first
    assert three.nodes() == {}


def test_promises_leave_a_node_that_goes(three: Ledger) -> None:
    """Who was promised a lost node that is not expected back is promised another, later if it must be."""
    three.set_policy(Policy(back_within=0 * HOUR), by="test", why="lost is lost")
    for key in ("a", "b", "c"):
        three.submit(a_request(key, pod_sets=ONE))
    waits = three.submit(a_request("all", pod_sets=(PodSet(count=3, gpus_per_pod=4),)))
    assert waits.eta == NOW + HOUR
    three.mark_node("h100-owned-2", NodeState.LOST)
    assert three.get(waits.id).eta is None


@pytest.mark.parametrize("name", ["h100-owned-3", "h100-owned-x", "h100-owned-01", "h100", "", "b200-owned-0"])
def test_a_node_that_is_not_there_is_refused(three: Ledger, name: str) -> None:
    """The name, and what there is, are said."""
    with pytest.raises(InputError, match="node"):
        three.mark_node(name, NodeState.LOST)


# ---------------------------------------------------------------- elastic gangs


def elastic(key: str = "elastic") -> dict[str, object]:
    """Return 2 pods x 2 GPUs that may be 1 to 5."""
    return {"pod_sets": (PodSet(count=2, gpus_per_pod=2, min_count=1, max_count=5),)}


def test_a_gang_grows_and_shrinks_within_its_bounds(three: Ledger) -> None:
    """More pods come beside the others under the same token; fewer give slots to who waits, at once."""
    gang = three.submit(a_request("elastic", **elastic()))
    token = gang.token or Token(0)
    assert sum(place.pods for place in three.resize(gang.id, token, (4,)).placements) == 4
    waits = three.submit(a_request("b", pod_sets=ONE * 1))
    assert waits.state is GRANTED  # the third node
    other = three.submit(a_request("c", pod_sets=ONE))
    assert other.state is ReservationState.WAITING
    small = three.resize(gang.id, token, (1,))
    assert (sum(place.gpus for place in small.placements), small.token) == (2, token)
    assert three.get(other.id).state is GRANTED
    assert three.release(gang.id, token).state is ReservationState.RELEASED


def test_what_does_not_fit_is_refused_and_changes_nothing(three: Ledger) -> None:
    """Growth that has no slots, or would take promised ones, is a refusal."""
    gang = three.submit(a_request("elastic", **elastic()))
    three.submit(a_request("b"))
    with pytest.raises(NoRoomError, match="3 pods more of pod set 0: 6 GPUs do not fit in h100-owned now"):
        three.resize(gang.id, gang.token or Token(0), (5,))
    assert three.get(gang.id) == gang


@pytest.mark.parametrize("pods", [(), (0,), (6,), (2, 2), (True,), (2.0,), "2", None])
def test_a_size_that_the_request_does_not_allow_is_refused(three: Ledger, pods: object) -> None:
    """The field and the bounds are named."""
    gang = three.submit(a_request("elastic", **elastic()))
    with pytest.raises(InputError, match="pods"):
        three.resize(gang.id, gang.token or Token(0), pods)  # type: ignore[arg-type]
    assert three.get(gang.id) == gang


def test_a_grown_gang_stays_in_its_rack(empty: Ledger) -> None:
    """What had to stand together still does."""
    empty.publish(a_calendar([a_pool(max_nodes=4, nodes_per_rack=2)]))
    gang = empty.submit(a_request("elastic", topology=Topology(level=Level.RACK), **elastic()))
    empty.submit(a_request("b", pod_sets=ONE))
    empty.submit(a_request("c", pod_sets=ONE))
    with pytest.raises(NoRoomError):
        empty.resize(gang.id, gang.token or Token(0), (5,))
    assert len(nodes_of(empty.resize(gang.id, gang.token or Token(0), (2,)))) == 1
