"""From a plan and what engines have to steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from gangplan.errors import InputError
from gangplan.execute import Goal, goals, steps
from gangplan.execute.all_steps import steps_to
from gangplan.execute.quota_steps import shares, shares_above
from gangplan.testing import a_plan
from gangplan.types import Grant, Observation, Plan, PoolNode, PoolNodes, Quota, Step, StepKind
from tests.execute.world import SLOTS, pool


def plan_of(start: datetime, nodes: dict[str, list[int]]) -> Plan:
    """A plan of pools with four slots on a node."""
    return a_plan(start, nodes, [pool(name) for name in nodes])


def nodes(
    ordered: int, *, usable: int | None = None, cordoned: Iterable[int] = (), at: datetime | None = None
) -> PoolNodes:
    """Pool a, all of whose nodes are there; the first `usable` of them can be used."""
    there = tuple(
        PoolNode(
            name=f"n{each}",
            usable=usable is None or each < usable,
            cordoned_at=at if each in set(cordoned) else None,
        )
        for each in range(ordered)
    )
    return PoolNodes(pool="a", ordered=ordered, nodes=there)


def quota(slots: int, used: int = 0, *, place: str = "q", group: str = "", weight: float = 1.0) -> Quota:
    """A place of pool a."""
    return Quota(pool="a", place=place, group=group or place, slots=slots, used=used, weight=weight)


def told(found: Iterable[Step]) -> list[tuple[str, int, int, bool]]:
    """Kind, before, after, and whether the step waits."""
    return [(step.kind.value, step.before, step.after, bool(step.waits_for)) for step in found]


def seen(
    now: datetime, wanted: int, *quotas: Quota, pool_nodes: PoolNodes, grants: tuple[Grant, ...] = ()
) -> tuple[Step, ...]:
    """The steps of pool a to so many nodes."""
    observed = Observation(nodes=(pool_nodes,), quotas=quotas, grants=grants)
    return steps(plan_of(now, {"a": [wanted]}), observed, (), now)


def test_capacity_leads_quota_upward(now: datetime) -> None:
    """Nodes are ordered at once; the quota follows those that can be used, and the rest says for what it waits."""
    first = seen(now, 4, quota(8), pool_nodes=nodes(2))
    assert told(first) == [("order", 2, 4, False), ("order", 2, 4, True), ("raise quota", 8, 16, True)]
    later = seen(now, 4, quota(8), pool_nodes=nodes(4, usable=3))
    assert told(later) == [("order", 3, 4, True), ("raise quota", 8, 12, False), ("raise quota", 12, 16, True)]
    assert later[-1].waits_for.startswith("1 of 4 nodes is not usable yet")
    assert seen(now, 4, quota(16), pool_nodes=nodes(4)) == ()


def test_quota_leads_capacity_downward(now: datetime) -> None:
    """The quota falls to what is granted; nodes are closed when it has, and removed when they stay empty for 5 s."""
    gang = Grant(name="gang", pool="a", slots=12, nodes={"n0": 4, "n1": 4, "n2": 4})
    first = seen(now, 1, quota(16, 12), pool_nodes=nodes(4), grants=(gang,))
    assert told(first)[:2] == [("lower quota", 16, 12, False), ("lower quota", 12, 4, True)]
    assert first[1].held_by == ("gang",)
    assert not [step for step in first if step.kind is StepKind.CORDON and not step.waits_for]
    lowered = seen(now, 1, quota(12, 12), pool_nodes=nodes(4), grants=(gang,))
    assert [step.nodes for step in lowered if not step.waits_for] == [("n3",)]
    for age, doable in ((4, []), (5, [("remove", 4, 3, False)])):
        closed = nodes(4, cordoned=[3], at=now - timedelta(seconds=age))
        found = seen(now, 1, quota(12, 12), pool_nodes=closed, grants=(gang,))
        assert told(step for step in found if not step.waits_for) == doable


def test_nothing_is_cordoned_that_a_quota_may_still_grant(now: datetime) -> None:
    """Steps from one moment are safe in any order: cordons wait until the lower quota was seen."""
    found = [step for step in seen(now, 1, quota(16), pool_nodes=nodes(4)) if not step.waits_for]
    assert told(found) == [("lower quota", 16, 4, False)]


def test_nothing_is_cordoned_until_kueue_has_seen_the_lower_quota(now: datetime) -> None:
    """By its older view it may admit a gang more: for 5 s all open nodes stay, and no other group gets its slots."""
    for age, doable in ((4, []), (5, [("cordon", 4, 1, False)])):
        lowered = replace(quota(4), changed_at=now - timedelta(seconds=age))
        found = seen(now, 1, lowered, pool_nodes=nodes(4))
        assert told(step for step in found if not step.waits_for) == doable
    assert "to be seen by all" in seen(now, 1, replace(lowered, changed_at=now), pool_nodes=nodes(4))[0].waits_for
    one, other = replace(quota(8, place="q1"), changed_at=now), quota(4, place="q2")
    assert all(step.waits_for for step in seen(now, 4, one, other, pool_nodes=nodes(4)))
    counted = PoolNodes(pool="a", ordered=5, named=False)
    assert all(step.waits_for for step in seen(now, 1, replace(quota(4), changed_at=now), pool_nodes=counted))


def test_a_place_is_raised_after_the_other_has_given_back(now: datetime) -> None:
    """Without a cohort, what one place has granted is not given to the other as well."""
    one, other = quota(4, 12, place="q1"), quota(4, place="q2")
    roomy = seen(now, 4, one, quota(0, place="q2"), pool_nodes=nodes(4))
    assert told(roomy) == [("raise quota", 4, 8, False), ("raise quota", 0, 4, False), ("raise quota", 4, 8, True)]
    tight = seen(now, 3, quota(2, 12, place="q1"), other, pool_nodes=nodes(3))
    assert [(step.place, *each) for step, each in zip(tight, told(tight), strict=True)] == [
        ("q1", "raise quota", 2, 6, False),
        ("q2", "raise quota", 4, 6, True),
    ]


def test_lost_nodes_lower_the_quota_at_once(now: datetime) -> None:
    """The quota follows the nodes that are left, but never below what is granted."""
    found = seen(now, 4, quota(16, 13), pool_nodes=nodes(4, usable=2))
    assert ("lower quota", 16, 13, False) in told(found)


def test_our_own_cordoned_nodes_are_opened_before_any_are_ordered(now: datetime) -> None:
    """Only as many as are wanted, and those that came under a grant while they were cordoned."""
    closed = nodes(4, cordoned=[2, 3], at=now)
    found = seen(now, 3, pool_nodes=closed)
    assert [(step.kind.value, step.nodes) for step in found if not step.waits_for] == [("uncordon", ("n2",))]
    late = Grant(name="late", pool="a", slots=4, nodes={"n3": 4})
    held = seen(now, 2, pool_nodes=closed, grants=(late,))
    assert [(step.kind.value, step.nodes) for step in held if not step.waits_for] == [("uncordon", ("n3",))]


def test_nodes_are_ordered_one_start_ahead_and_the_quota_waits_for_the_hour(now: datetime) -> None:
    """At 20 minutes before the hour, a pool that takes up to 30 minutes orders the next hour's nodes."""
    planned = a_plan(now, {"a": [1, 3]}, (pool("a", startup_minutes=30),))
    observed = Observation(nodes=(nodes(1),), quotas=(quota(4),))
    assert steps(planned, observed, (), now + timedelta(minutes=29)) == ()
    found = steps(planned, observed, (), now + timedelta(minutes=40))
    assert told(found) == [("order", 1, 3, False), ("order", 1, 3, True)]
    assert "3 within 30 min" in found[0].why
    early = Observation(nodes=(nodes(3),), quotas=(quota(4),))
    assert steps(planned, early, (), now + timedelta(minutes=40)) == ()


