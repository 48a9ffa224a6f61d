"""From plan and forecast to the minimums of servers: how many, when, and never more than the plan's nodes hold."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, strategies as st
from tests.execute.prewarm.builders import CHAT, POOL, asked, chat, has, planned

from gangplan.errors import InputError
from gangplan.execute.prewarm import Buffer, Hpa, minimums, minimums_before
from gangplan.testing import NOW, a_pool
from gangplan.types import PoolKind, Step, StepKind

MINUTE = timedelta(minutes=1)


def one(steps: tuple[Step, ...]) -> Step:
    """Return the only step."""
    assert len(steps) == 1, steps
    return steps[0]


def test_the_minimum_is_what_the_plan_keeps_for_the_series() -> None:
    """The 90 % quantile of 11 GPUs on replicas of 2 is 6 replicas."""
    forecast = asked({CHAT: [11, 11], ("vision", "throughput", "h100"): [40, 40]})
    entry = chat(tenant="vision")
    step = one(minimums(planned({"h100-owned": [8, 8]}, forecast), forecast, [entry], [has(entry)], NOW))
    assert (step.kind, step.before, step.after, step.waits_for) == (StepKind.MINIMUM, 1, 6, "")
    assert step.why == "the plan keeps 11 GPUs for latency-bound work of vision on h100 at Mon 09:00"


def test_the_level_is_the_quantile_that_is_served() -> None:
    """At the median of 11 / 1.25 GPUs there are 4 replicas, at the 99 % quantile 7."""
    forecast = asked({CHAT: [10]})
    plan = planned({"h100-owned": [8]}, forecast)
    wanted = {0.5: 4, 0.9: 5, 0.99: 8}
    for level, replicas in wanted.items():
        entry = chat(level=level)
        assert one(minimums(plan, forecast, [entry], [has(entry)], NOW)).after == replicas


def test_without_a_tenant_all_tenants_count() -> None:
    """Their GPUs are added."""
    forecast = asked({CHAT: [4], ("search", "latency", "h100"): [6], ("search", "latency", "l4"): [9]})
    entry = chat()
    plan = planned({"h100-owned": [8]}, forecast)
    assert one(minimums(plan, forecast, [entry], [has(entry)], NOW)).after == 5


def test_where_the_plan_is_short_only_what_it_serves_is_kept() -> None:
    """Demand of 12.5 at its 95 % quantile with 4.5 short leaves 8 GPUs, not the 10 of the level."""
    forecast = asked({CHAT: [10]})
    entry = chat()
    plan = planned({"h100-owned": [8]}, forecast, {CHAT: [4.5]})
    assert one(minimums(plan, forecast, [entry], [has(entry)], NOW)).after == 4


@pytest.mark.parametrize(("minutes", "replicas"), [(0, 1), (53, 1), (54, 4), (60, 4), (119, 4), (120, 1)])
def test_it_is_raised_one_start_before_the_hour_and_lowered_with_it(minutes: int, replicas: int) -> None:
    """The pool's p95 is 6 minutes; what the hour before needs is never given up for the next."""
    forecast = asked({CHAT: [2, 8, 2]})
    entry = chat()
    plan = planned({"h100-owned": [8, 8, 8]}, forecast)
    steps = minimums(plan, forecast, [entry], [has(entry, 9)], NOW + minutes * MINUTE)
    assert one(steps).after == replicas


def test_a_server_that_loads_for_long_says_so() -> None:
    """Its own minutes count instead of the nodes'."""
    forecast = asked({CHAT: [2, 8]})
    entry = chat(ahead_minutes=30)
    plan = planned({"h100-owned": [8, 8]}, forecast)
    assert one(minimums(plan, forecast, [entry], [has(entry, 9)], NOW + 31 * MINUTE)).after == 4
    assert one(minimums(plan, forecast, [entry], [has(entry, 9)], NOW + 29 * MINUTE)).after == 1


def test_nothing_is_done_where_the_number_is_right() -> None:
    """An unchanged plan has no steps."""
    forecast = asked({CHAT: [8]})
    entry = chat()
    plan = planned({"h100-owned": [8]}, forecast)
    assert minimums(plan, forecast, [entry], [has(entry, 4)], NOW) == ()
    assert one(minimums(plan, forecast, [entry], [has(entry, 4, stale=True)], NOW)).why.endswith(
        "settings have changed"
    )


