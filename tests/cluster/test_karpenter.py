"""Karpenter orders just as many nodes as a static NodePool says, and they turn usable after their start-up delay."""

from __future__ import annotations

from typing import Any

from tests.cluster.conftest import Space, until
from tests.cluster.servers import fleet, karpenter as server

Object = dict[str, Any]

DELAY_S = 2.0


def test_a_static_pool_gets_its_nodes_and_gives_them_back(karpenter_space: Space) -> None:
    """Three replicas become three nodes that Karpenter calls Initialized; of one replica two are ended."""
    space, pool = karpenter_space, f"{karpenter_space.name}-h100"
    space.make(server.NODE_CLASSES, server.node_class(pool, f"{DELAY_S:.0f}s"))
    space.make(f"{server.API}/nodepools", server.node_pool(pool, "h100-8", replicas=3))
    until(lambda: len(initialized(space, pool)) == 3, 60)
    nodes = space.api.get("/api/v1/nodes", labelSelector=f"{fleet.POOL}={pool}")["items"]
    assert {one["status"]["nodeName"] for one in initialized(space, pool)} == {one["metadata"]["name"] for one in nodes}
    assert {one["status"]["allocatable"][fleet.GPU] for one in nodes} == {"8"}
    space.api.merge(f"{server.API}/nodepools/{pool}", {"spec": {"replicas": 1}})
    until(lambda: len(claims(space, pool)) == 1, 60)


def claims(space: Space, pool: str) -> list[Object]:
    """Return the machines that Karpenter has ordered for a pool."""
    found = space.api.get(f"{server.API}/nodeclaims", labelSelector=f"karpenter.sh/nodepool={pool}")
    return list(found["items"])


def initialized(space: Space, pool: str) -> list[Object]:
    """Return those of them that pods can run on."""
    return [one for one in claims(space, pool) if ("Initialized", "True") in conditions(one)]


def conditions(claim: Object) -> set[tuple[str, str]]:
    """Return a machine's conditions."""
    return {(one["type"], one["status"]) for one in claim.get("status", {}).get("conditions", ())}
