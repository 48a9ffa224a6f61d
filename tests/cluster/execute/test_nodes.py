"""Nodes of a real cluster: who holds which, which can be used, and which we may close and open."""

from __future__ import annotations

import pytest

from gangplan.errors import ConflictError, InputError, RejectedError
from gangplan.execute.kubernetes import KueueQuota
from gangplan.kube import KUEUE, NODES
from gangplan.types import Observation, StepKind
from tests.cluster.conftest import until
from tests.cluster.execute.conftest import Field, a_step, nodes_of
from tests.cluster.objects import a_job, a_jobset, jobs, pod_spec


def slots_of(observed: Observation, pool: str) -> dict[str, tuple[int, dict[str, int]]]:
    """Return the grants of a pool: slots, and those on known nodes."""
    return {each.name: (each.slots, dict(each.nodes)) for each in observed.grants if each.pool == pool}


def test_a_pod_of_nobody_holds_its_node(ground: Field) -> None:
    """A bound pod without a Workload is a grant of its own; one that is over is none."""
    pool = ground.pool(nodes=2)
    target = ground.target(pool)
    pod = ground.pod("alone", f"{pool.name}-0", 4)
    seen = target.observe()
    assert slots_of(seen, pool.name) == {f"pod {pod}": (4, {f"{pool.name}-0": 4})}
    assert [each.name for each in nodes_of(seen, pool).nodes if each.usable] == [f"{pool.name}-0", f"{pool.name}-1"]
    ground.space.api.delete(f"/api/v1/namespaces/{ground.space.name}/pods/alone", gracePeriodSeconds=0)
    assert slots_of(target.observe(), pool.name) == {}


@pytest.mark.parametrize("topology", ["", "gangplan"])
def test_a_workloads_pods_count_once_with_it(ground: Field, topology: str) -> None:
    """Admitted, it is a grant whose nodes are known from its pods, or with a topology before there are any."""
    pool = ground.pool(nodes=2)
    flavor = ground.flavor(pool, topology=topology)
    queue = ground.space.queue({flavor: 16})
    target = ground.target(pool, quotas={pool.name: KueueQuota(queues={queue: 1})})
    ground.admitted("bare", 8)
    held = slots_of(target.observe(), pool.name)
    nodes = dict.fromkeys(("0", "1"), 8)
    assert held == {f"{ground.space.name}/bare": (8, held[f"{ground.space.name}/bare"][1])}
    assert len(held[f"{ground.space.name}/bare"][1]) == (1 if topology else 0)
    job = a_job(ground.space.name, "work", pods=1, gpus=8, how="hangs")
    job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "queue"}
    job["spec"]["suspend"] = True
    ground.space.api.create(jobs(ground.space.name), job)
    found = until(lambda: _placed(slots_of(target.observe(), pool.name), "job-work"))
    assert sum(slots for slots, _ in found.values()) == 16
    assert len(found) == len(nodes)


def _placed(held: dict[str, tuple[int, dict[str, int]]], part: str) -> dict[str, tuple[int, dict[str, int]]] | None:
    """Return the grants once the one of a name's part is on nodes."""
    return held if any(part in name and nodes for name, (_, nodes) in held.items()) else None