def test_least_and_most_bound_it() -> None:
    """In replicas, whatever the plan says."""
    forecast = asked({CHAT: [8]})
    plan = planned({"h100-owned": [8]}, forecast)
    for bounds, after in (({"most": 3}, 3), ({"least": 6}, 6)):
        entry = chat(**bounds)
        assert one(minimums(plan, forecast, [entry], [has(entry)], NOW)).after == after


def test_what_the_engine_does_not_take_is_said() -> None:
    """A floor and a ceiling of its own, each with the sentence."""
    forecast = asked({CHAT: [0, 0]})
    entry = chat()
    plan = planned({"h100-owned": [8, 8]}, forecast)
    step = one(minimums(plan, forecast, [entry], [has(entry, 3, floor=1, floor_why="it stays at 1")], NOW))
    assert (step.after, step.why.partition("; ")[2]) == (1, "it stays at 1")
    forecast = asked({CHAT: [20]})
    step = one(minimums(planned({"h100-owned": [8]}, forecast), forecast, [entry], [has(entry, 1, ceiling=6)], NOW))
    assert step.after == 6
    assert "its own maximum of 6 is below the 10 that the plan keeps: raise that" in step.why


def test_servers_together_get_no_more_than_the_nodes_hold() -> None:
    """Two nodes of 8 GPUs: the least of both first, then the first entry, then what is left."""
    forecast = asked({CHAT: [14], ("search", "latency", "h100"): [14]})
    first, second = chat("first", tenant="vision"), chat("second", tenant="search", least=2)
    steps = minimums(planned({"h100-owned": [2]}, forecast), forecast, [first, second], [has(first), has(second)], NOW)
    assert [step.after for step in steps] == [6, 2]
    assert "the plan's nodes have no room for 1 more" in steps[0].why
    assert "the plan's nodes have no room for 5 more" in steps[1].why


def test_a_replica_lies_on_one_node() -> None:
    """Of 3 GPUs, two fit on a node of 8: four on two nodes, not five."""
    forecast = asked({CHAT: [16]})
    entry = chat(gpus_per_replica=3)
    assert one(minimums(planned({"h100-owned": [2]}, forecast), forecast, [entry], [has(entry)], NOW)).after == 4


def test_nodes_that_can_be_taken_away_serve_only_who_names_them() -> None:
    """Latency-bound work runs on no spot by default."""
    spot = a_pool("h100-spot", kind=PoolKind.SPOT, gpus_per_node=8)
    forecast = asked({CHAT: [40]})
    plan = planned({"h100-owned": [1], "h100-spot": [2]}, forecast, pools=[POOL, spot])
    for pools, after in (((), 4), (("h100-owned", "h100-spot"), 12)):
        entry = chat(pools=pools)
        assert one(minimums(plan, forecast, [entry], [has(entry)], NOW)).after == after


def test_a_buffer_keeps_nodes_free_that_its_server_does_not_use_yet() -> None:
    """Of 40 GPUs its pods use 12: 28 are four nodes."""
    forecast = asked({CHAT: [40]})
    entry = chat(gpus_per_replica=None, where=Buffer(name="room", pool="h100-owned"))
    plan = planned({"h100-owned": [8]}, forecast)
    assert one(minimums(plan, forecast, [entry], [has(entry, None)], NOW)).after == 5
    step = one(minimums(plan, forecast, [entry], [has(entry, 5, filled=12.0)], NOW))
    assert (step.before, step.after) == (5, 4)
    assert "its pods use 12 of them" in step.why
    full = planned({"h100-owned": [2]}, forecast)
    assert one(minimums(full, forecast, [entry], [has(entry, None)], NOW)).after == 2


def test_a_buffer_that_would_be_empty_is_not_made() -> None:
    """Nothing is written for nothing."""
    forecast = asked({CHAT: [0]})
    entry = chat(gpus_per_replica=None, where=Buffer(name="room", pool="h100-owned"))
    assert minimums(planned({"h100-owned": [8]}, forecast), forecast, [entry], [has(entry, None)], NOW) == ()


def test_what_is_lowered_comes_first() -> None:
    """So that its place is there for the others."""
    forecast = asked({CHAT: [8], ("search", "latency", "h100"): [2]})
    up, down = chat("up", tenant="vision"), chat("down", tenant="search")
    steps = minimums(planned({"h100-owned": [2]}, forecast), forecast, [up, down], [has(up), has(down, 4)], NOW)
    assert [(step.pool, step.before, step.after) for step in steps] == [("hpa web/down", 4, 1), ("hpa web/up", 1, 4)]


