"""What is read of a cluster's objects, and what pools, grants and quotas they make: pure functions of a snapshot."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, strategies as st

from gangplan.errors import ConflictError, InputError
from gangplan.execute.kubernetes.flavors import flavor_of, resource_of
from gangplan.execute.kubernetes.grants import grants_in
from gangplan.execute.kubernetes.own_writes import OwnWrites
from gangplan.execute.kubernetes.quota_steps import write_quota
from gangplan.execute.kubernetes.quotas import Quotas
from gangplan.execute.kubernetes.seen import (
    Cell,
    Given,
    SeenClaim,
    SeenNode,
    SeenNodePool,
    SeenPlace,
    SeenPod,
    SeenWorkload,
    holds_its_node,
    seen_claim,
    seen_cohort,
    seen_node,
    seen_nodeclaim,
    seen_nodepool,
    seen_pod,
    seen_queue,
    seen_slice,
    seen_workload,
)
from gangplan.execute.kubernetes.settings import FixedNodes, KarpenterNodes, KueueQuota, ScaledNodes
from gangplan.execute.kubernetes.snapshot import Pools, Reading, Snapshot
from gangplan.kube import Api
from gangplan.types import Fleet, Pool, PoolKind, Step, StepKind

Object = dict[str, Any]
GPU = "nvidia.com/gpu"


def a_pool(name: str, **fields: Any) -> Pool:
    """Return a pool of nodes with 8 GPUs."""
    given = {"accelerator": "h100", "gpus_per_node": 8, "kind": PoolKind.OWNED, "price_per_node_hour": 0.0}
    return Pool(name=name, max_nodes=9, **given | fields)


def a_reading(*pools: str, quotas: dict[str, KueueQuota] | None = None, **there: Any) -> Reading:
    """Return a snapshot with some pools in mind."""
    fleet = Fleet(pools=tuple(a_pool(name) for name in pools))
    settings = {name: FixedNodes() for name in pools}
    return Reading(pools=Pools(nodes=settings, quotas=quotas or {}, fleet=fleet), snapshot=Snapshot(**there))


def nodes_in(pool: str, count: int = 2, **labels: str) -> dict[str, SeenNode]:
    """Return nodes of a pool."""
    names = [f"{pool}-{index}" for index in range(count)]
    return {name: SeenNode(name=name, slots=8, labels={"gangplan.io/pool": pool, **labels}) for name in names}


def a_place(
    kind: str, name: str, slots: int | None, *, parent: str = "", flavor: str = "f", used: int = 0
) -> SeenPlace:
    """Return a queue or cohort with a quota of one flavor."""
    cell = Cell(slots=slots or 0, raw=str(slots), path="/spec", index=0)
    cells = {} if slots is None else {(flavor, GPU): cell}
    return SeenPlace(kind=kind, name=name, parent=parent, cells=cells, reserved={(flavor, GPU): used})


# ---------------------------------------------------------------- objects


def a_node(**changes: Any) -> Object:
    """Return a node of Karpenter's with 8 GPUs that is done."""
    labels = {"karpenter.sh/nodepool": "np", "karpenter.sh/initialized": "true"}
    status = {"allocatable": {GPU: "8"}, "conditions": [{"type": "Ready", "status": "True"}]}
    node: Object = {"metadata": {"name": "n", "labels": labels}, "spec": {}, "status": status}
    return {part: {**node[part], **changes.get(part, {})} for part in node}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, {"ready": True, "new": False, "leaving": False, "unschedulable": False}),
        ({"spec": {"taints": [{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}]}}, {"new": True}),
        ({"metadata": {"labels": {"karpenter.sh/nodepool": "np"}}}, {"new": True}),
        ({"spec": {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}}, {"leaving": True}),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, {"leaving": True}),
        ({"status": {"conditions": []}}, {"ready": False}),
        ({"status": {}}, {"slots": 8}),
    ],
)
def test_a_node_says_whether_pods_can_run_on_it(changes: Object, wanted: Object) -> None:
    """Ready is not enough: Karpenter's taints and its label count, and an end that is under way."""
    found = seen_node(a_node(**changes))
    assert found is not None
    assert {name: getattr(found, name) for name in wanted} == wanted


