"""Nodes kept free by the real Karpenter: a CapacityBuffer of ours makes them, and a pod that comes runs at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gangplan.execute.prewarm import Buffer, Serving, ServingTarget
from gangplan.testing import a_pool
from gangplan.types import Fleet
from tests.cluster.conftest import Space, until
from tests.cluster.execute.serving.servers import carrying
from tests.cluster.objects import a_pod
from tests.cluster.servers import fleet, karpenter as server
from tests.execute.prewarm.builders import CHAT, asked, planned

BOOTS_S = 60.0


@pytest.fixture
def pool(karpenter_space: Space) -> Iterator[str]:
    """A NodePool that makes nodes for pods that wait, and for buffers."""
    space, name = karpenter_space, f"{karpenter_space.name}-h100"
    space.make(server.NODE_CLASSES, server.node_class(name, "1s"))
    space.make(f"{server.API}/nodepools", server.node_pool(name, "h100-8", most=8))
    yield name
    for claim in space.api.items(f"{server.API}/nodeclaims", labelSelector=f"karpenter.sh/nodepool={name}"):
        space.api.delete(f"{server.API}/nodeclaims/{claim['metadata']['name']}")


def usable(space: Space, pool: str) -> set[str]:
    """Return the nodes that pods can run on."""
    wanted = f"{fleet.POOL}={pool},karpenter.sh/initialized=true"
    return {node["metadata"]["name"] for node in space.api.items("/api/v1/nodes", labelSelector=wanted)}


def test_a_buffer_has_its_nodes_before_the_pods_come(karpenter_space: Space, pool: str) -> None:
    """The cluster serves CapacityBuffers, so that no placeholders are made; what its server uses is not kept twice."""
    space = karpenter_space
    where = Buffer(namespace=space.name, name="room", pool=pool, filled_by="app=chat")
    kept = Fleet(pools=(a_pool(pool, accelerator="h100", gpus_per_node=8, max_nodes=8),))
    target = ServingTarget([Serving(where=where, accelerator="h100")], kept, space.api)
    forecast = asked({CHAT: [16]})
    found = carrying(target, planned({pool: [8]}, forecast, pools=kept.pools), forecast)
    assert len(found.once(dry_run=True).done) == 1
    (step,) = found.once().done
    assert (step.after, target.look()[0].kind) == (2, "capacity_buffer")
    until(lambda: len(usable(space, pool)) == 2, BOOTS_S)
    until(lambda: target.check() == (), BOOTS_S, "Karpenter has not taken the buffer up")
    free = usable(space, pool)
    pod = a_pod("chat", gpus=8)
    pod["metadata"]["labels"] = {"app": "chat"}
    pod["spec"]["nodeSelector"] = {fleet.POOL: pool}
    space.api.create(f"/api/v1/namespaces/{space.name}/pods", pod)
    until(lambda: space.api.get(f"/api/v1/namespaces/{space.name}/pods/chat")["status"].get("phase") == "Running")
    assert space.api.get(f"/api/v1/namespaces/{space.name}/pods/chat")["spec"]["nodeName"] in free
    (step,) = found.once().done
    assert (step.before, step.after) == (2, 1)
    space.api.delete(f"/api/v1/namespaces/{space.name}/pods/chat")
