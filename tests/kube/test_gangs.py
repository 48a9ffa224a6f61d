"""What a cluster's pods and Workloads ask for, read from an API server; what is left out or assumed is said."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from gangplan.errors import UnavailableError
from gangplan.kube import PLACEHOLDER
from gangplan.kube.gangs import Seen
from tests.kube.conftest import H100, Cluster, Object, a_node, a_pod, ago

PODS, NODES = "/api/v1/pods", "/api/v1/nodes"
GPU = "nvidia.com/gpu"
V1BETA1, V1BETA2 = "/apis/kueue.x-k8s.io/v1beta1", "/apis/kueue.x-k8s.io/v1beta2"
FAILED = {"phase": "Failed", "startTime": ago(hours=29)}


def _init(**container: Any) -> dict[str, Any]:
    """Return a pod whose GPUs are asked for by an init container."""
    return a_pod(
        "i", {"cpu": "1"}, spec={"initContainers": [{"name": "w", "resources": {"limits": {GPU: "4"}}, **container}]}
    )


@pytest.mark.parametrize(
    ("pod", "demand", "says"),
    [
        (a_pod("e", status=FAILED | {"reason": "Evicted"}), {"h100": 4}, "1 pod over since an unknown time"),
        (
            a_pod("r", status=FAILED | {"reason": "UnexpectedAdmissionError", "message": "Pod was rejected: no"}),
            {"h100": 4},
            "left out: 1 pod refused by the node",
        ),
        (
            a_pod("hami", {GPU: "1", "nvidia.com/gpumem": "20000", "nvidia.com/gpucores": "30"}),
            {"h100": 5},
            "1 pod with a part",
        ),
        (a_pod("rdma", {GPU: "2", "nvidia.com/hostdev": "8"}), {"h100": 6}, "nvidia.com/hostdev (1 pod)"),
        (a_pod("only", {"nvidia.com/GRID_T4-1Q": "1"}), {"h100": 4}, "nvidia.com/GRID_T4-1Q (1 pod)"),
        (
            a_pod("v", {"volcano.sh/vgpu-number": "2", "volcano.sh/vgpu-memory": "3000"}),
            {"h100": 6},
            "1 pod with a part",
        ),
        (_init(), {"h100": 8}, ""),
        (_init(restartPolicy="Always"), {"h100": 8}, ""),
        (a_pod("room", {GPU: "8"}, metadata={"labels": {PLACEHOLDER: "room"}}), {"h100": 4}, ""),
        (a_pod("gone", node="n9"), {"h100": 4, "": 4}, ""),
        (a_pod("tpu", {"google.com/tpu": "4"}, node=""), {"h100": 4, "tpu": 4}, ""),
    ],
)
def test_each_kind_of_pod_counts_as_what_it_is(
    cluster: Cluster, pod: Object, demand: dict[str, float], says: str
) -> None:
    """Beside a pod of 4 H100; whatever is assumed or left out stands in a note with its count."""
    cluster.lists[PODS] = [a_pod("train"), pod]
    assert cluster.demand() == demand
    notes = cluster.read().notes
    assert any(says in note for note in notes) if says else notes == ()


def test_time_slices_and_mig_instances_are_parts_of_a_gpu(cluster: Cluster) -> None:
    """Ten of ten replicas are one GPU, seven of seven instances another."""
    shared = {"nvidia.com/gpu.replicas": "10", "nvidia.com/gpu.count": "1"}
    cluster.lists[NODES] += [
        a_node("n4", "NVIDIA-L40S-SHARED", {GPU: "10"}, **shared),
        a_node("n5", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", {GPU: "7"}),
        a_node("n6", H100, {"nvidia.com/mig-3g.40gb": "2"}),
        a_node("n7", "NVIDIA-L4", {"nvidia.com/gpu.shared": "8"}),
    ]
    cluster.lists[PODS] = [
        *(a_pod(f"s{n}", {GPU: "1"}, node="n4") for n in range(10)),
        *(a_pod(f"m{n}", {GPU: "1"}, node="n5") for n in range(7)),
        *(a_pod(f"b{n}", {"nvidia.com/mig-3g.40gb": "1"}, node="n6") for n in range(2)),
        a_pod("unknown", {"nvidia.com/gpu.shared": "2"}, node="n7"),
    ]
    assert cluster.demand() == {"l40s": 1, "a100": 1, "h100": 1, "l4": 2}
    (note,) = cluster.read().notes
    assert note.startswith("1 pod on shared GPUs, and no label (nvidia.com/gpu.replicas) says how many share one")


def test_two_resources_of_a_pod_are_two_gangs(cluster: Cluster) -> None:
    """GPUs and an FPGA are not added up; each keeps an id of its own."""
    fpga = "xilinx.com/fpga-xilinx_u250_xdma_201830_2-0"
    cluster.lists[NODES] = [a_node("n1", H100, {GPU: "8", fpga: "2"})]
    cluster.lists[PODS] = [a_pod("both", {GPU: "4", fpga: "1"})]
    seen = {(gang.id, gang.accelerator, gang.count) for gang in cluster.read().gangs}
    assert seen == {("both", "h100", 4.0), (f"both/{fpga}", "u250", 1.0)}


def _required(*values: str) -> dict[str, Any]:
    rules = [{"key": "nvidia.com/gpu.product", "operator": "In", "values": list(values)}]
    selector = {"nodeSelectorTerms": [{"matchExpressions": rules}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


@pytest.mark.parametrize(
    ("spec", "accelerator", "notes"),
    [
        ({"nodeSelector": {"nvidia.com/gpu.product": H100}}, "h100", 0),
        ({"nodeSelector": {"pool": "big"}}, "a100", 0),  # no product: only those nodes have the label
        ({"nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-l4"}}, "l4", 0),  # no such node yet
        (_required("NVIDIA-L40S"), "l40s", 0),
        (_required(H100), "h100", 0),
        (_required("NVIDIA-L40S", H100), "h100", 0),  # of both, the cluster has one
        (_required("NVIDIA-A100-SXM4-80GB", H100), "a100", 1),
        ({"nodeSelector": {"zone": "nowhere"}}, "", 0),
        ({}, "", 0),
    ],
)
def test_a_waiting_pod_asks_for_what_its_selector_and_affinity_name(
    cluster: Cluster, spec: dict[str, Any], accelerator: str, notes: int
) -> None:
    """By the nodes that it may go to, else by the labels themselves; one that names nothing would take any."""
    cluster.lists[NODES].append(a_node("n3", "NVIDIA-A100-SXM4-80GB", pool="big"))
    cluster.lists[PODS] = [a_pod("wait", node="", status={"phase": "Pending"}, spec=spec)]
    assert cluster.demand() == {accelerator: 4}
    assert len(cluster.read().notes) == notes


def test_nodes_without_a_model_are_said_with_their_count(cluster: Cluster) -> None:
    """What cannot be told is told with its count."""
    cluster.lists[NODES] = [a_node("n1", ""), a_node("n2", "")]
    cluster.lists[PODS] = [a_pod("train")]
    assert cluster.demand() == {"": 4}
    (note,) = cluster.read().notes
    assert note.startswith("2 of 2 nodes have no GPU model: demand on them is counted as `any`")


MARKED = {"kueue.x-k8s.io/managed": "true", "kueue.x-k8s.io/queue-name": "main"}


def _workload(**changes: Any) -> Object:
    """Return an admitted Workload of two pods of 4 GPUs."""
    template = {"spec": {"containers": [{"name": "main", "resources": {"requests": {GPU: "4"}}}]}}
    share = {"name": "main", "count": 2, "flavors": {GPU: "big", "cpu": "big"}, "resourceUsage": {GPU: "8"}}
    marks = [
        {"type": kind, "status": "True", "reason": "", "lastTransitionTime": ago(hours=2)}
        for kind in ("QuotaReserved", "Admitted")
    ]
    return {
        "metadata": {"name": "w", "namespace": "vision", "uid": "w1", "creationTimestamp": ago(hours=3), **changes},
        "spec": {"podSets": [{"name": "main", "count": 2, "template": template}], "queueName": "main"},
        "status": {"conditions": marks, "admission": {"clusterQueue": "q", "podSetAssignments": [share]}},
    }


@pytest.mark.parametrize("base", [V1BETA1, V1BETA2])
def test_kueue_is_read_in_whichever_version_it_serves(cluster: Cluster, base: str) -> None:
    """A Workload counts its pods, at its flavor's accelerator; an older Kueue is named."""
    cluster.lists |= {
        f"{base}/workloads": [_workload(ownerReferences=[{"kind": "Job", "name": "j", "uid": "j1"}])],
        f"{base}/resourceflavors": [
            {"metadata": {"name": "big"}, "spec": {"nodeLabels": {"nvidia.com/gpu.product": H100}}}
        ],
        PODS: [
            a_pod("marked", metadata={"labels": {"kueue.x-k8s.io/podset": "main"}}),
            a_pod("owned", metadata={"ownerReferences": [{"kind": "Job", "name": "j", "uid": "j1"}]}),
            a_pod("beside", {GPU: "1"}),
            a_pod("wishes", {GPU: "2"}, metadata={"labels": {"kueue.x-k8s.io/queue-name": "main"}}),
        ],
    }
    assert cluster.demand() == {"h100": 11}
    assert [("v1beta1" in note) for note in cluster.read().notes] == ([True] if base == V1BETA1 else [])


