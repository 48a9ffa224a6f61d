"""Who of those that Kueue asks for gets nodes now, and which time the others are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given, strategies as st
from tests.execute.planned import observed

from gangplan.execute.requests import Answer, NodeRequest, PodsAsked, Said, answers
from gangplan.testing import NOW, a_plan
from gangplan.types import Grant, Observation, PoolNode

HOUR = timedelta(hours=1)


def a_request(name: str, pods: int, slots: int = 8, *, age: int = 0, pool: str = "x", **fields: object) -> NodeRequest:
    """A request for equal pods, made so many minutes ago."""
    one = NodeRequest(
        namespace="team",
        name=name,
        version="1",
        workload=name,
        created=NOW - timedelta(minutes=age),
        pods=(PodsAsked(pods=pods, slots=slots, pool=pool),),
    )
    return replace(one, **fields)  # type: ignore[arg-type]


def said(given: tuple[Answer, ...]) -> dict[str, Said]:
    """What each request was told."""
    return {answer.request.name: answer.said for answer in given}


def test_nodes_that_are_there_are_given() -> None:
    """A gang whose nodes are usable and free may start."""
    (answer,) = answers([a_request("a", 2)], a_plan(NOW, {"x": [2]}), observed(x=2), (), NOW)
    assert (answer.said, answer.message) == (Said.THERE, "Nodes of pool x are there for it: 16 slots.")


def test_the_time_of_planned_nodes_is_told() -> None:
    """A gang that waits for planned nodes hears from when they are planned, and how many are there."""
    plan = a_plan(NOW, {"x": [6, 6, 8]})
    (answer,) = answers([a_request("a", 8)], plan, observed(x=6), (), NOW)
    assert answer.said == Said.PLANNED
    assert answer.at == NOW + 2 * HOUR
    assert answer.message == f"Planned nodes of pool x from {answer.at:%Y-%m-%d %H:%M} UTC, 6 of 8 there."


def test_nodes_that_the_plan_has_but_nobody_sees_are_late() -> None:
    """What is planned for this hour and not usable yet is late; the nodes that are there are kept for it."""
    plan = a_plan(NOW, {"x": [8]})
    nodes = tuple(PoolNode(name=f"n{i}", usable=i < 6) for i in range(8))
    first, second = answers([a_request("a", 8, age=9), a_request("b", 1)], plan, observed(x=nodes), (), NOW)
    assert first.said == Said.LATE
    assert "6 of 8 there" in first.message
    assert second.said == Said.NOT_PLANNED


def test_never_is_said() -> None:
    """What the plan never brings is named with its most, the end of the plan, and the remedy."""
    (answer,) = answers([a_request("a", 8)], a_plan(NOW, {"x": [4, 6]}), observed(x=4), (), NOW)
    until = f"{NOW + 2 * HOUR:%Y-%m-%d %H:%M} UTC"
    assert answer.message == (
        f"The plan has at most 6 free nodes of pool x until {until}, and it needs 8: plan again with more, or ask for "
        "fewer."
    )


def test_it_fails_after_a_while_only_where_somebody_ends_the_eviction() -> None:
    """An ownerless Workload would keep its quota for ever: it goes on waiting, and says why."""
    requests = [a_request("a", 8, age=60), a_request("b", 8, age=60, can_fail=False), a_request("c", 8, age=1)]
    given = answers(requests, a_plan(NOW, {"x": [4]}), observed(x=4), (), NOW, fail_after=timedelta(minutes=30))
    assert said(given) == {"a": Said.FAILED, "b": Said.NOT_PLANNED, "c": Said.NOT_PLANNED}


def test_two_gangs_one_set_of_nodes() -> None:
    """The older gets them, and keeps them while its Workload is not seen as a grant yet; the other hears a time."""
    plan = a_plan(NOW, {"x": [2, 2, 4]})
    requests = [a_request("b", 2, age=1), a_request("a", 2, age=5)]
    first = answers(requests, plan, observed(x=2), (), NOW)
    assert said(first) == {"a": Said.THERE, "b": Said.PLANNED}
    requests = [requests[0], replace(requests[1], said=Said.THERE)]
    assert said(answers(requests, plan, observed(x=2), (), NOW)) == {"b": Said.PLANNED}
    held = (Grant(name="team/a", pool="x", slots=16, nodes={"x-0": 8, "x-1": 8}),)
    assert said(answers(requests, plan, observed(x=2), held, NOW)) == {"b": Said.PLANNED}


def test_priority_goes_first() -> None:
    """The higher priority is asked first, though it came later."""
    requests = [a_request("old", 2, age=9), a_request("high", 2, priority=5)]
    given = answers(requests, a_plan(NOW, {"x": [2]}), observed(x=2), (), NOW)
    assert said(given) == {"high": Said.THERE, "old": Said.NOT_PLANNED}


def test_a_short_one_goes_first_where_it_holds_nobody_up() -> None:
    """Nodes that wait for a planned gang are lent to a gang that is over before it starts, and to no other."""
    plan = a_plan(NOW, {"x": [2, 2, 2, 4]})
    big = a_request("big", 4, age=9)
    short, long = a_request("short", 1, limit=2 * HOUR, age=2), a_request("long", 1, limit=9 * HOUR, age=1)
    given = said(answers([big, short, long], plan, observed(x=2), (), NOW))
    assert given == {"big": Said.PLANNED, "short": Said.THERE, "long": Said.NOT_PLANNED}


def test_a_grant_holds_its_nodes_until_it_ends() -> None:
    """Slots that others hold are not given; from the end of a grant on they are."""
    held = (Grant(name="other", pool="x", slots=8, nodes={"x-0": 8}, until=NOW + 90 * timedelta(minutes=1)),)
    (answer,) = answers([a_request("a", 2)], a_plan(NOW, {"x": [2] * 4}), observed(x=2), held, NOW)
    assert (answer.said, answer.at) == (Said.PLANNED, NOW + 2 * HOUR)


def test_a_node_that_takes_no_pods_is_not_there() -> None:
    """Cordoned, closed, leaving and unready nodes give nothing."""
    nodes = (
        PoolNode(name="a", cordoned_at=NOW),
        PoolNode(name="b", closed=True),
        PoolNode(name="c", leaving=True),
        PoolNode(name="d", usable=False),
    )
    (answer,) = answers([a_request("a", 1)], a_plan(NOW, {"x": [4]}), observed(x=nodes), (), NOW)
    assert answer.said == Said.LATE


def test_pods_need_whole_nodes() -> None:
    """Halves of two nodes are no node for a pod of 8."""
    held = (Grant(name="o", pool="x", slots=8, nodes={"x-0": 4, "x-1": 4}),)
    (answer,) = answers([a_request("a", 1)], a_plan(NOW, {"x": [2, 3]}), observed(x=2), held, NOW)
    assert answer.said != Said.THERE


def test_a_flavor_without_a_pool_is_named() -> None:
    """A request whose flavor leads to no pool says which label helps."""
    given = answers([a_request("a", 1, pool="")], a_plan(NOW, {"x": [2]}), observed(x=2), (), NOW)
    assert "the label gangplan.io/pool" in given[0].message


def test_a_lost_quota_makes_the_promise_stale() -> None:
    """What was answered for a reservation of quota that is over is no promise any more."""
    lost = a_request("a", 2, said=Said.THERE, reserved=False)
    given = answers([lost, a_request("b", 2)], a_plan(NOW, {"x": [2]}), observed(x=2), (), NOW)
    assert said(given) == {"a": Said.STALE, "b": Said.THERE}


requests_of = st.lists(
    st.builds(
        lambda pods, slots, age, rank, hours: (pods, slots, age, rank, hours),
        st.integers(1, 4),
        st.sampled_from([0, 1, 2, 4, 8]),
        st.integers(0, 90),
        st.integers(0, 2),
        st.none() | st.integers(1, 5),
    ),
    max_size=7,
).map(
    lambda drawn: [
        a_request(f"r{i}", pods, slots, age=age, priority=rank, limit=hours and hours * HOUR)
        for i, (pods, slots, age, rank, hours) in enumerate(drawn)
    ]
)


@given(requests=requests_of, plan=st.lists(st.integers(0, 5), min_size=1, max_size=6), there=st.integers(0, 5))
def test_no_slot_is_promised_twice(requests: list[NodeRequest], plan: list[int], there: int) -> None:
    """Round by round, what was promised is never more than what is there, and a promise is never taken back."""
    world: Observation = observed(x=there)
    for minutes in range(0, 180, 45):
        moment = NOW + timedelta(minutes=minutes)
        told = said(answers(requests, a_plan(NOW, {"x": plan}), world, (), moment))
        assert all(one.name not in told for one in requests if one.said == Said.THERE)
        requests = [replace(one, said=told.get(one.name, one.said)) for one in requests]
        assert sum(one.slots.get("x", 0) for one in requests if one.said == Said.THERE) <= 8 * there


@given(requests=requests_of, plan=st.lists(st.integers(0, 5), min_size=1, max_size=6), there=st.integers(0, 5))
def test_nobody_is_held_up_by_who_comes_later(requests: list[NodeRequest], plan: list[int], there: int) -> None:
    """Who is added after the others changes nothing of what they are told."""
    last = a_request("last", 2, priority=-1)
    rounds: list[dict[str, tuple[Said, datetime | None]]] = []
    for asked in (requests, [*requests, last]):
        given = answers(asked, a_plan(NOW, {"x": plan}), observed(x=there), (), NOW)
        rounds.append({one.request.name: (one.said, one.at) for one in given if one.request.name != "last"})
    assert all(before == after for before, after in pairwise(rounds))
