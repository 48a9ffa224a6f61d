"""Static NodePools of the real Karpenter: nodes are ordered once, count when they can be used, and go by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gangplan.errors import ConflictError, InputError, RejectedError
from gangplan.execute.kubernetes import ClusterTarget, KarpenterNodes, karpenter
from gangplan.types import Pool, StepKind
from tests.cluster.conftest import Space, until
from tests.cluster.execute.conftest import Field, a_step, nodes_of
from tests.cluster.servers import karpenter as server

Object = dict[str, Any]
BOOTS_S = 60.0
PODS = "/api/v1/namespaces/{}/pods"


@pytest.fixture
def ground(karpenter_space: Space) -> Iterator[Field]:
    """Pools of the test's own on the cluster with Karpenter."""
    made = Field(karpenter_space)
    yield made
    made.clear()
    for claim in server_claims(made):
        made.space.api.delete(f"{server.API}/nodeclaims/{claim['metadata']['name']}")


def server_claims(ground: Field) -> list[Object]:
    """Return the NodeClaims of the test's pools."""
    found = ground.space.api.items(f"{server.API}/nodeclaims")
    return [one for one in found if one["metadata"]["labels"]["karpenter.sh/nodepool"].startswith(ground.space.name)]


def a_pool(
    ground: Field, replicas: int, *, most: int = 20, delay: str = "0s", **spec: Any
) -> tuple[Pool, ClusterTarget]:
    """Make a static NodePool, and open it as a pool."""
    pool = ground.pool(most=most)
    ground.space.make(server.NODE_CLASSES, server.node_class(pool.name, delay))
    body = server.node_pool(pool.name, "h100-8", replicas=replicas, most=most)
    body["spec"]["template"]["spec"] |= spec
    ground.space.make(f"{server.API}/nodepools", body)
    target = ground.target(pool, nodes={pool.name: KarpenterNodes(nodepool=pool.name)})
    until(lambda: len(usable(target, pool)) == replicas, BOOTS_S)
    return pool, target


def usable(target: ClusterTarget, pool: Pool) -> list[str]:
    """Return the nodes that can be used."""
    return [each.name for each in nodes_of(target.observe(), pool).nodes if each.usable and not each.leaving]


def test_nodes_are_ordered_once_and_count_when_pods_can_run_on_them(ground: Field) -> None:
    """A node that is Ready carries a taint first that ends pods: it counts when its NodeClaim is Initialized."""
    pool, target = a_pool(ground, 1, delay="1s")
    order = a_step(StepKind.ORDER, pool, 1, 4)
    target.apply(order, dry_run=True)
    assert nodes_of(target.observe(), pool).ordered == 1
    target.apply(order)
    target.apply(order)
    with pytest.raises(ConflictError, match="4 nodes are ordered, not 1"):
        target.apply(a_step(StepKind.ORDER, pool, 1, 3))
    early: set[str] = set()

    def come() -> bool:
        there = usable(target, pool)
        done = {
            one["status"]["nodeName"]
            for one in server_claims(ground)
            if any(mark["type"] == "Initialized" and mark["status"] == "True" for mark in one["status"]["conditions"])
        }
        early.update(set(there) - done)
        return len(there) == 4

    until(come, BOOTS_S)
    assert early == set()
    with pytest.raises(RejectedError, match=r"its limits.nodes is 21, so that 22 nodes would never come: set it to 23"):
        target.apply(a_step(StepKind.ORDER, pool, 4, 22))


def test_pods_under_grants_are_kept_from_being_disturbed(ground: Field) -> None:
    """Those that are not yet are named; written once, none is left; a pod that is gone is no error."""
    pool, target = a_pool(ground, 1)
    pod = ground.pod("work", usable(target, pool)[0])
    assert nodes_of(target.observe(), pool).unprotected == (pod,)
    step = a_step(StepKind.PROTECT, pool, 1, 0, nodes=(pod, f"{ground.space.name}/gone"))
    target.apply(step, dry_run=True)
    assert nodes_of(target.observe(), pool).unprotected == (pod,)
    target.apply(step)
    assert nodes_of(target.observe(), pool).unprotected == ()
    ground.space.api.delete(f"{PODS.format(ground.space.name)}/work", gracePeriodSeconds=0)