@pytest.mark.parametrize("served", [{}, {f"{V1BETA1}/workloads": [], f"{V1BETA1}/resourceflavors": []}])
def test_a_marked_pod_that_no_workload_counts_is_counted(cluster: Cluster, served: dict[str, Any]) -> None:
    """Kueue went away, or serves no Workload of that namespace: the pod runs all the same."""
    cluster.lists |= served | {PODS: [a_pod("train"), a_pod("queued", metadata={"labels": MARKED})]}
    assert cluster.demand() == {"h100": 8}
    assert any("1 pod with Kueue's labels that no Workload counts" in note for note in cluster.read().notes)


def test_a_workload_takes_the_accelerator_of_its_flavors_nodes(cluster: Cluster) -> None:
    """A flavor whose labels name no product is told by the nodes that have its labels; else it keeps its own name."""
    cluster.lists[NODES].append(a_node("n3", "NVIDIA-A100-SXM4-80GB", pool="big"))
    flavor = {"metadata": {"name": "big"}, "spec": {"nodeLabels": {"pool": "big"}}}
    cluster.lists |= {f"{V1BETA2}/workloads": [_workload()], f"{V1BETA2}/resourceflavors": [flavor]}
    assert cluster.demand() == {"a100": 8}
    flavor["spec"] = {}
    assert cluster.demand() == {"big": 8}