def test_a_node_of_a_pool_is_kept_before_its_accelerators_are_there() -> None:
    """Without slots, so that it cannot be used yet; a node that is of no pool and has none is left out."""
    bare: Object = {"metadata": {"name": "n", "labels": {"gangplan.io/pool": "a"}}, "spec": {}, "status": {}}
    found = seen_node(bare)
    assert found is not None
    assert (found.slots, found.pool) == (0, "a")
    assert seen_node({**bare, "metadata": {"name": "n"}}) is None


@pytest.mark.parametrize(
    ("spec", "note", "moment"),
    [
        ({"unschedulable": True}, "2026-01-02T03:04:05+00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ({"unschedulable": True}, "2026-01-02T03:04:05", None),
        ({"unschedulable": True}, "yesterday", None),
        ({}, "2026-01-02T03:04:05+00:00", None),
    ],
)
def test_a_cordon_is_ours_with_a_moment_of_ours(spec: Object, note: str, moment: datetime | None) -> None:
    """Of a node that is open, and of words that are no moment, nothing is ours."""
    meta = {"name": "n", "labels": {"gangplan.io/pool": "a"}, "annotations": {"gangplan.io/cordoned-at": note}}
    found = seen_node({"metadata": meta, "spec": spec, "status": {}})
    assert found is not None
    assert found.cordoned_at == moment


def a_pod(asks: Object, **changes: Any) -> Object:
    """Return a pod on a node."""
    containers = [{"name": "main", "resources": {"limits": asks}}]
    meta = {"name": "p", "namespace": "ns", "uid": "u", **changes.get("metadata", {})}
    spec = {"nodeName": "n", "containers": containers, **changes.get("spec", {})}
    return {"metadata": meta, "spec": spec, "status": changes.get("status", {"phase": "Running"})}


def test_a_pod_holds_what_it_asks_for_while_it_is_on_a_node() -> None:
    """With its Workload and its protection; one that is over, on no node or without accelerators holds nothing."""
    notes = {"kueue.x-k8s.io/workload": "w", "karpenter.sh/do-not-disrupt": "true"}
    assert seen_pod(a_pod({GPU: "4"}, metadata={"annotations": notes})) == SeenPod(
        node="n", slots=4, workload="ns/w", owners=("u",), protected=True
    )
    claims = seen_pod(a_pod({}, spec={"resourceClaims": [{"name": "gpu"}]}))
    assert claims is not None
    assert claims.slots == 0
    for nothing in (a_pod({}), a_pod({GPU: "4"}, spec={"nodeName": ""}), a_pod({GPU: "4"}, status={"phase": "Failed"})):
        assert seen_pod(nothing) is None


@pytest.mark.parametrize(
    ("pod", "holds"),
    [
        (a_pod({GPU: "1"}), True),
        (a_pod({}), False),
        (a_pod({}, metadata={"annotations": {"kueue.x-k8s.io/workload": "w"}}), True),
        (a_pod({}, metadata={"annotations": {"karpenter.sh/do-not-disrupt": "true"}}), True),
        (a_pod({GPU: "1"}, metadata={"labels": {"gangplan.io/placeholder": "p"}}), False),
        (a_pod({GPU: "1"}, status={"phase": "Succeeded"}), False),
    ],
)
def test_a_node_may_not_be_removed_under_some_pods(pod: Object, holds: bool) -> None:
    """A gang's driver without accelerators is one of them; a placeholder and what is over are not."""
    assert holds_its_node(pod) is holds


def test_a_workload_holds_quota_until_it_is_finished() -> None:
    """With the nodes that its topology names, whose pods have so many slots each."""
    topology = {"slices": [{"domainCount": 1, "valuesPerLevel": [{"universal": "h1"}], "podCounts": {"universal": 2}}]}
    share = {"name": "main", "flavors": {GPU: "f"}, "resourceUsage": {GPU: "16"}, "count": 2}
    mark = {"status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "r"}
    template = {"spec": {"containers": [{"name": "main", "resources": {"requests": {GPU: "8"}}}]}}
    body: Object = {
        "metadata": {"name": "w", "namespace": "ns", "ownerReferences": [{"uid": "o", "kind": "Job", "name": "j"}]},
        "spec": {
            "podSets": [{"name": "main", "count": 2, "template": template}],
            "maximumExecutionTimeSeconds": 60,
        },
        "status": {
            "admission": {"clusterQueue": "q", "podSetAssignments": [{**share, "topologyAssignment": topology}]},
            "conditions": [{"type": name, **mark} for name in ("QuotaReserved", "Admitted")],
        },
    }
    assert seen_workload(body) == SeenWorkload(
        queue="q",
        given=(Given(flavor="f", slots=16, nodes=(("h1", 16),)),),
        owners=("o",),
        until=datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
    )
    reserved, _ = body["status"]["conditions"]
    body["status"]["reclaimablePods"] = [{"name": "main", "count": 1}]
    left = seen_workload(body)
    assert left is not None
    assert [given.slots for given in left.given] == [8]
    body["status"]["conditions"].append({"type": "Finished", **mark})
    assert seen_workload(body) is None
    body["status"]["conditions"] = [reserved]  # its admission check is pending: no nodes are ordered for it
    assert seen_workload(body) is None


def test_a_quota_is_read_with_its_place_and_its_owner() -> None:
    """Of accelerators alone; a person with kubectl and we ourselves own nothing, and nobody owns a status."""
    cells = [{"name": "cpu", "nominalQuota": 100}, {"name": GPU, "nominalQuota": "1k"}]
    flavors = [{"name": "x", "resources": cells[:1]}, {"name": "f", "resources": cells}]
    fields = {"f:spec": {"f:resourceGroups": {}}}
    managers = ["kubectl-edit", "gangplan-execute", "flux"]
    item: Object = {
        "metadata": {"name": "q", "managedFields": [{"manager": name, "fieldsV1": fields} for name in managers]},
        "spec": {"cohortName": "c", "resourceGroups": [{"flavors": []}, {"flavors": flavors}]},
        "status": {"conditions": [{"type": "Active", "status": "False", "message": "FlavorNotFound"}]},
    }
    found = seen_queue(item)
    cell = Cell(slots=1000, raw="1k", path="/spec/resourceGroups/1/flavors/1", index=1)
    assert (found.cells, found.parent, found.owner, found.trouble) == (
        {("f", GPU): cell},
        "c",
        "flux",
        "FlavorNotFound",
    )
    item["metadata"]["managedFields"] = item["metadata"]["managedFields"][:2]
    assert seen_cohort(item).owner == ""


def test_a_quota_tells_when_somebody_last_wrote_it() -> None:
    """The latest of all managers, but for Kueue's writes of its status."""
    times = [("kubectl", "01", {}), ("gangplan-execute", "02", {}), ("kueue", "03", {"subresource": "status"})]
    marks = [{"manager": name, "time": f"2026-01-01T00:00:{at}Z", **more} for name, at, more in times]
    item: Object = {"metadata": {"name": "q", "managedFields": marks}, "spec": {}}
    assert seen_queue(item).changed_at == datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert seen_cohort({"metadata": {"name": "c"}}).changed_at is None


def test_a_nodeclaim_that_boots_is_no_trouble() -> None:
    """What every NodeClaim goes through is not told; a launch that failed is, in Karpenter's words."""

    def claim(kind: str, reason: str) -> Object:
        marks = [{"type": kind, "status": "Unknown", "reason": reason, "message": "words"}]
        return {"metadata": {"name": "c", "uid": "u", "labels": {}}, "status": {"conditions": marks}}

    assert seen_nodeclaim(claim("Registered", "NodeNotFound")).trouble == ""
    assert seen_nodeclaim(claim("Launched", "AwaitingReconciliation")).trouble == ""
    assert seen_nodeclaim(claim("Launched", "LaunchFailed")).trouble == "Launched: LaunchFailed: words"


def test_a_nodepool_that_karpenter_has_not_looked_at_since_is_told() -> None:
    """By the generation that its validation has seen."""
    mark = {"type": "ValidationSucceeded", "status": "True", "observedGeneration": 2}
    item: Object = {
        "metadata": {"name": "np", "generation": 3},
        "spec": {"replicas": 2, "limits": {"nodes": "5"}, "template": {"spec": {}}},
        "status": {"conditions": [mark]},
    }
    found = seen_nodepool(item)
    assert (found.observed, found.replicas, found.limit, found.expires) == (False, 2, 5, "720h")
    mark["observedGeneration"] = 3
    assert seen_nodepool(item).observed


# ---------------------------------------------------------------- grants


def test_pods_count_with_their_workload_by_any_of_three_ways() -> None:
    """Its name on the pod, the group's name, or the owner that both have; others are grants of their own."""
    pods = {
        "ns/a": SeenPod(node="p-0", slots=4, workload="ns/w"),
        "ns/b": SeenPod(node="p-1", slots=2, owners=("job",)),
        "ns/c": SeenPod(node="p-1", slots=1, workload="ns/gone"),
        "ns/d": SeenPod(node="elsewhere", slots=8),
    }
    workloads = {"ns/w": SeenWorkload(queue="q", given=(Given(flavor="f", slots=8),), owners=("job",))}
    flavors = {"f": {"gangplan.io/pool": "p"}}
    found = grants_in(a_reading("p", pods=pods, workloads=workloads, flavors=flavors, nodes=nodes_in("p")))
    assert [(each.name, each.slots, dict(each.nodes)) for each in found] == [
        ("ns/w", 8, {"p-0": 4, "p-1": 2}),
        ("pod ns/c", 1, {"p-1": 1}),
    ]


def test_a_workload_of_two_pools_has_a_grant_on_each() -> None:
    """With the nodes that its topology names by their host names, before it has pods."""
    nodes = nodes_in("p") | nodes_in("r", 1, **{"kubernetes.io/hostname": "host"})
    given = (Given(flavor="fp", slots=8), Given(flavor="fr", slots=8, nodes=(("host", 8),)))
    flavors = {"fp": {"gangplan.io/pool": "p"}, "fr": {"gangplan.io/pool": "r"}}
    workloads = {"ns/w": SeenWorkload(queue="q", given=given)}
    found = grants_in(a_reading("p", "r", workloads=workloads, flavors=flavors, nodes=nodes))
    assert {(each.pool, each.slots, tuple(each.nodes.items())) for each in found} == {
        ("p", 8, ()),
        ("r", 8, (("r-0", 8),)),
    }


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8), st.sampled_from(["", "ns/w", "ns/v"])), max_size=12))
def test_no_slot_of_a_pod_is_lost_or_counted_twice(placed: list[tuple[int, int, str]]) -> None:
    """Whatever pods there are: what the grants hold on known nodes is what the pods hold there."""
    pods = {f"ns/{n}": SeenPod(node=f"p-{on}", slots=slots, workload=w) for n, (on, slots, w) in enumerate(placed)}
    workloads = {name: SeenWorkload(queue="q", given=(Given(flavor="f", slots=4),)) for name in ("ns/w", "ns/v")}
    flavors = {"f": {"gangplan.io/pool": "p"}}
    reading = a_reading("p", pods=pods, workloads=workloads, flavors=flavors, nodes=nodes_in("p", 4))
    held: dict[str, int] = {}
    for grant in grants_in(reading):
        assert grant.slots >= sum(grant.nodes.values())
        for node, slots in grant.nodes.items():
            held[node] = held.get(node, 0) + slots
    wanted: dict[str, int] = {}
    for pod in pods.values():
        wanted[pod.node] = wanted.get(pod.node, 0) + pod.slots
    assert held == wanted