def test_a_grant_without_known_nodes_keeps_whole_ones(now: datetime) -> None:
    """What was admitted and is not bound yet finds its nodes; a ledger's grant counts once beside the cluster's."""
    gang = Grant(name="gang", pool="a", slots=6)
    observed = Observation(nodes=(nodes(4),), grants=(gang,))
    planned = plan_of(now, {"a": [0]})
    for grants in ((), (gang,)):
        chosen = [step.nodes for step in steps(planned, observed, grants, now) if not step.waits_for]
        assert [len(names) for names in chosen] == [2]


def test_an_engine_with_only_a_number_is_lowered_by_number(now: datetime) -> None:
    """The fleet file has no nodes to name: down to the plan, or to what gangs hold."""
    counted = PoolNodes(pool="a", ordered=5, named=False)
    assert told(seen(now, 2, pool_nodes=counted)) == [("remove", 5, 2, False)]
    gang = Grant(name="gang", pool="a", slots=3, nodes={"x": 1, "y": 1, "z": 1})
    held = seen(now, 2, pool_nodes=counted, grants=(gang,))
    assert told(held) == [("remove", 5, 3, False), ("remove", 3, 2, True)]
    assert held[1].held_by == ("gang",)


def test_pools_without_nodes_that_anybody_saw_keep_their_quota_down(now: datetime) -> None:
    """No quota is raised where no engine told of the nodes."""
    found = steps(plan_of(now, {"a": [2]}), Observation(quotas=(quota(0),)), (), now)
    assert told(found) == [("raise quota", 0, 8, True)]