def test_a_workload_that_was_switched_off_is_over(cluster: Cluster) -> None:
    """Its quota is free, whatever its status still says."""
    off = _workload()
    off["spec"]["active"] = False
    cluster.lists |= {f"{V1BETA2}/workloads": [off], f"{V1BETA2}/resourceflavors": []}
    assert [gang.ended is not None for gang in cluster.read().gangs] == [True]


def test_a_kueue_of_another_version_is_named(cluster: Cluster) -> None:
    """Its pods are counted one by one."""
    cluster.lists[PODS] = [a_pod("queued", metadata={"labels": MARKED})]
    cluster.objects["/apis/kueue.x-k8s.io"] = {"versions": [{"version": "v1alpha2"}]}
    assert cluster.demand() == {"h100": 4}
    assert "Kueue serves only v1alpha2, which is not read: its pods are counted one by one" in cluster.read().notes


def test_workloads_that_may_not_be_read_are_said(cluster: Cluster) -> None:
    """Their pods are counted one by one."""
    cluster.closed = {f"{V1BETA2}/workloads"}
    cluster.lists[PODS] = [a_pod("queued", metadata={"labels": MARKED})]
    assert cluster.demand() == {"h100": 4}
    assert "Kueue's Workloads may not be read: its pods are counted one by one" in cluster.read().notes


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"metadata": None, "spec": {}},
        {"metadata": {"name": "x"}},
        {
            "metadata": {"name": "x", "creationTimestamp": "yesterday"},
            "spec": {"containers": [{"resources": {"limits": {GPU: "1"}}}]},
        },
        a_pod("x", {GPU: "four"}),
        "no object",
    ],
)
def test_an_object_that_cannot_be_read_is_kept_out_by_itself(cluster: Cluster, broken: Any) -> None:
    """It is named with its place in the list; the others count."""
    cluster.lists[PODS] = [broken, a_pod("train")]
    seen: Seen = cluster.read()
    assert [(bad.path, bad.line) for bad in seen.malformed] == [(PODS, 1)]
    assert [gang.id for gang in seen.gangs] == ["train"]


def test_a_server_that_is_no_api_server_is_said(cluster: Cluster) -> None:
    """One line, no traceback."""
    cluster.lists[PODS] = {"these": "are no items"}
    with pytest.raises(UnavailableError, match="answered no list: is this a Kubernetes API server"):
        cluster.read()


JUNK = (None, "", 5, -1, [], {}, "x", "1Ti", [None], {"a": 1}, True, "2026-01-01", 1e300)


def _spots(part: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in an object whose value can be replaced."""
    for key in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
        yield part, key
        yield from _spots(part[key])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0), changes=st.lists(st.tuples(st.integers(0), st.sampled_from(JUNK)), min_size=1, max_size=3))
def test_whatever_stands_in_an_object_it_is_read_or_named(
    cluster: Cluster, place: int, changes: list[tuple[int, Any]]
) -> None:
    """Any parts of one object are replaced by junk: the others count all the same."""
    objects = {
        NODES: a_node("n4", "NVIDIA-L40S-SHARED", {GPU: "10"}, **{"nvidia.com/gpu.replicas": "10"}),
        PODS: [_init(), a_pod("w", node="", spec=_required("NVIDIA-L4")), a_pod("e", status=FAILED)][place % 3],
        f"{V1BETA2}/workloads": _workload(),
        f"{V1BETA2}/resourceflavors": {"metadata": {"name": "big"}, "spec": {"nodeLabels": {"pool": "big"}}},
    }
    path = list(objects)[place % len(objects)]
    for number, junk in changes:
        spots = list(_spots(objects[path]))
        if spots:
            part, key = spots[number % len(spots)]
            part[key] = copy.deepcopy(junk)
    cluster.lists = {NODES: [a_node("n1")], PODS: [a_pod("train")]} | {key: [] for key in list(objects)[2:]}
    cluster.lists[path] = [*cluster.lists[path], objects[path]]
    seen = cluster.read()
    assert [(gang.accelerator, gang.count) for gang in seen.gangs if gang.id == "train"] == [("h100", 4.0)]