def test_what_cannot_be_written_is_in_the_list_and_waits() -> None:
    """With the sentence that says why."""
    forecast = asked({CHAT: [8]})
    entry = chat()
    plan = planned({"h100-owned": [2]}, forecast)
    for seen in ({"missing": "there is no HPA"}, {"owner": "argocd owns it"}):
        step = one(minimums(plan, forecast, [entry], [has(entry, **seen)], NOW))
        assert step.waits_for == next(iter(seen.values()))


def test_steps_are_taken_back_where_nothing_has_changed_since() -> None:
    """To what was there before the first of them; what somebody has changed stays."""
    entries = [chat("first"), chat("second"), chat("third")]
    steps = [
        Step(kind=StepKind.MINIMUM, pool=entry.key, before=before, after=before + 3, why="")
        for before in (2, 5)
        for entry in entries
    ]
    seen = [has(entries[0], 8), has(entries[1], 7), has(entries[2], 8)]
    back = minimums_before(steps, seen, "undone")
    assert [(step.pool, step.before, step.after) for step in back] == [("hpa web/first", 8, 2), ("hpa web/third", 8, 2)]


def test_a_server_without_a_forecast_keeps_its_minimum_and_holds_up_no_other() -> None:
    """A tenant may go; the step names those that there are."""
    forecast = asked({CHAT: [8], ("search", "throughput", "h100"): [8]})
    plan = planned({"h100-owned": [2]}, forecast)
    gone, there = chat("gone", tenant="search"), chat("there")
    lost, step = minimums(plan, forecast, [gone, there], [has(gone, 3), has(there)], NOW)
    assert (lost.before, lost.after, step.after) == (3, 3, 4)
    assert lost.waits_for.startswith("a forecast: serving[web/gone].accelerator: 'search/h100' has no latency-bound")
    assert "vision/h100: name one of these" in lost.waits_for


def test_another_forecast_and_another_time_are_refused() -> None:
    """Each with its remedy."""
    forecast = asked({CHAT: [8]})
    entry = chat()
    plan = planned({"h100-owned": [2]}, asked({("search", "latency", "h100"): [8]}))
    step = one(minimums(plan, forecast, [entry], [has(entry)], NOW))
    assert "give the one that the plan was made from" in step.waits_for
    with pytest.raises(InputError, match=r"covers 2026-03-02T09:00Z to 2026-03-02T09:00Z: plan again"):
        minimums(planned({"h100-owned": [2]}, forecast), forecast, [entry], [has(entry)], NOW + 60 * MINUTE)


@given(
    asks=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=4),
    sizes=st.lists(st.sampled_from([0.5, 1, 2, 3, 4, 8, 16]), min_size=4, max_size=4),
    nodes=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    before=st.integers(0, 9),
    minute=st.integers(0, 59),
)
def test_never_more_than_asked_nor_than_there_is(
    asks: list[tuple[int, int]], sizes: list[float], nodes: tuple[int, int], before: int, minute: int
) -> None:
    """Whatever is asked for; and when the steps are taken, nothing is left to do."""
    tenants = [f"t{number}" for number in range(len(asks))]
    forecast = asked({(name, "latency", "h100"): gpus for name, gpus in zip(tenants, asks, strict=True)})
    plan = planned({"h100-owned": nodes}, forecast)
    entries = [
        chat(name, tenant=name, gpus_per_replica=size, where=Hpa(namespace="web", name=name))
        for name, size in zip(tenants, sizes, strict=False)
    ]
    now = NOW + minute * MINUTE
    steps = minimums(plan, forecast, entries, [has(entry, before) for entry in entries], now)
    after = {entry.key: before for entry in entries} | {step.pool: step.after for step in steps}
    sized = {entry.key: (entry.gpus_per_replica or 0, gpus) for entry, gpus in zip(entries, asks, strict=True)}
    ahead = minute >= 54
    for key, (size, gpus) in sized.items():
        most = max(gpus) if ahead else gpus[0]
        assert after[key] * size < most + size
    if not ahead:
        assert sum(after[key] * size for key, (size, _) in sized.items()) <= nodes[0] * 8
    assert minimums(plan, forecast, entries, [has(entry, after[entry.key]) for entry in entries], now) == ()
