"""Pools of a test's own on the shared cluster: played nodes, a flavor, queues, and the cluster as their target."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gangplan.execute.kubernetes import ClusterTarget, FixedNodes, KueueQuota, NodeSettings, open_cluster
from gangplan.kube import KUEUE, NODES, Api, whole
from gangplan.types import Fleet, Observation, Pool, PoolKind, PoolNodes, Quota, Step, StepKind
from tests.cluster.conftest import Space, until
from tests.cluster.execute import kinds
from tests.cluster.objects import bare, condition, pod_spec
from tests.cluster.servers import fleet

Object = dict[str, Any]


@dataclass
class Field:
    """A test's pools, their objects on the cluster, and the targets that were opened on them."""

    space: Space
    targets: list[ClusterTarget] = field(default_factory=list[ClusterTarget])

    def name(self, pool: str) -> str:
        """Return the name of one of the test's pools."""
        return f"{self.space.name}-{pool}"

    def pool(self, pool: str = "a", *, nodes: int = 0, most: int = 20) -> Pool:
        """Make a pool with so many played nodes of 8 GPUs."""
        made = Pool(
            name=self.name(pool),
            accelerator="h100",
            gpus_per_node=8,
            kind=PoolKind.OWNED,
            price_per_node_hour=0.0,
            max_nodes=most,
        )
        for index in range(nodes):
            self.node(made, index)
        return made

    def node(self, pool: Pool, index: int, **labels: str) -> str:
        """Add a played node to a pool, and wait until it is Ready."""
        body = fleet.node(pool, index)
        body["metadata"]["labels"] |= labels
        self.space.make(NODES, body)
        path = f"{NODES}/{body['metadata']['name']}"
        until(lambda: condition(self.space.api.get(path), "Ready") == "True", why=f"{path} is not Ready")
        return str(body["metadata"]["name"])

    def flavor(self, pool: Pool, name: str = "", *, topology: str = "") -> str:
        """Make the flavor of a pool."""
        name = name or pool.name
        self.space.make(f"{KUEUE}/resourceflavors", fleet.flavor(pool.name, "h100", name=name, topology=topology))
        return name

    def cohort(self, name: str, quotas: dict[str, int], **spec: Any) -> str:
        """Make a Cohort with quotas of its own."""
        name = f"{self.space.name}-{name}"
        spec["resourceGroups"] = fleet.cluster_queue("", quotas)["spec"]["resourceGroups"] if quotas else []
        body = {"apiVersion": fleet.KUEUE, "kind": "Cohort", "metadata": {"name": name}, "spec": spec}
        self.space.make(f"{KUEUE}/cohorts", body)
        return name

    def target(
        self,
        *pools: Pool,
        quotas: Mapping[str, KueueQuota] | None = None,
        nodes: Mapping[str, NodeSettings] | None = None,
        **how: Any,
    ) -> ClusterTarget:
        """Open the cluster as the pools' target."""
        settings = {pool.name: FixedNodes() for pool in pools} if nodes is None else nodes
        how = {"api": self.space.api, "clock": self.space.clock, **how}
        made = open_cluster(settings, quotas or {}, Fleet(pools=pools), **how)
        self.targets.append(made)
        return made

    def admitted(self, name: str, gpus: int, *, queue: str = "queue") -> None:
        """Submit a bare Workload, and wait until it is admitted."""
        path = f"{KUEUE}/namespaces/{self.space.name}/workloads"
        self.space.api.create(path, bare(self.space.name, name, gpus, queue=queue))
        until(lambda: condition(self.space.api.get(f"{path}/{name}"), "Admitted") == "True", why=f"{name} waits")

    def pod(self, name: str, node: str, gpus: int = 8, **labels: str) -> str:
        """Make a pod that runs on a node until it is deleted."""
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod_spec(gpus)}
        body["spec"]["nodeName"] = node
        self.space.make(f"/api/v1/namespaces/{self.space.name}/pods", body)
        return f"{self.space.name}/{name}"

    def nominal(self, kind: str, name: str) -> list[int]:
        """Return the nominal quotas of an object as they stand, of all flavors and resources but memory."""
        groups = self.space.api.get(f"{KUEUE}/{kind}/{name}")["spec"]["resourceGroups"]
        cells = [one for group in groups for each in group["flavors"] for one in each["resources"]]
        return [whole(one["nominalQuota"]) for one in cells if one["name"] != "memory"]

    def clear(self) -> None:
        """End the targets."""
        for target in self.targets:
            target.close()


@pytest.fixture
def ground(space: Space) -> Iterator[Field]:
    """Pools of the test's own; none yet."""
    made = Field(space)
    yield made
    made.clear()


def quota_of(observed: Observation, place: str) -> Quota:
    """Return the quota of one place."""
    return next(each for each in observed.quotas if each.place == place)


def nodes_of(observed: Observation, pool: Pool) -> PoolNodes:
    """Return the nodes of one pool."""
    return next(each for each in observed.nodes if each.pool == pool.name)


def a_step(kind: StepKind, pool: Pool, before: int, after: int, place: str = "", nodes: tuple[str, ...] = ()) -> Step:
    """Return a step."""
    return Step(kind=kind, pool=pool.name, before=before, after=after, why="a test", place=place, nodes=nodes)


@pytest.fixture(scope="module")
def served(api: Api) -> None:
    """The kinds of KEDA, KServe and CapacityBuffer."""
    if os.environ.get("KUBECONFIG") and not kinds.served(api):
        pytest.skip("the cluster of KUBECONFIG lacks KEDA, KServe or CapacityBuffer")
    kinds.serve(api)
    until(lambda: kinds.served(api))
