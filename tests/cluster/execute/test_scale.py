"""Whatever has a Scale, on the real API server: ordered with its version, removed by name where its kind can."""

from __future__ import annotations

from typing import Any

import pytest

from gangplan.errors import ConflictError, InputError, NotFoundError, RejectedError
from gangplan.execute.kubernetes import ClusterTarget, ScaledNodes
from gangplan.execute.kubernetes.scaling import Scaled
from gangplan.types import Pool, PoolNode, StepKind
from tests.cluster.conftest import until
from tests.cluster.execute.conftest import Field, a_step, nodes_of
from tests.cluster.servers.fleet import TOLERATION

Object = dict[str, Any]
APPS = "/apis/apps/v1/namespaces"
MACHINES = "cluster.x-k8s.io"


def workers(ground: Field, kind: str, replicas: int) -> tuple[Pool, ClusterTarget, str]:
    """Make a pool of pods that are nodes, each for work inside of it; KWOK plays them."""
    pool = ground.pool()
    ground.node(ground.pool("host"), 0)
    labels = {"app": pool.name}
    pods: Object = {"containers": [{"name": "main", "image": "worker"}], "tolerations": [TOLERATION]}
    body: Object = {
        "metadata": {"name": "workers"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pods},
        },
    }
    if kind == "statefulsets":
        body["spec"] |= {"serviceName": "workers", "podManagementPolicy": "Parallel"}
    path = f"{APPS}/{ground.space.name}/{kind}"
    ground.space.make(path, body)
    settings = ScaledNodes(resource=f"{kind}.apps", namespace=ground.space.name, name="workers")  # pyright: ignore
    target = ground.target(pool, nodes={pool.name: settings})
    until(lambda: sum(each.usable for each in nodes_of(target.observe(), pool).nodes) == replicas)
    return pool, target, f"{path}/workers"


@pytest.mark.parametrize("kind", ["deployments", "statefulsets"])
def test_more_are_ordered_once(ground: Field, kind: str) -> None:
    """From what the step was made from alone; a second time nothing is written, and a dry run writes nothing."""
    pool, target, path = workers(ground, kind, 1)
    order = a_step(StepKind.ORDER, pool, 1, 3)
    target.apply(order, dry_run=True)
    assert nodes_of(target.observe(), pool).ordered == 1
    target.apply(order)
    target.apply(order)
    with pytest.raises(ConflictError, match="3 nodes are ordered, not 1"):
        target.apply(a_step(StepKind.ORDER, pool, 1, 5))
    assert ground.space.api.get(path)["spec"]["replicas"] == 3


def test_a_deployment_loses_the_pods_that_are_named(ground: Field) -> None:
    """Neither the youngest nor the one it would have picked: the two that we have closed."""
    pool, target, _ = workers(ground, "deployments", 5)
    names = [each.name for each in nodes_of(target.observe(), pool).nodes]
    going = (names[0], names[3])
    target.apply(a_step(StepKind.CORDON, pool, 5, 3, nodes=going))
    assert {each.name for each in nodes_of(target.observe(), pool).nodes if each.cordoned_at} == set(going)
    target.apply(a_step(StepKind.REMOVE, pool, 5, 3, nodes=going))
    until(lambda: len(nodes_of(target.observe(), pool).nodes) == 3)
    assert {each.name for each in nodes_of(target.observe(), pool).nodes} == set(names) - set(going)


def test_a_statefulset_removes_its_highest_alone_and_says_so(ground: Field) -> None:
    """Others are refused, with the pod that would go in their place; of a mixed step the highest are removed."""
    pool, target, path = workers(ground, "statefulsets", 4)
    names = [each.name for each in nodes_of(target.observe(), pool).nodes]
    assert names == ["workers-3", "workers-2", "workers-1", "workers-0"]
    with pytest.raises(RejectedError, match="removes workers-3 first, which is not free: workers-0 must wait"):
        target.apply(a_step(StepKind.REMOVE, pool, 4, 3, nodes=("workers-0",)))
    target.apply(a_step(StepKind.REMOVE, pool, 4, 2, nodes=("workers-3", "workers-1")))
    until(lambda: len(nodes_of(target.observe(), pool).nodes) == 3)
    assert ground.space.api.get(path)["spec"]["replicas"] == 3