def test_devices_by_claims_are_held_by_the_first_pod_that_shares_them() -> None:
    """The others hold their node with one slot; a node's slots are its driver's devices where it has no plugin."""
    device = {"attributes": {"productName": {"string": "NVIDIA H100"}}}
    spec = {"driver": "gpu.nvidia.com", "nodeName": "p-0", "pool": {"name": "p-0"}}
    devices = [{"name": f"gpu-{index}", **device} for index in range(8)]
    slices = {"s": seen_slice({"metadata": {"name": "s"}, "spec": {**spec, "devices": devices}})}
    results = [{"driver": "gpu.nvidia.com", "pool": "p-0", "device": f"gpu-{index}"} for index in range(2)]
    users = [{"resource": "pods", "name": name, "uid": name} for name in ("a", "b")]
    status = {"allocation": {"devices": {"results": results}}, "reservedFor": users}
    claim = seen_claim({"metadata": {"name": "c", "namespace": "ns"}, "status": status})
    assert claim == SeenClaim(pods=("ns/a", "ns/b"), devices=2)
    pods = {f"ns/{name}": SeenPod(node="p-0", slots=0) for name in ("a", "b")}
    node = SeenNode(name="p-0", labels={"gangplan.io/pool": "p"})
    reading = a_reading("p", nodes={"p-0": node}, slices=slices, resource_claims={"c": claim}, pods=pods)
    assert reading.slots_of(node) == 8
    assert {each.name: each.slots for each in grants_in(reading)} == {"pod ns/a": 2, "pod ns/b": 1}


