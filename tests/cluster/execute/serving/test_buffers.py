"""Nodes kept free on a real control plane: CapacityBuffers are written, gangs replace placeholders by the scheduler."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gangplan.execute.kubernetes import FixedNodes, open_cluster
from gangplan.execute.prewarm import (
    Buffer,
    ServingTarget,
)
from gangplan.testing import a_pool
from gangplan.types import Fleet
from tests.cluster.conftest import Space, until
from tests.cluster.execute.serving.servers import (
    BUFFERS,
    PODS,
    a_deployment,
    carry_out,
    one,
    seen,
    steps,
)
from tests.cluster.objects import a_job
from tests.cluster.servers import fleet
from tests.execute.prewarm.builders import POOL

TAINT = {"key": "gangplan.io/own-test", "value": "yes", "effect": "NoSchedule"}
NODES = 3


@pytest.mark.usefixtures("served")
def test_a_capacity_buffer_where_it_is_served(space: Space) -> None:
    """With its PodTemplate of a whole node; it is lowered, and made anew in the shape of changed settings."""
    where = Buffer(namespace=space.name, name="room", pool="h100-owned")
    target = one(space, where)
    step = carry_out(target, 24)
    assert (step.before, step.after, seen(target).kind) == (0, 3, "capacity_buffer")
    buffer = space.api.get(f"{BUFFERS.format(space.name)}/room")
    assert buffer["spec"]["podTemplateRef"] == {"name": "room"}
    template = f"/api/v1/namespaces/{space.name}/podtemplates/room"
    assert space.api.get(template)["template"]["spec"]["containers"][0]["resources"]["limits"] == {fleet.GPU: "8"}
    assert carry_out(target, 8).after == 1
    tolerant = one(space, replace(where, tolerates=("dedicated",)))
    assert carry_out(tolerant, 8).why.endswith("its settings have changed")
    assert "no autoscaler has taken its CapacityBuffer up: turn" in target.check()[0]
    space.api.merge(f"{BUFFERS.format(space.name)}/room/status", {"status": {"replicas": 1}})
    assert target.check() == ()
    keys = [each["key"] for each in space.api.get(template)["template"]["spec"]["tolerations"]]
    assert keys == [fleet.GPU, "dedicated"]


def test_a_deployment_of_somebody_is_no_buffer(space: Space) -> None:
    """Whatever the name."""
    a_deployment(space)
    target = one(
        space, Buffer(kind="placeholders", namespace=space.name, name="chat", pool="h100-owned", take_over=True)
    )
    (step,) = steps(target, 8)
    assert step.waits_for == "Deployment chat is somebody else's: give the buffer another name"


@pytest.fixture
def own_nodes(space: Space) -> Iterator[str]:
    """Nodes of a pool of the test's own, that no other test's pods can come to."""
    pool = a_pool(f"{space.name}-h100", accelerator="h100", gpus_per_node=8, max_nodes=NODES)
    for index in range(NODES):
        node = fleet.node(pool, index)
        node["spec"]["taints"].append(TAINT)
        space.make("/api/v1/nodes", node)
    return pool.name


def bound(space: Space, label: str) -> dict[str, str]:
    """Return the running pods with a label and their nodes."""
    pods = space.api.items(PODS.format(space.name), labelSelector=label)
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in pods
        if pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
    }


def test_placeholders_give_way_to_a_gang(space: Space, own_nodes: str) -> None:
    """One for each node, with all its GPUs; Kueue places a gang there as if they were not, and it runs at once."""
    where = Buffer(
        kind="placeholders", namespace=space.name, name="room", pool=own_nodes, tolerates=(TAINT["key"],),
        filled_by="batch.kubernetes.io/job-name=gang",
    )  # fmt: skip
    target = one(space, where, most=NODES)
    carry_out(target, 8 * NODES)
    until(lambda: len(set(bound(space, "gangplan.io/placeholder").values())) == NODES)
    pool = a_pool(own_nodes, accelerator="h100", gpus_per_node=8)
    cluster = open_cluster({own_nodes: FixedNodes()}, {}, Fleet(pools=(pool,)), api=space.api, clock=space.clock)
    assert cluster.observe().grants == ()
    flavor = space.flavor(pool=own_nodes, topology="gangplan")
    space.queue({flavor: 8 * NODES})
    gang = a_job(space.name, "gang", pods=2, gpus=8, how="hangs")
    gang["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "queue"}
    gang["spec"]["suspend"] = True
    template = gang["spec"]["template"]
    template["metadata"]["annotations"]["kueue.x-k8s.io/podset-required-topology"] = fleet.RACK
    template["spec"]["tolerations"].append({"key": TAINT["key"], "operator": "Exists"})
    asked_at = time.monotonic()
    space.api.create(f"/apis/batch/v1/namespaces/{space.name}/jobs", gang)
    until(lambda: len(bound(space, "batch.kubernetes.io/job-name=gang")) == 2)
    print(f"a gang of {NODES - 1} nodes ran {time.monotonic() - asked_at:.2f} s after it was asked for")
    assert len(bound(space, "gangplan.io/placeholder")) == NODES - 2
    assert sum(grant.slots for grant in cluster.observe().grants) == 16
    cluster.close()
    step = carry_out(target, 8 * NODES)  # what the gang uses is not kept free a second time
    assert (step.before, step.after, seen(target).filled) == (NODES, NODES - 2, 16.0)
    waiting = f"{PODS.format(space.name)}"
    until(lambda: len(list(space.api.items(waiting, labelSelector="gangplan.io/placeholder"))) == NODES - 2)
    space.api.delete(f"/apis/batch/v1/namespaces/{space.name}/jobs/gang", propagationPolicy="Background")
    until(lambda: seen(target).filled == 0)
    carry_out(target, 8 * NODES)
    until(lambda: len(bound(space, "gangplan.io/placeholder")) == NODES)
    gone = ServingTarget([], Fleet(pools=(POOL,)), space.api)
    assert gone.check() == ()