def test_a_machinedeployment_is_told_which_machines_to_delete(ground: Field) -> None:
    """Those of the step's nodes carry Cluster API's annotation before the number falls, and only when they are free."""
    definitions(ground)
    pool = ground.pool(nodes=3)
    names = [f"{pool.name}-{index}" for index in range(3)]
    base = f"/apis/{MACHINES}/v1beta2/namespaces/{ground.space.name}"
    body = {"apiVersion": f"{MACHINES}/v1beta2", "kind": "MachineDeployment", "metadata": {"name": "gpus"}}
    ground.space.make(f"{base}/machinedeployments", body | {"spec": {"replicas": 3}})
    for name in names:
        meta = {"name": f"m-{name}", "labels": {f"{MACHINES}/deployment-name": "gpus"}}
        machine = {"apiVersion": f"{MACHINES}/v1beta2", "kind": "Machine", "metadata": meta}
        ground.space.make(f"{base}/machines", machine)
        ground.space.api.merge(f"{base}/machines/m-{name}/status", {"status": {"nodeRef": {"name": name}}})
    settings = ScaledNodes(resource=f"machinedeployments.{MACHINES}", namespace=ground.space.name, name="gpus")
    target = ground.target(pool, nodes={pool.name: settings})
    assert nodes_of(target.observe(), pool).ordered == 3
    remove = a_step(StepKind.REMOVE, pool, 3, 2, nodes=(names[1],))
    with pytest.raises(ConflictError, match="is not cordoned by us any more"):
        target.apply(remove)
    target.apply(a_step(StepKind.CORDON, pool, 3, 2, nodes=(names[1],)))
    ground.pod("late", names[1])
    with pytest.raises(ConflictError, match="pod late is on it"):
        target.apply(remove)
    ground.space.api.delete(f"/api/v1/namespaces/{ground.space.name}/pods/late", gracePeriodSeconds=0)
    target.apply(remove)
    notes = {
        one["metadata"]["name"]: one["metadata"].get("annotations", {})
        for one in ground.space.api.items(f"{base}/machines")
    }
    assert [name for name in notes if f"{MACHINES}/delete-machine" in notes[name]] == [f"m-{names[1]}"]
    assert ground.space.api.get(f"{base}/machinedeployments/gpus")["spec"]["replicas"] == 2


def test_machines_without_a_node_go_where_an_order_is_withdrawn(ground: Field) -> None:
    """Cluster API is told to delete them first; where a node would have to go in their place, nothing is written."""
    definitions(ground)
    pool = ground.pool(nodes=1)
    base = f"/apis/{MACHINES}/v1beta2/namespaces/{ground.space.name}"
    body = {"apiVersion": f"{MACHINES}/v1beta2", "kind": "MachineDeployment", "metadata": {"name": "gpus"}}
    ground.space.make(f"{base}/machinedeployments", body | {"spec": {"replicas": 4}})
    for name in ("here", "coming", "late"):
        meta = {"name": name, "labels": {f"{MACHINES}/deployment-name": "gpus"}}
        machine = {"apiVersion": f"{MACHINES}/v1beta2", "kind": "Machine", "metadata": meta}
        ground.space.make(f"{base}/machines", machine)
    path = f"{base}/machines/here/status"
    ground.space.api.merge(path, {"status": {"nodeRef": {"name": f"{pool.name}-0"}}})
    settings = ScaledNodes(resource=f"machinedeployments.{MACHINES}", namespace=ground.space.name, name="gpus")
    target = ground.target(pool, nodes={pool.name: settings})
    with pytest.raises(ConflictError, match="others would be removed"):
        target.apply(a_step(StepKind.REMOVE, pool, 4, 0))
    target.apply(a_step(StepKind.REMOVE, pool, 4, 2))
    machines = ground.space.api.items(f"{base}/machines")
    marked = [one["metadata"]["name"] for one in machines if one["metadata"].get("annotations")]
    assert (len(marked), "here" in marked, nodes_of(target.observe(), pool).ordered) == (1, False, 2)


def test_a_statefulset_that_misses_one_in_its_middle_keeps_its_number(ground: Field) -> None:
    """It would remove the highest, which is there; the withdrawal waits for that reason."""
    pool, target, path = workers(ground, "statefulsets", 2)
    ground.space.api.merge(path, {"spec": {"replicas": 3, "template": {"spec": {"schedulingGates": [{"name": "no"}]}}}})
    until(lambda: len(nodes_of(target.observe(), pool).nodes) == 3)
    with pytest.raises(ConflictError, match="workers-2 came, and would be removed"):
        target.apply(a_step(StepKind.REMOVE, pool, 3, 2))
    assert nodes_of(target.observe(), pool).irrevocable == ""
    settings = ScaledNodes(resource="statefulsets.apps", namespace=ground.space.name, name="workers")
    gap = [PoolNode(name="workers-0"), PoolNode(name="workers-2")]
    assert Scaled(ground.space.api, settings).irrevocable(gap) == "the StatefulSet to make its pods in order"


def test_what_is_not_there_is_named(ground: Field) -> None:
    """By its resource, namespace and name, and by the check."""
    pool = ground.pool()
    settings = ScaledNodes(resource="deployments.apps", namespace=ground.space.name, name="nobody")
    target = ground.target(pool, nodes={pool.name: settings})
    with pytest.raises(InputError, match=r"deployments.apps .*/nobody' is not there"):
        target.observe()
    assert [each for each in target.check() if "nobody" in each and "is not there" in each]


def definitions(ground: Field) -> None:
    """Serve Cluster API's two kinds, as far as they matter here; nobody acts on them."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for kind in ("MachineDeployment", "Machine"):
        plural = f"{kind.lower()}s"
        scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version: Object = {"name": "v1beta2", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        version["subresources"] = {"status": {}, **({"scale": scale} if kind == "MachineDeployment" else {})}
        body = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{plural}.{MACHINES}",
                "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
            },
            "spec": {
                "group": MACHINES,
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
                "versions": [version],
            },
        }
        ground.space.api.apply(f"{path}/{plural}.{MACHINES}", body)
    for kind in ("machinedeployments", "machines"):
        until(lambda kind=kind: _served(ground, kind))


def _served(ground: Field, kind: str) -> bool:
    """Tell whether a kind of Cluster API is served."""
    try:
        found = ground.space.api.get(f"/apis/{MACHINES}/v1beta2")["resources"]
    except NotFoundError:
        return False
    return any(one["name"] == kind for one in found)
