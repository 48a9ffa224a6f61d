"""The one table of accelerators: what counts, what it is called, how much of one it is."""

from __future__ import annotations

import re

import pytest

from gangplan.kube.accelerators import (
    METRIC_PATTERN,
    accelerator_of,
    instances_of,
    is_accelerator,
    metric_name,
    names_of,
    resource_from,
    share_of,
    short_name,
)

COUNTED = (
    "nvidia.com/gpu",
    "nvidia.com/gpu.shared",
    "nvidia.com/mig-1g.10gb",
    "nvidia.com/mig-3g.40gb",
    "nvidia.com/mig-1g.10gb.shared",
    "amd.com/gpu",
    "amd.com/cpx_nps4",
    "gpu.intel.com/i915",
    "gpu.intel.com/xe",
    "google.com/tpu",
    "aws.amazon.com/neuron",
    "aws.amazon.com/neuroncore",
    "aws.amazon.com/neurondevice",
    "habana.ai/gaudi",
    "fpga.intel.com/region-d8424dc4",
    "xilinx.com/fpga-xilinx_u250_xdma_201830_2-0",
    "volcano.sh/vgpu-number",
)


@pytest.mark.parametrize("resource", [*COUNTED, "iluvatar.ai/gpu"])
def test_named_resources_count(resource: str) -> None:
    """GPUs, MIG slices, TPU chips, Neuron chips and cores, Gaudi, FPGAs."""
    assert is_accelerator(resource)


@pytest.mark.parametrize(
    "resource",
    [
        "cpu",
        "nvidia.com/gpumem",
        "nvidia.com/gpumem-percentage",
        "nvidia.com/gpucores",
        "nvidia.com/hostdev",
        "nvidia.com/priority",
        "gpu.intel.com/memory.max",
        "gpu.intel.com/millicores",
        "gpu.intel.com/i915_monitoring",
        "volcano.sh/vgpu-memory",
        "rdma/hca_shared_devices",
        "habana.ai/other",
        "hugepages-2Mi",
        "aliyun.com/gpu-mem",
    ],
)
def test_memory_shares_and_network_devices_do_not_count(resource: str) -> None:
    """Whatever else a vendor puts on a node is no accelerator, however large its number."""
    assert not is_accelerator(resource)


@pytest.mark.parametrize("resource", COUNTED)
def test_each_is_asked_of_kube_state_metrics_and_found_again(resource: str) -> None:
    """Its spelling there is matched by the pattern, and read back as a resource of the same family."""
    spelled = metric_name(resource)
    assert re.fullmatch(METRIC_PATTERN, spelled)
    assert is_accelerator(resource_from(spelled))
    if not resource.startswith(("fpga", "xilinx", "amd.com/c")):
        assert resource_from(spelled) == resource


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA-H100-80GB-HBM3", "h100"),
        ("NVIDIA-A100-SXM4-80GB-SHARED", "a100"),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "a100"),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED", "a100"),
        ("NVIDIA-RTX-6000-Ada-Generation-SHARED", "rtx-6000-ada-generation"),
        ("Quadro-RTX-6000", "rtx-6000"),
        ("nvidia-tesla-t4", "t4"),
        ("AMD_Instinct_MI300X_OAM", "mi300x"),
        ("Flex_170", "flex-170"),
        ("tpu-v5-lite-podslice", "tpu-v5e"),
        ("tpu-v5p-slice", "tpu-v5p"),
        ("tpu-v6e-slice", "tpu-v6e"),
        ("tpu-v4-podslice", "tpu-v4"),
        ("tpu7x", "tpu-v7x"),
        ("", ""),
    ],
)
def test_products_have_the_catalogues_names(product: str, name: str) -> None:
    """What shares or divides a GPU is not part of its name."""
    assert short_name(product) == name


