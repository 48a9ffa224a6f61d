"""Requests of CPU and memory follow what was used, with a margin, and only where a class says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from gangplan.errors import InputError
from gangplan.execute.devices import Container, Resize, ResizeRule, RunningPod, resizes
from gangplan.types import ContainerUse, WorkloadClass

GIB = 2**30
CONTAINER = Container(
    name="main", requests={"cpu": 8000, "memory": 64 * GIB}, at_first={"cpu": 8000, "memory": 64 * GIB}
)
POD = RunningPod(
    namespace="team", name="p", uid="u", kind=WorkloadClass.LATENCY, qos="Burstable", containers=(CONTAINER,)
)
RULES = {WorkloadClass.LATENCY: ResizeRule(margin=1.5)}


def use(cores: float = 1.0, memory: float = 8 * GIB, hours: float = 48) -> ContainerUse:
    """What the container used."""
    return ContainerUse(namespace="team", pod="p", container="main", cores=cores, memory=memory, hours=hours)


def only(pod: RunningPod = POD, used: ContainerUse | None = None) -> Resize | None:
    """The one change that follows, if any."""
    return next(iter(resizes([pod], [used or use()], RULES)), None)


def test_waste_is_given_back() -> None:
    """Requests become what was used, times the margin."""
    change = only()
    assert change is not None
    assert (change.after, change.waits_for) == ({"cpu": 1500, "memory": 12 * GIB}, "")


def test_what_is_left_alone() -> None:
    """A class without a rule, too few hours, a small change, and a container that was not measured."""
    assert only(replace(POD, kind=WorkloadClass.COST)) is None
    assert only(used=use(hours=23)) is None
    assert only(used=use(cores=5, memory=40 * GIB)) is None
    assert resizes([POD], (), RULES) == ()


def test_never_less_than_the_least() -> None:
    """An idle pod keeps what the rule leaves it."""
    change = only(used=use(cores=0, memory=0))
    assert change is not None
    assert change.after == {"cpu": 100, "memory": 256 * 2**20}


def test_what_was_taken_is_given_back_and_no_more() -> None:
    """A pod that uses more again gets its requests back, up to what it came with."""
    small = replace(CONTAINER, requests={"cpu": 1500, "memory": 12 * GIB})
    change = only(replace(POD, containers=(small,)), use(cores=9, memory=90 * GIB))
    assert change is not None
    assert change.after == CONTAINER.at_first


def test_why_a_change_cannot_be() -> None:
    """A guaranteed pod would lose its class, and a resize that is not done is waited for: both are said."""
    guaranteed = only(replace(POD, qos="Guaranteed"))
    assert guaranteed is not None
    assert guaranteed.waits_for.startswith("it is Guaranteed: its requests are its limits, which stay")
    pending = only(replace(POD, pending="its last resize is Deferred: no room"))
    assert pending is not None
    assert pending.waits_for == "its last resize is Deferred: no room"


def test_a_resource_without_a_request_gets_none() -> None:
    """Only what was asked for is changed, and GPUs never are."""
    bare = replace(CONTAINER, requests={"cpu": 8000}, at_first={"cpu": 8000})
    change = only(replace(POD, containers=(bare,)))
    assert change is not None
    assert set(change.after) == {"cpu"}


@given(cores=st.floats(0, 100), memory=st.floats(0, 200 * GIB), margin=st.floats(1, 5))
def test_always_between_the_least_and_what_it_came_with(cores: float, memory: float, margin: float) -> None:
    """Whatever was used: never below use with its margin unless the pod came with less, never above the first."""
    rule = ResizeRule(margin=margin)
    for change in resizes([POD], [use(cores, memory)], {WorkloadClass.LATENCY: rule}):
        for name, used, least in (("cpu", 1000 * cores, 100), ("memory", memory, 256 * 2**20)):
            first = CONTAINER.at_first[name]
            assert least <= change.after[name] <= first
            assert change.after[name] >= min(first, used * margin)


def test_a_rule_is_checked() -> None:
    """A margin below what was used is refused."""
    with pytest.raises(InputError, match=r"resize.margin: 0.5 must be a number of at least 1"):
        ResizeRule(margin=0.5)