def test_pods_are_protected_before_any_node_goes(now: datetime) -> None:
    """A removal waits until no pod under a grant may be disturbed."""
    closed = nodes(2, cordoned=[1], at=now - timedelta(minutes=1))
    bare = PoolNodes(pool="a", ordered=2, nodes=closed.nodes, unprotected=("default/pod",))
    found = seen(now, 1, pool_nodes=bare)
    assert [(step.kind.value, step.waits_for) for step in found] == [
        ("protect", ""),
        ("remove", "pods under grants to be protected"),
    ]


def test_all_lowering_comes_before_any_raising(now: datetime) -> None:
    """The steps of all pools are sorted by kind."""
    observed = Observation(
        nodes=(nodes(1), PoolNodes(pool="b", ordered=1, nodes=(PoolNode(name="b0"),))),
        quotas=(quota(0), Quota(pool="b", place="q", group="q", slots=4, used=0)),
    )
    found = steps(plan_of(now, {"a": [1], "b": [0]}), observed, (), now)
    assert [step.kind.value for step in found if not step.waits_for] == ["lower quota", "raise quota"]


@pytest.mark.parametrize("hours", [-1, 2])
def test_a_moment_outside_the_plan_is_refused(hours: int, now: datetime) -> None:
    """An old plan, and one that begins later, say what they cover."""
    with pytest.raises(InputError, match=r"outside the plan, which covers 2026-03-02T09:00Z to 2026-03-02T10:00Z"):
        goals(plan_of(now, {"a": [1, 1]}), now + timedelta(hours=hours))


def test_shares_follow_weights_and_never_shrink_as_the_total_grows() -> None:
    """D'Hondt's shares sum to the total; places with more than their share leave less to the others."""
    before = [0, 0, 0]
    for total in range(60):
        given = shares(total, [3, 2, 1])
        assert sum(given) == total
        assert all(more >= less for more, less in zip(given, before, strict=True))
        before = given
    assert shares(12, [3, 2, 1]) == [6, 4, 2]
    assert shares(4, [0, 0]) == [2, 2]
    assert shares_above(16, [1, 1], [12, 0]) == [12, 4]
    assert shares_above(8, [1, 1], [12, 3]) == [12, 3]


def test_a_line_that_waits_does_not_hold_a_quota_up(now: datetime) -> None:
    """Where nobody is evicted the number falls at once: else each end of a gang would only let the next one in."""
    gang = Grant(name="train", pool="a", slots=16, nodes={f"n{each}": 4 for each in range(4)})
    for keeps, number in ((True, 4), (False, 16)):
        asked = replace(quota(16, 16), keeps=keeps)
        found = seen(now, 1, asked, pool_nodes=nodes(4), grants=(gang,))
        lowered = [step.after for step in found if step.kind is StepKind.LOWER_QUOTA and not step.waits_for]
        assert lowered == ([number] if keeps else [])
        assert not any(step.nodes for step in found), "every node is under the gang"


def test_what_no_quota_counts_is_taken_off_the_quotas(now: datetime) -> None:
    """Servers that no queue admitted hold nodes of the pool: gangs are never admitted to these, nor are they closed."""
    serving = Grant(name="pod web/chat", pool="a", slots=4, nodes={"n0": 4}, by_quota=False)
    up = seen(now, 4, quota(8), pool_nodes=nodes(4), grants=(serving,))
    assert told(up)[0] == ("raise quota", 8, 12, False)
    down = seen(now, 2, quota(8), pool_nodes=nodes(4), grants=(serving,))
    assert told(down)[0] == ("lower quota", 8, 4, False)
    assert [(step.kind.value, step.nodes) for step in down if step.nodes] == [("cordon", ("n1",))], "8 may be granted"
    kept = seen(now, 2, quota(4), pool_nodes=nodes(4), grants=(serving,))
    assert [len(step.nodes) for step in kept if step.kind is StepKind.CORDON and not step.waits_for] == [2]