@pytest.mark.parametrize(
    ("labels", "resource", "name"),
    [
        ({"cloud.google.com/gke-accelerator": "nvidia-l4"}, "nvidia.com/gpu", "l4"),
        ({"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice"}, "google.com/tpu", "tpu-v6e"),
        ({"karpenter.k8s.aws/instance-gpu-name": "a10g"}, "nvidia.com/gpu", "a10g"),
        ({"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"}, "amd.com/gpu", "mi300x"),
        ({"gpu.intel.com/product": "Max_1550"}, "gpu.intel.com/i915", "max-1550"),
        ({"node.kubernetes.io/instance-type": "trn1.32xlarge"}, "aws.amazon.com/neuroncore", "trainium1"),
        ({"node.kubernetes.io/instance-type": "inf2.48xlarge"}, "aws.amazon.com/neuron", "inferentia2"),
        ({"node.kubernetes.io/instance-type": "p5.48xlarge"}, "nvidia.com/gpu", "h100"),
        ({"node.kubernetes.io/instance-type": "Standard_ND96isr_H100_v5"}, "nvidia.com/gpu", "h100"),
        ({"node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}, "nvidia.com/gpu", "a100"),
        ({"node.kubernetes.io/instance-type": "m5.large"}, "nvidia.com/gpu", ""),
        ({}, "google.com/tpu", "tpu"),
        ({}, "habana.ai/gaudi", "gaudi"),
        ({}, "aws.amazon.com/neuron", "neuron"),
        ({}, "fpga.intel.com/region-d8424dc4", "fpga"),
        ({}, "xilinx.com/fpga-xilinx_u250_xdma_201830_2-0", "u250"),
        ({}, "nvidia.com/gpu", ""),
        ({"nvidia.com/gpu.product": "NVIDIA-L4"}, "xilinx.com/fpga-xilinx_u250_xdma_201830_2-0", "u250"),
        ({}, "xilinx.com/fpga", "fpga"),
        ({"node.kubernetes.io/instance-type": "dl1.24xlarge"}, "habana.ai/gaudi", "gaudi"),
    ],
)
def test_labels_name_the_accelerator_of_a_resource(labels: dict[str, str], resource: str, name: str) -> None:
    """Each family has its labels; where none tells it, families of few kinds have a name of their own."""
    assert accelerator_of(labels, resource) == name


SLICED = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-SHARED", "nvidia.com/gpu.replicas": "10"}
GKE = {"cloud.google.com/gke-accelerator": "nvidia-a100-80gb"}


@pytest.mark.parametrize(
    ("resource", "labels", "amounts", "share"),
    [
        ("nvidia.com/gpu", {"nvidia.com/gpu.product": "NVIDIA-L4"}, {"nvidia.com/gpu": 8}, 1),
        ("nvidia.com/gpu", SLICED, {}, 1 / 10),
        ("nvidia.com/gpu.shared", {"nvidia.com/gpu.replicas": "4"}, {}, 1 / 4),
        ("nvidia.com/gpu.shared", {"nvidia.com/gpu.count": "2"}, {"nvidia.com/gpu.shared": 8}, 1 / 4),
        ("nvidia.com/gpu.shared", {}, {"nvidia.com/gpu.shared": 8}, None),
        ("nvidia.com/gpu", {"nvidia.com/gpu.sharing-strategy": "mps", "nvidia.com/gpu.replicas": "2"}, {}, 1 / 2),
        ("nvidia.com/gpu", {"nvidia.com/gpu.sharing-strategy": "none", "nvidia.com/gpu.replicas": "1"}, {}, 1),
        ("nvidia.com/gpu", {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}, {}, 1 / 7),
        (
            "nvidia.com/gpu",
            {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb-SHARED", "nvidia.com/gpu.replicas": "2"},
            {},
            1 / 4,
        ),
        ("nvidia.com/mig-2g.20gb", {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}, {}, 1 / 3),
        (
            "nvidia.com/mig-1g.10gb.shared",
            {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/mig-1g.10gb.replicas": "2"},
            {},
            1 / 14,
        ),
        ("nvidia.com/gpu", GKE | {"cloud.google.com/gke-gpu-partition-size": "1g.10gb"}, {}, 1 / 7),
        (
            "nvidia.com/gpu",
            GKE
            | {
                "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
                "cloud.google.com/gke-max-shared-clients-per-gpu": "3",
            },
            {},
            1 / 3,
        ),
        ("amd.com/cpx_nps4", {}, {}, 1 / 8),
        ("amd.com/gpu", {"amd.com/compute-memory-partition": "dpx_nps2"}, {}, 1 / 2),
        ("gpu.intel.com/i915", {"gpu.intel.com/device.count": "2"}, {"gpu.intel.com/i915": 10}, 1 / 5),
        ("aws.amazon.com/neuroncore", {}, {"aws.amazon.com/neuron": 16, "aws.amazon.com/neuroncore": 32}, 1 / 2),
        ("aws.amazon.com/neuroncore", {"node.kubernetes.io/instance-type": "inf1.xlarge"}, {}, 1 / 4),
        ("aws.amazon.com/neuron", {}, {}, 1),
        ("google.com/tpu", {"cloud.google.com/gke-tpu-topology": "2x4"}, {"google.com/tpu": 4}, 1),
    ],
)
def test_replicas_slices_and_cores_are_parts_of_one(
    resource: str, labels: dict[str, str], amounts: dict[str, int], share: float | None
) -> None:
    """By the node's labels and amounts; a share whose size nothing tells is not guessed."""
    assert share_of(resource, labels, amounts) == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize(
    ("profile", "product", "number"),
    [
        ("1g.5gb", "NVIDIA-A100-SXM4-40GB", 7),
        ("1g.10gb", "NVIDIA-A100-SXM4-40GB", 4),
        ("1g.10gb", "NVIDIA-A100-SXM4-80GB", 7),
        ("1g.20gb", "NVIDIA H100 80GB HBM3", 4),
        ("3g.40gb", "NVIDIA H100 80GB HBM3", 2),
        ("4g.40gb", "NVIDIA H100 80GB HBM3", 1),
        ("7g.80gb", "NVIDIA H100 80GB HBM3", 1),
        ("1g.18gb", "NVIDIA H200", 7),
        ("1g.35gb", "NVIDIA H200", 4),
        ("3g.71gb", "NVIDIA H200", 2),
        ("1g.6gb", "NVIDIA-A30", 4),
        ("2g.12gb", "NVIDIA-A30", 2),
        ("1g.10gb", "", 7),
    ],
)
def test_a_gpu_holds_as_many_instances_as_nvidia_lists(profile: str, product: str, number: int) -> None:
    """Of each MIG profile, by compute slices and memory."""
    assert instances_of(profile, product) == number


def test_a_flavor_may_be_called_by_any_label_of_the_table() -> None:
    """Placing and telemetry read the same labels."""
    labels = {"karpenter.k8s.aws/instance-gpu-name": "h100", "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice"}
    assert names_of(labels) == {"h100", "tpu-v6e-slice", "tpu-v6e"}