# ---------------------------------------------------------------- quotas and flavors


def test_a_cohorts_place_has_what_all_beneath_it_have() -> None:
    """Cohorts in cohorts, too; what is used is Kueue's number, or that of its Workloads where it is behind."""
    cohorts = {
        "c": a_place("Cohort", "c", 8, parent="top"),
        "sub": a_place("Cohort", "sub", 4, parent="c"),
        "top": a_place("Cohort", "top", None),
    }
    queues = {
        "q": a_place("ClusterQueue", "q", 2, parent="sub", used=3),
        "r": a_place("ClusterQueue", "r", None, parent="c", used=9),
    }
    workloads = {"ns/w": SeenWorkload(queue="q", given=(Given(flavor="f", slots=5),))}
    there = {"cohorts": cohorts, "queues": queues, "flavors": {"f": {}}, "workloads": workloads}
    (found,) = Quotas(a_reading("p", quotas={"p": KueueQuota(cohort="c")}, **there)).as_values("p")
    assert (found.place, found.group, found.slots, found.used) == ("Cohort/c", "Cohort/top", 14, 14)


def test_a_raise_waits_until_kueue_has_seen_what_was_lowered_elsewhere() -> None:
    """Till then Kueue may grant those slots in the other queue; a place's own raise does not wait for itself."""
    queues = {name: a_place("ClusterQueue", name, 8) for name in ("q", "r")}
    queues["q"] = replace(queues["q"], observed=False)
    settings = {"p": KueueQuota(queues={"q": 1, "r": 1})}
    quotas = Quotas(a_reading("p", quotas=settings, queues=queues, flavors={"f": {}}))
    nowhere = Api(None, "", dict, shown="nowhere")
    step = Step(kind=StepKind.RAISE_QUOTA, pool="p", before=8, after=16, why="", place="ClusterQueue/r")
    with pytest.raises(ConflictError, match="Kueue has not seen the quota of ClusterQueue/q"):
        write_quota(nowhere, quotas, step, OwnWrites(), take_over=False, dry_run=False)
    mark = {"type": "Active", "status": "True", "observedGeneration": 1}
    item: Object = {"metadata": {"name": "q", "generation": 2}, "spec": {}, "status": {"conditions": [mark]}}
    assert not seen_queue(item).observed
    mark["observedGeneration"] = 2
    assert seen_queue(item).observed


