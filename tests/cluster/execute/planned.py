"""A pool of a test's own on the cluster: its nodes as they come, what Kueue has admitted on it, and a plan for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gangplan.clock import floor_hour
from gangplan.kube import KUEUE, Api, claim_from, read_nodes
from gangplan.testing import a_pool
from gangplan.types import Grant, Observation, Plan, Pool, PoolNode, PoolNodes
from tests.cluster.conftest import Space
from tests.cluster.servers import fleet
from tests.execute.planned import a_plan

Object = dict[str, Any]


def pool_of(name: str) -> Pool:
    """A pool of nodes with 8 GPUs."""
    return a_pool(name, gpus_per_node=8, max_nodes=8)


def plan_of(name: str, nodes: list[int]) -> Plan:
    """A plan of that pool from this hour on."""
    return a_plan(floor_hour(datetime.now(UTC)), {name: nodes}, [pool_of(name)])


def bring_nodes(space: Space, count: int) -> list[str]:
    """Make nodes of the test's pool, which KWOK plays."""
    made = [fleet.node(pool_of(space.name), index) for index in range(count)]
    return [space.make("/api/v1/nodes", one)["metadata"]["name"] for one in made]


def look(api: Api, name: str) -> tuple[Observation, tuple[Grant, ...]]:
    """What the cluster has of the pool, and what Kueue has admitted in the namespace of that name."""
    nodes = tuple(PoolNode(name=one.name, usable=one.ready) for one in read_nodes(api) if one.pool == name)
    claims = map(claim_from, api.items(f"{KUEUE}/namespaces/{name}/workloads"))
    grants = tuple(Grant(name=one.key, pool=name, slots=one.gpus) for one in claims if one.safe)
    return Observation(nodes=(PoolNodes(pool=name, ordered=len(nodes), nodes=nodes),)), grants
