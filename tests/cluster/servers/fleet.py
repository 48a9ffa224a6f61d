"""A fleet file's nodes as Node objects, its pools as Kueue flavors, and queues over them for two tenants."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gangplan.config import read_fleet
from gangplan.types import Fleet, Pool, PoolKind

Object = dict[str, Any]

KUEUE = "kueue.x-k8s.io/v1beta2"
GPU = "nvidia.com/gpu"
POOL, RACK, HOST = "gangplan.io/pool", "gangplan.io/rack", "kubernetes.io/hostname"
TENANTS = ("vision", "language")
QUEUE = "gangplan"
"""The LocalQueue in each tenant's namespace."""

DEFAULT = Fleet(
    pools=(
        Pool(
            name="h100-owned",
            accelerator="h100",
            gpus_per_node=8,
            kind=PoolKind.OWNED,
            price_per_node_hour=0.0,
            max_nodes=8,
            nodes_per_rack=4,
        ),
    ),
    nodes={"h100-owned": 8},
)
REAL = Pool(
    name="real",
    accelerator="h100",
    gpus_per_node=8,
    kind=PoolKind.OWNED,
    price_per_node_hour=0.0,
    max_nodes=15,
    nodes_per_rack=4,
)
"""The nodes that run their pods; their GPUs are only counted."""

TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
REAL_TAINT = {"key": "gangplan.io/real", "value": "present", "effect": "NoSchedule"}
REAL_TOLERATION = {"key": "gangplan.io/real", "operator": "Exists", "effect": "NoSchedule"}
"""Beside the other: a pod that is meant to be played never comes to a real node."""


def read(path: str) -> Fleet:
    """Read the fleet of a file: a fleet file of gangplan, or the node table of the openb trace (sn, gpu, model)."""
    if not path:
        return DEFAULT
    return _from_nodes(Path(path)) if path.endswith(".csv") else read_fleet(Path(path))


def with_real(fleet: Fleet, nodes: int) -> Fleet:
    """Return the fleet with so many real nodes beside its own."""
    return replace(fleet, pools=(*fleet.pools, REAL), nodes={**fleet.nodes, REAL.name: nodes}) if nodes else fleet


def _from_nodes(path: Path) -> Fleet:
    """Count a table's nodes by GPU model and number of GPUs; nodes without GPUs are left out."""
    counts: dict[tuple[str, int], int] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            if int(row["gpu"]):
                kind = (row["model"].lower(), int(row["gpu"]))
                counts[kind] = counts.get(kind, 0) + 1
    pools = tuple(
        Pool(
            name=f"{model}-{gpus}",
            accelerator=model,
            gpus_per_node=gpus,
            kind=PoolKind.OWNED,
            price_per_node_hour=0.0,
            max_nodes=count,
        )
        for (model, gpus), count in sorted(counts.items())
    )
    return Fleet(pools=pools, nodes={pool.name: pool.max_nodes for pool in pools})


def nodes(fleet: Fleet) -> Iterator[Object]:
    """Yield the nodes that the fleet runs now and that are played, labelled as the GPU operator does."""
    for pool in fleet.pools:
        if pool == REAL:
            continue
        for index in range(fleet.nodes.get(pool.name, pool.max_nodes)):
            yield node(pool, index)


def node(pool: Pool, index: int) -> Object:
    """Return one node of a pool, in its rack."""
    name = f"{pool.name}-{index}"
    has = {"cpu": "128", "memory": "1Ti", "pods": "110", GPU: str(pool.gpus_per_node)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {**labels(pool, index), HOST: name},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [TAINT]},
        "status": {"allocatable": has, "capacity": has},
    }


def labels(pool: Pool, index: int) -> dict[str, str]:
    """Return what a node of a pool says of itself, but for its name."""
    return {
        POOL: pool.name,
        RACK: f"{pool.name}-rack-{index // pool.nodes_per_rack}",
        "topology.kubernetes.io/zone": pool.zone,
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": f"NVIDIA-{pool.accelerator.upper()}",
        "nvidia.com/gpu.count": str(pool.gpus_per_node),
    }


def topology() -> Object:
    """Return the levels that nodes stand at: rack and node."""
    levels = [{"nodeLabel": RACK}, {"nodeLabel": HOST}]
    return {
        "apiVersion": KUEUE,
        "kind": "Topology",
        "metadata": {"name": "gangplan"},
        "spec": {"levels": levels},
    }


def flavor(pool: str, accelerator: str, *, name: str = "", topology: str = "gangplan") -> Object:
    """Return the flavor of a pool's nodes; without a topology Kueue counts GPUs and names no node."""
    labels = {POOL: pool, "nvidia.com/gpu.product": f"NVIDIA-{accelerator.upper()}"}
    tolerations = [TOLERATION, REAL_TOLERATION] if pool == REAL.name else [TOLERATION]
    spec: Object = {"nodeLabels": labels, "tolerations": tolerations}
    if topology:
        spec["topologyName"] = topology
    return {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": name or pool}, "spec": spec}


def cluster_queue(
    name: str,
    quotas: dict[str, int],
    *,
    cohort: str = "",
    preempts: bool = False,
    borrows: int | None = None,
    lends: int | None = None,
) -> Object:
    """Return a ClusterQueue with so many GPUs of each flavor, and no limit that matters on what else pods ask for."""
    limits = {"borrowingLimit": borrows, "lendingLimit": lends}
    flavors = [
        {
            "name": flavor,
            "resources": [
                {
                    "name": GPU,
                    "nominalQuota": gpus,
                    **{limit: value for limit, value in limits.items() if value is not None},
                },
                {"name": "cpu", "nominalQuota": 100_000},
                {"name": "memory", "nominalQuota": "1Pi"},
            ],
        }
        for flavor, gpus in quotas.items()
    ]
    spec: Object = {
        "namespaceSelector": {},
        "resourceGroups": [{"coveredResources": [GPU, "cpu", "memory"], "flavors": flavors}],
    }
    if cohort:
        spec["cohortName"] = cohort
    if preempts:
        reclaim = {"reclaimWithinCohort": "Any"} if cohort else {}
        spec["preemption"] = {"withinClusterQueue": "LowerPriority", **reclaim}
    return {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec}


def local_queue(namespace: str, name: str, cluster_queue: str) -> Object:
    """Return the LocalQueue by which a namespace uses a ClusterQueue."""
    return {
        "apiVersion": KUEUE,
        "kind": "LocalQueue",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterQueue": cluster_queue},
    }


def namespace(name: str) -> Object:
    """Return a namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def queues(fleet: Fleet) -> list[Object]:
    """Return the flavors, and for each tenant a namespace and a queue with half of every pool, in one cohort."""
    objects = [topology(), *(flavor(pool.name, pool.accelerator) for pool in fleet.pools)]
    for place, tenant in enumerate(TENANTS):
        quotas: dict[str, int] = {}
        for pool in fleet.pools:
            gpus = fleet.nodes.get(pool.name, pool.max_nodes) * pool.gpus_per_node
            quotas[pool.name] = gpus // 2 + (gpus % 2 if place == 0 else 0)
        objects += [
            namespace(tenant),
            cluster_queue(tenant, quotas, cohort="gangplan"),
            local_queue(tenant, QUEUE, tenant),
        ]
    return objects