@contextmanager
def gangs_that_land(ground: Field, nodes: list[str]) -> Iterator[set[str]]:
    """Let pods without any protection land on nodes, one after the other, as long as the block lasts."""
    landed: set[str] = set()
    end = threading.Event()
    waiting = iter(nodes)

    def land() -> None:
        for node in waiting:
            if end.wait(0.05):
                return
            landed.add(ground.pod(f"gang-{len(landed)}", node).partition("/")[2])

    thread = threading.Thread(target=land)
    thread.start()
    try:
        yield landed
    finally:
        thread.join()
        end.set()


def test_just_the_nodes_that_are_named_go_though_gangs_land_on_other_empty_ones(ground: Field) -> None:
    """Eight empty nodes, three are to go; while they do, gangs land on the five others: all keep their nodes.

    Karpenter alone would pick any three that it believes to be empty. No node is started in place of one that goes.
    """
    pool, target = a_pool(ground, 8)
    nodes = usable(target, pool)
    born = {one["metadata"]["name"] for one in server_claims(ground)}
    going, staying = nodes[2:5], nodes[:2] + nodes[5:]
    target.apply(a_step(StepKind.CORDON, pool, 8, 5, nodes=tuple(going)))
    step = a_step(StepKind.REMOVE, pool, 8, 5, nodes=tuple(going))
    target.apply(step, dry_run=True)
    with gangs_that_land(ground, staying) as landed:
        target.apply(step)
    assert nodes_of(target.observe(), pool).ordered == 5
    until(lambda: usable(target, pool) == staying and len(server_claims(ground)) == 5, BOOTS_S)
    pods = ground.space.api.items(PODS.format(ground.space.name))
    assert {one["metadata"]["name"]: "deletionTimestamp" in one["metadata"] for one in pods} == dict.fromkeys(
        landed, False
    )
    assert {one["metadata"]["name"] for one in server_claims(ground)} <= born
    found = ground.space.api.get(f"{server.API}/nodepools/{pool.name}")
    assert found["spec"]["limits"] == {"nodes": "21"}
    assert "gangplan.io/limits-nodes" not in found["metadata"].get("annotations", {})
    target.apply(step)


