"""The plan's caps on nodes: for the gangs that are there, never slower than planned; only what differs is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, strategies as st
from tests.effort import examples
from tests.feedback.builders import a_plan

from gangplan.errors import InputError
from gangplan.execute import green, read_targets
from gangplan.execute.green.caps import Cap, CappedNode, Held, cap_steps, wanted_cap
from gangplan.tables import PLAN_CAPS
from gangplan.testing import a_pool
from gangplan.types import Fleet, Knob, Plan

SLOW, FAST = (Cap(knob=Knob.CAP, setting=setting, speed=speed) for setting, speed in ((300, 0.7), (500, 0.95)))
PLANNED: Mapping[tuple[str, str], Cap | None] = {
    ("h100", "throughput"): SLOW,
    ("h100", "cost"): FAST,
    ("h100", "latency"): None,
    ("a100", "cost"): Cap(knob=Knob.CLOCK, setting=1200, speed=0.9),
}


def a_node(*kinds: str, pool: str = "h100", **labels: str) -> CappedNode:
    """A node with a gang of each class, and its labels."""
    gangs = tuple(Held(name=f"vision/{place}", kind=kind) for place, kind in enumerate(kinds))
    return CappedNode(name="n1", pool=pool, gangs=gangs, labels={Knob[name]: value for name, value in labels.items()})


@pytest.mark.parametrize(
    ("node", "after"),
    [
        (a_node("throughput"), {"CAP": "300"}),
        (a_node("throughput", "cost"), {"CAP": "500"}),
        (a_node("throughput", "latency"), {}),
        (a_node("throughput", ""), {}),
        (a_node("throughput", "unheard"), {}),
        (a_node(CAP="300"), {}),
        (a_node("cost", pool="a100", CAP="300"), {"CLOCK": "1200"}),
        (a_node("cost", pool="l4"), {}),
    ],
)
def test_a_node_gets_the_cap_of_the_gang_that_is_slowed_least(node: CappedNode, after: dict[str, str]) -> None:
    """Who has no class, or no cap in the plan, is never slowed; an empty node has none."""
    labels = {knob.name: value for knob, value in node.labels.items()}
    for step in cap_steps(PLANNED, [node]):
        assert labels.get(step.knob.name, "") == step.before
        assert step.why
        labels[step.knob.name] = step.after
    assert {name: value for name, value in labels.items() if value} == after


@examples(60, 600)
@given(
    kinds=st.lists(st.sampled_from(["throughput", "cost", "latency", ""]), max_size=4),
    label=st.sampled_from(["", "300", "77"]),
)
def test_no_gang_is_slowed_more_than_planned_and_a_second_look_finds_nothing(kinds: list[str], label: str) -> None:
    """For any gangs on a node; what was written is not written again."""
    node = a_node(*kinds, **({"CAP": label} if label else {}))
    cap, _ = wanted_cap(PLANNED, node.pool, node.gangs)
    for kind in kinds:
        planned = PLANNED.get(("h100", kind))
        assert cap is None or (planned is not None and cap.speed >= planned.speed)
    labels = dict(node.labels)
    for step in cap_steps(PLANNED, [node]):
        labels[step.knob] = step.after
    done = replace(node, labels={knob: value for knob, value in labels.items() if value})
    assert cap_steps(PLANNED, [done]) == ()


def a_capped_plan(now: datetime) -> Plan:
    """A plan with a cap in its first hour and none in its second."""
    row = {"pool": "h100-owned", "workload_class": "throughput", "knob": "cap_watts", "gpus": 8.0, "speed": 0.8}
    rows = [
        {**row, "hour": now + timedelta(hours=hour), "setting": 400 * (1 - hour), "watts": 390.0} for hour in (0, 1)
    ]
    return replace(a_plan(start=now), caps=pl.DataFrame(rows, schema=PLAN_CAPS))


def test_caps_are_those_of_the_hour(now: datetime) -> None:
    """Setting 0 is no cap; an hour that the plan does not cover is refused; a plan without curves has none."""
    made = a_capped_plan(now)
    minutes = timedelta(minutes=40)
    key = ("h100-owned", "throughput")
    assert green.planned_caps(made, now + minutes) == {key: Cap(knob=Knob.CAP, setting=400, speed=0.8)}
    assert green.planned_caps(made, now + timedelta(hours=1)) == {key: None}
    assert green.planned_caps(replace(made, caps=None), now) == {}
    with pytest.raises(InputError, match=r"at: '2031-.*' is outside the plan: plan again"):
        green.planned_caps(made, datetime(2031, 1, 1, tzinfo=UTC))


def test_targets_name_the_pools_that_are_capped(tmp_path: Path) -> None:
    """None without `power`; a pool that is not in the fleet is named with file and line."""
    fleet = Fleet(pools=(a_pool("a"), a_pool("b")))
    file = tmp_path / "targets.yaml"
    text = "pools:\n  a: {nodes: {kind: file}}\n"
    file.write_text(text)
    assert read_targets(file, fleet).power.pools == ()
    file.write_text(text + "power: {pools: [b]}\n")
    assert read_targets(file, fleet).power.pools == ("b",)
    file.write_text(text + "power: {pools: [c]}\n")
    with pytest.raises(
        InputError, match=r"power.pools.0: 'c' is not in the fleet: use one of a, b .*targets.yaml line 3"
    ):
        read_targets(file, fleet)
    file.write_text(text + "power: {pool: [b]}\n")
    with pytest.raises(InputError, match=r"power.pool: .*targets.yaml line 3"):
        read_targets(file, fleet)
