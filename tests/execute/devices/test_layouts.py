"""A node moves between pools by another MIG layout: cordoned, empty, labelled, seen to be right, open again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from gangplan.errors import InputError
from gangplan.execute.devices.layouts import LayoutNode, Layouts, layout_steps
from gangplan.testing import NOW, a_plan, a_pool
from gangplan.types import Grant, Observation, Quota, Step, StepKind

WHOLE = a_pool("whole", gpus_per_node=8, accelerator="h100")
PARTS = a_pool("parts", gpus_per_node=8, accelerator="h100", slot="1g.10gb", slots_per_gpu=7)
LAYOUTS = Layouts(configs={"whole": "all-disabled", "parts": "all-1g.10gb"})


def node(name: str, **fields: object) -> LayoutNode:
    """A node of whole GPUs."""
    return replace(LayoutNode(name=name, pool="whole", config="all-disabled", state="success", slots=8), **fields)  # type: ignore[arg-type]


def steps(*nodes: LayoutNode, plan: tuple[int, int] = (1, 1), quota: int = 8, **given: object) -> tuple[Step, ...]:
    """The steps to a plan of whole nodes and divided nodes."""
    wanted = a_plan(NOW, {"whole": [plan[0]] * 2, "parts": [plan[1]] * 2}, [WHOLE, PARTS])
    quotas = (Quota(pool="whole", place="q", group="q", slots=quota, used=0),)
    grants: tuple[Grant, ...] = given.pop("grants", ())  # type: ignore[assignment]
    return layout_steps(LAYOUTS, wanted, nodes, Observation(quotas=quotas), grants, NOW, **given)  # type: ignore[arg-type]


def test_a_spare_node_moves() -> None:
    """The plan wants one whole and one divided node: of two whole ones, one begins to move."""
    (step,) = steps(node("a"), node("b"))
    assert (step.kind, step.nodes, step.pool, step.place) == (StepKind.CORDON, ("a",), "whole", "parts")
    assert not step.waits_for


def test_quota_goes_first() -> None:
    """While the pool's quota is more than what the other nodes have, none of its nodes goes."""
    (step,) = steps(node("a"), node("b"), quota=16)
    assert step.waits_for == "the quota of whole is 16 slots, and its other nodes have 8"


def test_a_granted_node_stays() -> None:
    """A node under a grant is not chosen, and grants without nodes keep enough of them."""
    held = (Grant(name="g", pool="whole", slots=8, nodes={"a": 8}),)
    (step,) = steps(node("a"), node("b"), grants=held)
    assert step.nodes == ("b",)
    assert steps(node("a"), node("b"), grants=(replace(held[0], slots=16),)) == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pods": ("team/p",)}, "a is in use: team/p"),
        ({"since": NOW - timedelta(seconds=2)}, "a was cordoned 2 s ago: a pod may still be on its way"),
        ({"state": "pending"}, "the GPUs of a are being divided (pending)"),
        ({}, ""),
    ],
)
def test_a_label_waits_until_the_node_is_empty(fields: dict[str, object], words: str) -> None:
    """Pods, a fresh cordon and a manager at work hold a label up."""
    moving = node("a", **{"moves_to": "parts", "since": NOW - timedelta(minutes=1)} | fields)
    (step,) = steps(moving, node("b"))
    assert (step.kind, step.waits_for) == (StepKind.LAYOUT, words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": "success", "slots": 56, "slot": "1g.10gb"}, ""),
        ({"state": "success"}, "a has 8 x gpu and not yet 56 x 1g.10gb"),
        ({"state": "pending"}, "the GPUs of a are being divided (pending)"),
        ({"state": ""}, "the GPUs of a are being divided (not begun)"),
    ],
)
def test_a_node_opens_when_its_kubelet_counts_the_parts(fields: dict[str, object], words: str) -> None:
    """The state success alone is not enough."""
    moving = node("a", pool="parts", config="all-1g.10gb", moves_to="parts", since=NOW, **fields)
    (step,) = steps(moving, node("b"))
    assert (step.kind, step.pool, step.waits_for) == (StepKind.UNCORDON, "parts", words)


@pytest.mark.parametrize(("state", "minutes"), [("failed", 1), ("pending", 31), ("success", 31), ("", 31)])
def test_a_change_that_fails_or_hangs_is_named_with_its_remedy(state: str, minutes: int) -> None:
    """The node stays cordoned, and what wakes its manager is said; no other node begins."""
    since = NOW - timedelta(minutes=minutes)
    fields = {"pool": "parts", "config": "all-1g.10gb", "moves_to": "parts", "state": state, "since": since}
    bad = [node(name, **fields) for name in "ab"]
    first, _, begins = steps(*bad, node("c"), node("d"), plan=(1, 3))
    assert first.waits_for.startswith(f"a stays cordoned: state {state or 'none'} {minutes} min after its label")
    assert "kubectl label node a nvidia.com/mig.config=all-disabled --overwrite" in first.waits_for
    assert begins.waits_for == "2 nodes are being changed already"


def test_a_label_that_a_person_changed_is_set_again() -> None:
    """Who wakes the manager by another label need not set ours: it follows when the manager is done."""
    woken = node("a", pool="parts", config="all-disabled", moves_to="parts", since=NOW - timedelta(hours=1))
    (step,) = steps(woken, node("b"))
    assert (step.kind, step.place, step.waits_for) == (StepKind.LAYOUT, "parts", "")


def test_a_plan_that_changes_in_mid_course_is_followed() -> None:
    """A node that was only cordoned opens in its pool; one that is labelled goes on."""
    cordoned = node("a", moves_to="parts", since=NOW)
    (step,) = steps(cordoned, node("b"), plan=(2, 0), quota=8)
    assert (step.kind, step.pool) == (StepKind.UNCORDON, "whole")


def test_a_new_node_gets_the_layout_of_its_pool() -> None:
    """A node that came with its pool's label and whole GPUs is divided before anybody counts on it."""
    fresh = node("a", pool="parts", config="", state="")
    (step,) = steps(fresh, node("b"))
    assert (step.kind, step.pool, step.place) == (StepKind.CORDON, "parts", "parts")


def test_pools_of_other_gpus_are_refused() -> None:
    """No layout turns an A100 into an H100; two pools with one slot are one pool."""
    plan = a_plan(NOW, {"whole": [1]}, [WHOLE, replace(PARTS, accelerator="a100")])
    with pytest.raises(InputError, match="'parts' has another accelerator than whole"):
        layout_steps(LAYOUTS, plan, (), Observation(), (), NOW)
    plan = a_plan(NOW, {"whole": [1]}, [WHOLE, a_pool("parts", gpus_per_node=8, accelerator="h100")])
    with pytest.raises(InputError, match="has the slot gpu of another pool"):
        layout_steps(LAYOUTS, plan, (), Observation(), (), NOW)