def test_a_raise_of_our_own_holds_up_no_other() -> None:
    """What Kueue does not know of a raise it does not grant; of what was lowered meanwhile it might."""
    place = replace(a_place("ClusterQueue", "q", 8), generation=4)
    raising = Step(kind=StepKind.RAISE_QUOTA, pool="p", before=8, after=9, why="", place=place.shown)
    lowering = replace(raising, kind=StepKind.LOWER_QUOTA, after=7)
    after = replace(place, observed=False, generation=5)
    own = OwnWrites()
    own.wrote(place, raising, 9, generation=5)
    assert own.is_known(after)
    assert not own.is_known(replace(after, generation=6))  # somebody else has written since
    own.wrote(after, lowering, 7, generation=6)
    assert not own.is_known(replace(after, generation=6))
    own.wrote(replace(after, generation=6), raising, 9, generation=7)
    assert not own.is_known(replace(after, generation=7))  # Kueue may still grant what was lowered before


def test_a_circle_of_cohorts_ends() -> None:
    """Kueue makes such cohorts inactive; reading them must not hang."""
    cohorts = {"a": a_place("Cohort", "a", 1, parent="b"), "b": a_place("Cohort", "b", 2, parent="a")}
    reading = a_reading("p", quotas={"p": KueueQuota(cohort="a")}, cohorts=cohorts, flavors={"f": {}})
    assert [each.slots for each in Quotas(reading).as_values("p")] == [4]