def test_replicas_fall_only_when_the_nodes_that_went_are_gone(ground: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """Karpenter counts late what it was told, and would remove another node for one that it still counts."""
    pool, target = a_pool(ground, 2)
    going, staying = usable(target, pool)
    (claim,) = (one for one in server_claims(ground) if one["status"]["nodeName"] == going)
    path = f"{server.API}/nodeclaims/{claim['metadata']['name']}"
    kept = {"metadata": {"finalizers": [*claim["metadata"]["finalizers"], "gangplan.io/test"]}}
    ground.space.api.merge(path, kept)
    target.apply(a_step(StepKind.CORDON, pool, 2, 1, nodes=(going,)))
    step = a_step(StepKind.REMOVE, pool, 2, 1, nodes=(going,))
    monkeypatch.setattr(karpenter, "GONE_S", 0.0)
    with pytest.raises(ConflictError, match="is still leaving: its replicas fall after it"):
        target.apply(step)
    until(lambda: ground.space.api.get(path)["metadata"]["finalizers"] == ["gangplan.io/test"], BOOTS_S)
    assert nodes_of(target.observe(), pool).ordered == 2
    assert len(server_claims(ground)) == 2  # none was started in its place
    ground.space.api.merge(path, {"metadata": {"finalizers": None}})
    monkeypatch.undo()
    target.apply(a_step(StepKind.REMOVE, pool, 2, 1))
    assert nodes_of(target.observe(), pool).ordered == 1
    assert usable(target, pool) == [staying]


def test_a_node_that_is_not_free_goes_not_and_nothing_else_does(ground: Field) -> None:
    """Not cordoned by us, or a late pod on it: a conflict, and replicas, NodeClaims and limit stay as they are."""
    pool, target = a_pool(ground, 2)
    first, second = usable(target, pool)
    step = a_step(StepKind.REMOVE, pool, 2, 1, nodes=(first,))
    with pytest.raises(ConflictError, match="is not cordoned by us"):
        target.apply(step)
    target.apply(a_step(StepKind.CORDON, pool, 2, 1, nodes=(first,)))
    ground.pod("late", first)
    with pytest.raises(ConflictError, match="pod late is on it"):
        target.apply(step)
    with pytest.raises(ConflictError, match="2 nodes would stay, and Karpenter would pick"):
        target.apply(a_step(StepKind.REMOVE, pool, 2, 1))
    ground.space.api.delete(f"{PODS.format(ground.space.name)}/late", gracePeriodSeconds=0)
    seen = nodes_of(target.observe(), pool)
    assert (seen.ordered, {each.name for each in seen.nodes if not each.leaving}) == (2, {first, second})


def test_ordered_nodes_that_have_not_come_are_taken_back(ground: Field) -> None:
    """They hold nothing: the NodeClaims without a node go, those with nodes stay."""
    pool, target = a_pool(ground, 2)
    here = usable(target, pool)
    ground.space.api.merge(f"{server.NODE_CLASSES}/{pool.name}", {"spec": {"nodeRegistrationDelay": "300s"}})
    target.apply(a_step(StepKind.ORDER, pool, 2, 5))
    until(lambda: len(server_claims(ground)) == 5)
    target.apply(a_step(StepKind.REMOVE, pool, 5, 2))
    until(lambda: sum("deletionTimestamp" not in one["metadata"] for one in server_claims(ground)) == 2)
    assert usable(target, pool) == here
    assert nodes_of(target.observe(), pool).ordered == 2


def test_a_removal_that_broke_off_leaves_nothing_behind(ground: Field) -> None:
    """Killed with the limit held down: it is named, and the next order gives it back."""
    pool, target = a_pool(ground, 1)
    path = f"{server.API}/nodepools/{pool.name}"
    held = {"metadata": {"annotations": {"gangplan.io/limits-nodes": "21"}}, "spec": {"limits": {"nodes": "1"}}}
    ground.space.api.merge(path, held)
    assert [each for each in target.check() if "held down since a removal broke off" in each]
    target.apply(a_step(StepKind.ORDER, pool, 1, 2))
    assert ground.space.api.get(path)["spec"]["limits"] == {"nodes": "21"}
    assert nodes_of(target.observe(), pool).ordered == 2


def test_what_would_break_a_promise_is_named_with_its_remedy(ground: Field) -> None:
    """Nodes that expire, a grace period, a limit that is too low: each by its field."""
    pool, target = a_pool(ground, 1, most=3, expireAfter="720h", terminationGracePeriod="1h")
    path = f"{server.API}/nodepools/{pool.name}"
    ground.space.api.merge(path, {"spec": {"limits": {"nodes": "3"}}})
    said = " ".join(target.check())
    for part in ("set it to 4", "expireAfter: Never", "terminationGracePeriod 1h"):
        assert part in said
    other = ground.pool("other")
    with pytest.raises(InputError, match="is no static NodePool"):
        ground.target(other, nodes={other.name: KarpenterNodes(nodepool="nobody")}).observe()


def test_nodes_that_do_not_come_say_why(ground: Field) -> None:
    """In Karpenter's words: a class of nodes that is not there."""
    pool, target = a_pool(ground, 0)
    ground.space.api.delete(f"{server.NODE_CLASSES}/{pool.name}")
    target.apply(a_step(StepKind.ORDER, pool, 0, 1))
    assert "NodeClass" in until(lambda: nodes_of(target.observe(), pool).trouble, BOOTS_S)