def test_a_jobsets_pods_count_once_with_it_too(ground: Field) -> None:
    """Its pods are owned by Jobs, and those by the JobSet: the Workload's name on them says whose they are."""
    pool = ground.pool(nodes=2)
    flavor = ground.flavor(pool, topology="gangplan")
    ground.space.queue({flavor: 16})
    target = ground.target(pool)
    body = a_jobset(ground.space.name, "set", workers=2, gpus=8)
    body["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "queue"}
    for each in body["spec"]["replicatedJobs"]:
        each["template"]["spec"]["template"]["metadata"]["annotations"] = {"gangplan.io/pod": "hangs"}
    ground.space.make(f"/apis/jobset.x-k8s.io/v1alpha2/namespaces/{ground.space.name}/jobsets", body)
    running = {"fieldSelector": "status.phase=Running"}
    pods = f"/api/v1/namespaces/{ground.space.name}/pods"
    until(lambda: len(list(ground.space.api.items(pods, **running))) == 3)
    held = slots_of(target.observe(), pool.name)
    assert [(slots, sum(nodes.values())) for slots, nodes in held.values()] == [(16, 16)]


def test_a_cordon_of_ours_is_told_from_anothers(ground: Field) -> None:
    """Ours has its moment and can be taken back; another's node is closed, and neither cordoned nor opened by us."""
    pool = ground.pool(nodes=2)
    ours, theirs = f"{pool.name}-0", f"{pool.name}-1"
    target = ground.target(pool)
    cordon = a_step(StepKind.CORDON, pool, 2, 1, nodes=(ours,))
    target.apply(cordon, dry_run=True)
    assert not any(each.cordoned_at for each in nodes_of(target.observe(), pool).nodes)
    target.apply(cordon)
    first = nodes_of(target.observe(), pool).nodes[0].cordoned_at
    target.apply(cordon)
    ground.space.api.merge(f"{NODES}/{theirs}", {"spec": {"unschedulable": True}})
    one, two = nodes_of(target.observe(), pool).nodes
    assert (one.cordoned_at, one.closed, two.cordoned_at, two.closed) == (first, False, None, True)
    with pytest.raises(RejectedError, match="somebody else has cordoned it"):
        target.apply(a_step(StepKind.CORDON, pool, 2, 1, nodes=(theirs,)))
    target.apply(a_step(StepKind.UNCORDON, pool, 0, 2, nodes=(ours, theirs)))
    one, two = nodes_of(target.observe(), pool).nodes
    assert (one.cordoned_at, one.closed, two.closed) == (None, False, True)
    with pytest.raises(ConflictError, match="is gone"):
        target.apply(a_step(StepKind.CORDON, pool, 2, 1, nodes=("no-such-node",)))


def test_a_node_without_all_its_accelerators_cannot_be_used_and_is_named(ground: Field) -> None:
    """Seven of eight GPUs are not what the plan counts; the check says so."""
    pool = ground.pool(nodes=1)
    path = f"{NODES}/{pool.name}-0"
    ground.space.api.merge(f"{path}/status", {"status": {"allocatable": {"nvidia.com/gpu": "7"}}})
    target = ground.target(pool)
    until(lambda: not nodes_of(target.observe(), pool).nodes[0].usable)
    assert [each for each in target.check() if "has 7 of the 8 slots" in each]


def test_what_nobody_orders_is_refused_and_a_wrong_pool_is_named(ground: Field) -> None:
    """Fixed nodes are neither ordered nor removed; a pool of elsewhere is no pool here."""
    pool, other = ground.pool(), ground.pool("b")
    target = ground.target(pool)
    for kind in (StepKind.ORDER, StepKind.REMOVE):
        with pytest.raises(RejectedError, match=r"are fixed in targets.yaml"):
            target.apply(a_step(kind, pool, 1, 2))
    with pytest.raises(InputError, match="is no pool of this cluster"):
        target.apply(a_step(StepKind.CORDON, other, 2, 1))


def test_a_watching_target_sees_the_same(ground: Field) -> None:
    """Its copies are kept by watches: a new node, pod and Workload are in them soon, without a list anew."""
    pool = ground.pool(nodes=1)
    flavor = ground.flavor(pool)
    queue = ground.space.queue({flavor: 16})
    quotas = {pool.name: KueueQuota(queues={queue: 1})}
    watching, listing = ground.target(pool, quotas=quotas, watched=True), ground.target(pool, quotas=quotas)
    assert watching.observe() == listing.observe()
    ground.node(pool, 1)
    ground.pod("alone", f"{pool.name}-1")
    ground.admitted("bare", 8)
    wanted = listing.observe()
    assert len(wanted.grants) == 2
    until(lambda: watching.observe() == wanted)
    ground.space.api.delete(f"{KUEUE}/namespaces/{ground.space.name}/workloads/bare")
    until(lambda: len(watching.observe().grants) == 1)


def test_accelerators_by_resource_claims_count(ground: Field) -> None:
    """A node's devices are its slots, and a pod that the scheduler gave two of them holds two."""
    base, space = "/apis/resource.k8s.io/v1", ground.space
    pool = ground.pool(nodes=1)
    node = f"{pool.name}-0"
    space.api.merge(f"{NODES}/{node}/status", {"status": {"allocatable": {"nvidia.com/gpu": None}}})
    devices = [{"name": f"gpu-{n}", "attributes": {"productName": {"string": "NVIDIA H100"}}} for n in range(8)]
    pool_of = {"name": node, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.nvidia.com", "nodeName": node, "pool": pool_of, "devices": devices}
    space.make(f"{base}/resourceslices", {"metadata": {"name": node}, "spec": spec})
    driver = {"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}
    space.make(f"{base}/deviceclasses", {"metadata": {"name": space.name}, "spec": {"selectors": [driver]}})
    request = {"name": "gpus", "exactly": {"deviceClassName": space.name, "count": 2}}
    claim = {"metadata": {"name": "two"}, "spec": {"devices": {"requests": [request]}}}
    space.make(f"{base}/namespaces/{space.name}/resourceclaims", claim)
    pod = pod_spec(0) | {"resourceClaims": [{"name": "gpus", "resourceClaimName": "two"}]}
    pod["nodeSelector"] = {"gangplan.io/pool": pool.name}
    pod["containers"][0]["resources"] = {"claims": [{"name": "gpus"}]}
    space.make(f"/api/v1/namespaces/{space.name}/pods", {"metadata": {"name": "work"}, "spec": pod})
    target = ground.target(pool)
    seen = until(lambda: (found := target.observe()).grants and found)
    assert slots_of(seen, pool.name) == {f"pod {space.name}/work": (2, {node: 2})}
    assert nodes_of(seen, pool).nodes[0].usable