def test_a_flavor_fits_by_its_labels_with_and_without_nodes() -> None:
    """Each label must be on all nodes; of a NodePool without nodes, what its template says must not contradict."""
    gpu = "nvidia.com/gpu.product"
    flavors = {
        "a": {"gangplan.io/pool": "p", gpu: "NVIDIA-H100"},
        "b": {"karpenter.sh/nodepool": "np", gpu: "NVIDIA-H100"},
        "other": {"gangplan.io/pool": "r"},
    }
    quotas = {"p": KueueQuota(queues={"q": 1})}

    there = a_reading("p", quotas=quotas, nodes=nodes_in("p", **{gpu: "NVIDIA-H100"}), flavors=flavors)
    assert flavor_of(there, "p", flavors) == "a"
    pools = Pools(nodes={"p": KarpenterNodes(nodepool="np")}, quotas=quotas, fleet=there.pools.fleet)
    to_come = {"np": SeenNodePool(name="np", replicas=0, labels={"karpenter.sh/nodepool": "np"})}
    del flavors["a"]
    assert flavor_of(Reading(pools=pools, snapshot=Snapshot(nodepools=to_come, flavors=flavors)), "p", flavors) == "b"


@pytest.mark.parametrize(
    ("slot", "found", "wanted"),
    [
        ("gpu", [GPU, "nvidia.com/mig-1g.10gb"], GPU),
        ("1g.10gb", [GPU, "nvidia.com/mig-1g.10gb"], "nvidia.com/mig-1g.10gb"),
        ("gpu", ["google.com/tpu"], "google.com/tpu"),
        ("gpu", ["amd.com/gpu", "google.com/tpu"], ""),
        ("gpu", [], ""),
    ],
)
def test_the_resource_that_counts_a_pools_slots(slot: str, found: list[str], wanted: str) -> None:
    """Whole GPUs, a MIG profile, or the only one that there is; else it is named."""
    pool = a_pool("p", slot=slot, slots_per_gpu=7 if slot != "gpu" else 1)
    if wanted:
        assert resource_of(pool, found) == wanted
    else:
        with pytest.raises(InputError, match="is counted by none of"):
            resource_of(pool, found)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: KueueQuota(), "give a cohort, or queues with their weights"),
        (lambda: KueueQuota(cohort="c", queues={"q": 1}), "cannot stand beside a cohort: give one of the two"),
        (lambda: KueueQuota(queues={"q": 0}), r"quota.queues\[q\]: 0 must be greater than 0"),
        (lambda: KarpenterNodes(nodepool=""), "nodes.nodepool"),
        (lambda: ScaledNodes(resource="deployments.apps", namespace="", name="n"), "nodes.namespace"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, says: str) -> None:
    """Field, value and remedy."""
    with pytest.raises(InputError, match=says):
        make()


def test_two_pools_on_one_nodepool_are_refused() -> None:
    """Each would order what the other removes."""
    nodes = {name: KarpenterNodes(nodepool="np") for name in ("p", "r")}
    with pytest.raises(InputError, match="'np' is pool p's already"):
        Pools(nodes=nodes, quotas={}, fleet=Fleet(pools=(a_pool("p"), a_pool("r"))))
