"""A pool of a test's own on the cluster: its nodes as they come, what Kueue has admitted on it, and a plan for it."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from gangplan.clock import floor_hour
from gangplan.kube import KUEUE, Api, claim_from, connect, read_nodes
from gangplan.testing import a_plan, a_pool
from gangplan.types import Grant, Observation, Plan, Pool, PoolNode, PoolNodes
from tests.cluster.conftest import Space
from tests.cluster.servers import fleet

Object = dict[str, Any]


def pool_of(name: str) -> Pool:
    """A pool of nodes with 8 GPUs."""
    return a_pool(name, gpus_per_node=8, max_nodes=8)


def plan_of(name: str, nodes: list[int]) -> Plan:
    """A plan of that pool from this hour on; its last hour lasts two, so that a full hour may come meanwhile."""
    return a_plan(floor_hour(datetime.now(UTC)), {name: [*nodes, nodes[-1]]}, [pool_of(name)])


def bring_nodes(space: Space, count: int) -> list[str]:
    """Make nodes of the test's pool, which KWOK plays."""
    made = [fleet.node(pool_of(space.name), index) for index in range(count)]
    return [space.make("/api/v1/nodes", one)["metadata"]["name"] for one in made]


def look(api: Api, name: str) -> Observation:
    """What the cluster has of the pool, and what Kueue has admitted in the namespace of that name."""
    nodes = tuple(PoolNode(name=one.name, usable=one.ready) for one in read_nodes(api) if one.pool == name)
    claims = map(claim_from, api.items(f"{KUEUE}/namespaces/{name}/workloads"))
    grants = tuple(Grant(name=one.key, pool=name, slots=one.gpus) for one in claims if one.safe)
    return Observation(nodes=(PoolNodes(pool=name, ordered=len(nodes), nodes=nodes),), grants=grants)


def with_rights(space: Space, name: str, folder: Path) -> Api:
    """The cluster as an account sees it that has the rights of one of the controller's files, and no others."""
    text = (files("gangplan.kube") / "manifests" / "controller" / f"{name}.yaml").read_text()
    rbac, account = "/apis/rbac.authorization.k8s.io/v1", "gangplan-controller"
    accounts = f"/api/v1/namespaces/{space.name}/serviceaccounts"
    space.api.create(accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}})
    for item in yaml.safe_load_all(text.replace("namespace: gangplan", f"namespace: {space.name}")):
        whole = item["kind"].startswith("Cluster")
        if whole:
            item["metadata"]["name"] = f"{space.name}-{name}"
        if item["kind"] == "ClusterRoleBinding":
            item["roleRef"]["name"] = f"{space.name}-{name}"
        space.make(f"{rbac if whole else f'{rbac}/namespaces/{space.name}'}/{item['kind'].lower()}s", item)
    return connect(kubeconfig=str(space.log_in(account, folder / "kubeconfig")))
