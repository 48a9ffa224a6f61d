"""ResourceClaims and ResourceSlices, in each version of their API."""

from __future__ import annotations

from typing import Any

import pytest

from gangplan.kube.inventory import fleet_of, read_nodes
from tests.kube.conftest import H100, Cluster, Object, a_node, a_pod

PODS, NODES = "/api/v1/pods", "/api/v1/nodes"
DRIVER = "gpu.nvidia.com"
TEMPLATE = [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
MADE = {"phase": "Running", "resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "gpu-x7"}]}


def _device(version: str, name: str, **attributes: str) -> Object:
    """Return a device of a slice; the oldest version has its attributes one level deeper."""
    body = {"attributes": {key: {"string": value} for key, value in attributes.items()}}
    return {"name": name, **({"basic": body} if version == "v1beta1" else body)}


def _request(version: str, device_class: str = DRIVER, **rest: Any) -> Object:
    """Return a request of a claim; the oldest version has no `exactly`."""
    body = {"deviceClassName": device_class, **rest}
    return {"name": "r", **(body if version == "v1beta1" else {"exactly": body})}


def _serve(cluster: Cluster, version: str, request: Object, results: list[Object], **claim: Any) -> None:
    """Let the cluster serve a template, a claim made of it, one slice and one class."""
    spec = {"devices": {"requests": [request]}}
    status = {"allocation": {"devices": {"results": results}}} if results else {}
    devices = [
        _device(version, "gpu-0", type="gpu", productName="NVIDIA H100 80GB HBM3"),
        _device(version, "gpu-1", type="gpu", productName="NVIDIA H100 80GB HBM3"),
        _device(version, "gpu-0-mig-0", type="mig", productName="NVIDIA H100 80GB HBM3", profile="1g.10gb"),
    ]
    base = f"/apis/resource.k8s.io/{version}"
    large = {"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]}
    cluster.lists |= {
        f"{base}/resourceslices": [
            {"spec": {"driver": DRIVER, "nodeName": "n9", "pool": {"name": "n9"}, "devices": devices}}
        ],
        f"{base}/deviceclasses": [{"metadata": {"name": "large-gpu"}, "spec": large}],
        f"{base}/resourceclaims": [
            {"metadata": {"name": "gpu-x7", "namespace": "vision"}, "spec": spec, "status": status | claim}
        ],
        f"{base}/resourceclaimtemplates": [
            {"metadata": {"name": "one-gpu", "namespace": "vision"}, "spec": {"spec": spec}}
        ],
    }


def _given(device: str, **rest: Any) -> Object:
    return {"request": "r", "driver": DRIVER, "pool": "n9", "device": device, **rest}


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
def test_a_claim_counts_the_devices_that_it_was_given(cluster: Cluster, version: str) -> None:
    """Whole GPUs and MIG instances, by the slices; what an administrator looks at is not held."""
    results = [_given("gpu-1"), _given("gpu-0-mig-0"), _given("gpu-0", adminAccess=True)]
    _serve(cluster, version, _request(version), results)
    cluster.lists[PODS] = [a_pod("dra", {}, node="n9", spec={"resourceClaims": TEMPLATE}, status=MADE)]
    assert cluster.demand() == {"h100": round(1 + 1 / 7, 6)}
    assert cluster.read().notes == ()


def _cel(expression: str) -> list[Object]:
    return [{"cel": {"expression": expression}}]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize(
    ("device_class", "rest", "demand"),
    [
        (DRIVER, {"count": 2}, {"": 2}),
        ("large-gpu", {}, {"": 1}),
        (DRIVER, {"selectors": _cel(f"device.attributes['{DRIVER}'].productName == 'NVIDIA A100'")}, {"a100": 1}),
        (
            DRIVER,
            {"selectors": _cel('device.attributes["x"].productName.lowerAscii().matches("^.*a100.*$")')},
            {"a100": 1},
        ),
        ("mig.nvidia.com", {"selectors": _cel(f"device.attributes['{DRIVER}'].profile == '3g.40gb'")}, {"": 0.5}),
        (
            "neuron.aws.com",
            {"count": 8, "selectors": _cel("device.attributes['x'].instanceType == 'trn2.48xlarge'")},
            {"trainium2": 8},
        ),
        ("tpu.google.com", {"count": 4, "selectors": _cel('device.attributes["x"].tpuGen == "v6e"')}, {"tpu-v6e": 4}),
        (DRIVER, {"allocationMode": "All"}, {"": 2}),  # all of a node
        ("compute-domain-default-channel.nvidia.com", {}, {}),
        ("nic.example.com", {}, {}),
        (DRIVER, {"adminAccess": True}, {}),
    ],
)
def test_a_claim_that_waits_counts_what_it_asks_for(
    cluster: Cluster, version: str, device_class: str, rest: dict[str, Any], demand: dict[str, float]
) -> None:
    """By its device class and its selectors; the template speaks where the claim is not made yet."""
    _serve(cluster, version, _request(version, device_class, **rest), [])
    cluster.lists[PODS] = [a_pod("dra", {}, node="", spec={"resourceClaims": TEMPLATE}, status={"phase": "Pending"})]
    assert cluster.demand() == demand


def test_a_slice_that_cannot_be_read_is_told_once(cluster: Cluster) -> None:
    """It names the devices of nodes and those of claims; the slices are read once for both."""
    _serve(cluster, "v1", _request("v1"), [])
    path = "/apis/resource.k8s.io/v1/resourceslices"
    cluster.lists[path].append({"metadata": {"name": "odd"}, "spec": {"driver": DRIVER, "devices": [{"name": "x"}]}})
    cluster.lists[PODS] = [a_pod("dra", {}, node="n9", spec={"resourceClaims": TEMPLATE}, status=MADE)]
    assert [(bad.path, bad.line, bad.name) for bad in cluster.read().malformed] == [(path, 2, "odd")]


def test_pods_that_share_a_claim_share_its_devices(cluster: Cluster) -> None:
    """Two pods with one GPU are one GPU."""
    _serve(cluster, "v1", _request("v1"), [_given("gpu-0")], reservedFor=[{"name": "a"}, {"name": "b"}])
    claims = [{"name": "gpu", "resourceClaimName": "gpu-x7"}]
    cluster.lists[PODS] = [a_pod(name, {}, node="n9", spec={"resourceClaims": claims}) for name in ("a", "b")]
    assert cluster.demand() == {"h100": 1}


@pytest.mark.parametrize("closed", [False, True])
def test_claims_that_cannot_be_read_are_said(cluster: Cluster, closed: bool) -> None:
    """The server does not serve them, or does not let us: named with the count, and the other pods count."""
    cluster.closed = {"/apis/resource.k8s.io/v1/resourceslices"} if closed else set()
    cluster.lists[PODS] = [a_pod("train"), a_pod("dra", {}, spec={"resourceClaims": TEMPLATE})]
    assert cluster.demand() == {"h100": 4}
    (note,) = cluster.read().notes
    why = "they may not be read" if closed else "the cluster serves no resource.k8s.io"
    assert note.startswith(f"not counted: 1 pod with ResourceClaims, since {why}")


def test_nodes_whose_gpus_are_devices_are_part_of_the_fleet(cluster: Cluster) -> None:
    """Their whole devices count; the instances that one may be divided into are the same GPU."""
    _serve(cluster, "v1", _request("v1"), [])
    cluster.lists[NODES] = [a_node("n1", H100), a_node("n9", "", {"cpu": "64"})]
    fleet = fleet_of(read_nodes(cluster.api))
    assert [(pool.name, pool.accelerator, pool.gpus_per_node) for pool in fleet.pools] == [
        ("h100-2", "h100", 2),
        ("h100-8", "h100", 8),
    ]
