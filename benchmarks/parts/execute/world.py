"""The cluster of the benchmarks: two pools of Karpenter, a cohort whose quota is their capacity, and queues on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.servers import fleet, karpenter
from tests.cluster.servers.cluster import Cluster, Options

from gangplan.types import Fleet, Pool, PoolKind

Object = dict[str, Any]

SPACE, COHORT = "bench", "bench"
DELAY_S = 2
"""From Karpenter's order of a machine until its node registers."""

START_MINUTES = 20.0
POOLS = tuple(
    Pool(
        name=name,
        accelerator=name,
        gpus_per_node=8,
        kind=PoolKind.ON_DEMAND,
        price_per_node_hour=price,
        max_nodes=most,
        lead_time_hours=1,
        startup_minutes_p50=START_MINUTES / 2,
        startup_minutes_p95=START_MINUTES,
    )
    for name, most, price in (("h100", 12, 55.04), ("a100", 8, 21.96))
)
FLEET = Fleet(pools=POOLS, nodes={pool.name: 0 for pool in POOLS})
GPUS = {pool.name: pool.gpus_per_node for pool in POOLS}
_TENANTS = ("vision", "language")
QUEUES = tuple(f"{pool.name}-{tenant}" for pool in POOLS for tenant in _TENANTS)


@contextmanager
def world(*, static: bool, quota: int = 0, delay_s: int = DELAY_S) -> Iterator[Cluster]:
    """Start the cluster with its pools and queues.

    Parameters
    ----------
    static
        NodePools with just the nodes that somebody orders, at first none. Otherwise Karpenter orders nodes by itself,
        for pods that wait, and ends them a while after they are empty.
    quota
        The cohort's GPUs of each pool in nodes; 0: none yet.
    """
    with Cluster(Options(karpenter=True)) as cluster:
        cluster.apply([*pools(static=static, delay_s=delay_s), fleet.namespace(SPACE), cohort(quota), *queues()])
        yield cluster


def pools(*, static: bool, delay_s: int) -> Iterator[Object]:
    """Yield Karpenter's pools and Kueue's flavors of them."""
    yield karpenter.node_class("bench", f"{delay_s}s")
    for pool in POOLS:
        made = karpenter.node_pool(
            pool.name,
            f"{pool.accelerator}-8",
            replicas=0 if static else None,
            most=pool.max_nodes if static else pool.max_nodes - 1,
            node_class="bench",
        )
        if not static:
            made["spec"]["disruption"] = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "5s"}
        yield made
        yield fleet.flavor(pool.name, pool.accelerator, topology="")


def cohort(nodes: int) -> Object:
    """Return the cohort, which has all quota."""
    quotas = {pool.name: min(nodes, pool.max_nodes) * pool.gpus_per_node for pool in POOLS}
    spec = fleet.cluster_queue("unused", quotas)["spec"]
    groups = {"resourceGroups": spec["resourceGroups"]}
    return {"apiVersion": fleet.KUEUE, "kind": "Cohort", "metadata": {"name": COHORT}, "spec": groups}


def queues() -> Iterator[Object]:
    """Yield the tenants' queues of each pool, without quota of their own."""
    for name in QUEUES:
        made = fleet.cluster_queue(name, {name.split("-")[0]: 0}, cohort=COHORT)
        for resource in made["spec"]["resourceGroups"][0]["flavors"][0]["resources"]:
            resource["nominalQuota"] = "0"
        yield made
        yield fleet.local_queue(SPACE, name, name)