def test_two_tellers_of_one_gang_order_nothing_twice(now: datetime) -> None:
    """A ledger and a cluster know the same gang by two names: a node holds no more than it has."""
    ledger = Grant(name="train", pool="a", slots=8, nodes={"n0": 4, "n1": 4}, by_quota=False)
    pods = [Grant(name=f"pod {each}", pool="a", slots=4, nodes={f"n{each}": 4}, by_quota=False) for each in range(2)]
    assert told(seen(now, 2, pool_nodes=nodes(2), grants=(ledger, *pods))) == []


def test_a_thousand_pools_are_quick(now: datetime) -> None:
    """Each pool of a large plan is met; how fast is measured by the benchmark of execution."""
    names = [f"p{each}" for each in range(1000)]
    observed = Observation(
        nodes=tuple(
            PoolNodes(pool=name, ordered=8, nodes=tuple(PoolNode(name=f"{name}-{each}") for each in range(8)))
            for name in names
        ),
        quotas=tuple(Quota(pool=name, place=name, group=name, slots=8 * SLOTS, used=20) for name in names),
        grants=tuple(Grant(name=f"{name}-g", pool=name, slots=20, nodes={f"{name}-0": 4}) for name in names),
    )
    planned = plan_of(now, {name: [4] for name in names})
    found = steps(planned, observed, (), now)
    assert {step.pool for step in found} == set(names)


def test_an_order_that_never_came_is_withdrawn_before_any_node_goes(now: datetime) -> None:
    """Down to the plan or the nodes that are there, whichever is more, in one step; none that is there is closed."""
    waiting = replace(nodes(3), ordered=8)
    found = seen(now, 4, pool_nodes=waiting)
    assert told(found) == [("order", 3, 4, True), ("remove", 8, 4, False)]
    assert (found[1].nodes, "4 nodes never came" in found[1].why) == ((), True)
    found = seen(now, 1, pool_nodes=waiting)
    assert [step.after for step in found if step.kind is StepKind.REMOVE and not step.waits_for] == [3]
    gang = Grant(name="gang", pool="a", slots=20)
    assert [step.after for step in seen(now, 1, pool_nodes=waiting, grants=(gang,)) if not step.waits_for] == [5]


def test_where_an_engine_might_choose_the_withdrawal_waits(now: datetime) -> None:
    """The step is shown with the engine's reason; so it is while pods under grants are not protected."""
    waiting = replace(nodes(3), ordered=8, irrevocable="the Deployment to make its pods")
    found = seen(now, 4, pool_nodes=waiting)
    assert [step for step in found if step.kind is StepKind.REMOVE and not step.waits_for] == []
    assert {step.waits_for for step in found if step.kind is StepKind.REMOVE} == {"the Deployment to make its pods"}
    bare = replace(nodes(3), ordered=8, unprotected=("team/gang-0",))
    assert told(step for step in seen(now, 4, pool_nodes=bare) if step.kind is not StepKind.ORDER) == [
        ("protect", 1, 0, False),
        ("remove", 8, 4, True),
    ]


def test_what_each_place_had_comes_back_by_place(now: datetime) -> None:
    """Whatever the weights are; a place that was not there then gets nothing."""
    places = (quota(4, place="q1"), quota(4, place="q2", weight=3), quota(4, place="q3"))
    goal = Goal(pool="a", now=3, ahead=3, slots_per_node=SLOTS, quota=10, places={"q1": 9, "q2": 1})
    observed = Observation(nodes=(nodes(3),), quotas=places)
    found = {step.place: step for step in steps_to((goal,), observed, (), now) if step.place and not step.waits_for}
    assert {place: step.after for place, step in found.items() if step.kind is StepKind.LOWER_QUOTA} == {
        "q2": 1,
        "q3": 0,
    }
    lowered = Observation(nodes=(nodes(3),), quotas=(quota(4, place="q1"), quota(1, place="q2"), quota(0, place="q3")))
    (raised,) = steps_to((goal,), lowered, (), now)
    assert (raised.place, raised.after, raised.waits_for) == ("q1", 9, "")
