"""The one table of accelerators: which resources count them, which labels name them, how much of one a resource is.

All sources of telemetry and the placing of gangs read it. The names are those of the plan's catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_GPU_LABELS = (
    "gangplan.io/accelerator",
    "nvidia.com/gpu.product",  # NVIDIA's GPU operator
    "amd.com/gpu.product-name",
    "gpu.intel.com/product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "k8s.amazonaws.com/accelerator",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Accelerators of one sort: the resources that count them, their drivers, the labels that name the product.

    `name` is what one is called whose product no label tells; it is empty for GPUs, of which there are too many kinds.
    """

    resources: re.Pattern[str]
    labels: tuple[str, ...]
    drivers: tuple[str, ...] = ()  # of dynamic resource allocation (DRA)
    name: str = ""


GPUS = Family(
    resources=re.compile(
        r"nvidia\.com/(p?gpu|mig-[0-9]+g\.[0-9]+gb[\w.]*)(\.shared)?|amd\.com/(gpu|[sdtqc]px_nps[0-9])"
        r"|gpu\.intel\.com/(i915|xe)|volcano\.sh/v?gpu-number|[^/]+/gpu"
    ),
    labels=(*_GPU_LABELS, INSTANCE_TYPE),
    drivers=("gpu.nvidia.com", "gpu.amd.com", "gpu.intel.com"),
)
FAMILIES = (
    GPUS,
    Family(
        resources=re.compile(r"google\.com/tpu"),  # counts chips
        labels=("gangplan.io/accelerator", "cloud.google.com/gke-tpu-accelerator"),
        drivers=("tpu.google.com",),
        name="tpu",
    ),
    Family(
        resources=re.compile(r"aws\.amazon\.com/neuron(device|core)?"),  # neuroncore: a part of a chip
        labels=("gangplan.io/accelerator", INSTANCE_TYPE, "karpenter.k8s.aws/instance-accelerator-name"),
        drivers=("neuron.aws.com",),
        name="neuron",
    ),
    Family(
        resources=re.compile(r"habana\.ai/gaudi"),
        labels=("gangplan.io/accelerator", INSTANCE_TYPE),
        drivers=("gaudi.intel.com",),
        name="gaudi",
    ),
    Family(
        resources=re.compile(r"fpga\.intel\.com/.+|(xilinx|amd)\.com/fpga(-.+)?"),
        labels=(),  # the resource names the product
        name="fpga",
    ),
)
PRODUCT_LABELS = tuple(dict.fromkeys(label for family in FAMILIES for label in family.labels if label != INSTANCE_TYPE))
"""The labels of a node, or of a flavor, that name the accelerator in it."""

NODE_LABELS = (
    *PRODUCT_LABELS,
    INSTANCE_TYPE,
    "nvidia.com/gpu.count",
    "nvidia.com/gpu.replicas",
    "nvidia.com/gpu.sharing-strategy",
    "cloud.google.com/gke-gpu-partition-size",
    "cloud.google.com/gke-gpu-sharing-strategy",
    "cloud.google.com/gke-max-shared-clients-per-gpu",
    "amd.com/compute-memory-partition",
    "gpu.intel.com/device.count",
)
"""All labels of a node that say what its accelerators are, and how much of one each resource is."""

TPU_TOPOLOGY = "cloud.google.com/gke-tpu-topology"
"""The label with the shape of a TPU slice, as 2x4: so many chips are wired together."""

VENDORS = ("nvidia.com/", "amd.com/", "gpu.intel.com/", "habana.ai/", "google.com/", "volcano.sh/", "aws.amazon.com/")
"""Resources of these domains that the table does not know are named, for they may be accelerators."""

_MAKERS = {"nvidia", "tesla", "geforce", "quadro", "amd", "instinct", "radeon", "graphics", "intel"}
_EC2 = {
    "p3": "v100", "p3dn": "v100", "p4d": "a100", "p4de": "a100", "p5": "h100", "p5e": "h200", "p5en": "h200",
    "p6-b200": "b200", "g4dn": "t4", "g5": "a10g", "g6": "l4", "g6e": "l40s", "dl1": "gaudi", "inf1": "inferentia1",
    "inf2": "inferentia2", "trn1": "trainium1", "trn1n": "trainium1", "trn2": "trainium2", "trn2u": "trainium2",
}  # fmt: skip
_AZURE = re.compile(r"standard_n[a-z0-9-]+_(?:[a-z0-9]+_)?([ahtvlm][a-z]?[0-9]+[a-z]?|gb200)_v[0-9]+")
_TPU = re.compile(r"(?:ct|tpu-?)v?([0-9])(?:-?(lite|p|e|x)(?![a-z]))?")
_PARTED = re.compile(r"-(SHARED|MIG-[0-9].*)$")


def family_of(resource: str) -> Family | None:
    """Return what a resource of a node or container counts, by its name or its driver's; None: no accelerators."""
    return next((each for each in FAMILIES if resource in each.drivers or each.resources.fullmatch(resource)), None)


def is_accelerator(resource: str) -> bool:
    """Return whether a resource counts accelerators: GPUs, MIG slices, TPU chips; never their memory or their share."""
    return family_of(resource) is not None


def short_name(product: str) -> str:
    """Return a short name of a product: NVIDIA-H100-80GB-HBM3 is h100, "NVIDIA GeForce RTX 3090" is rtx-3090."""
    low = product.strip().lower()
    if tpu := _TPU.match(low):
        return f"tpu-v{tpu[1]}{'e' if tpu[2] == 'lite' else tpu[2] or ''}"
    words = [word for word in re.split(r"[^a-z0-9.]+", _PARTED.sub("", product).lower()) if word not in _MAKERS | {""}]
    models = (word for word in words if any(letter.isdigit() for letter in word) and not word[0].isdigit())
    return (next(models, "-".join(words)) or low.replace(" ", "-"))[:63]


def accelerator_of(labels: Mapping[str, str], resource: str) -> str:
    """Return the accelerator of a node, or of a flavor, that a resource counts; empty where nothing tells it."""
    family = family_of(resource)
    if family is None:
        return ""
    names = (_name(label, labels[label]) for label in family.labels if labels.get(label))
    return next((name for name in names if name), "") or _own_name(family, resource)


def names_of(labels: Mapping[str, str]) -> set[str]:
    """Return all that the accelerator of a flavor may be called: what its labels say, and their short names."""
    said = {label: labels[label] for label in PRODUCT_LABELS if labels.get(label)}
    return {*said.values(), *(_name(label, value) for label, value in said.items())}


def product_of(driver: str, product: str) -> str:
    """Return the accelerator that a driver's devices are, by the product, generation or instance type that is told."""
    family = family_of(driver)
    name = family.name if family else ""
    if name == "neuron":
        return _name(INSTANCE_TYPE, product) or name
    if name == "tpu" and product and not product.startswith(name):
        product = f"{name}-{product}"
    return short_name(product) or name


def _name(label: str, value: str) -> str:
    """Return the accelerator that a label names; an instance type may have none."""
    if label != INSTANCE_TYPE:
        return short_name(value)
    azure = _AZURE.match(value.lower())
    return azure[1] if azure else _EC2.get(value.partition(".")[0], "")


def _own_name(family: Family, resource: str) -> str:
    """Return the name that a resource itself tells: xilinx.com/fpga-xilinx_u250_... is u250."""
    product = resource.partition("/fpga-")[2]
    return short_name(product.replace("_", " ")) if product else family.name


# ---------------------------------------------------------------- how much of one


def share_of(resource: str, labels: Mapping[str, str], amounts: Mapping[str, int] | None = None) -> float | None:
    """Return how much of one accelerator one of a resource is; None: it is shared, and nothing tells among how many.

    `amounts`: what the node has of each resource.
    """
    if "/" not in resource:  # a driver's: its devices say themselves how much of one they are
        return 1.0
    amounts = amounts or {}
    base = resource.removesuffix(".shared")
    product = labels.get(f"{base}.product") or next((labels[name] for name in _GPU_LABELS if labels.get(name)), "")
    replicas = _replicas(resource, base, product, labels, amounts)
    return None if replicas is None else 1 / (_instances(base, product, labels, amounts) * replicas)


def profile_of(resource: str, labels: Mapping[str, str]) -> str:
    """Return the MIG profile that a resource counts on a node, as 1g.10gb; empty for whole accelerators."""
    product = labels.get(f"{resource.removesuffix('.shared')}.product", "")
    size = labels.get("cloud.google.com/gke-gpu-partition-size", "")
    named = re.search(r"mig-([0-9]+g\.[0-9]+gb)", f"{resource} {product} {size and f'mig-{size}'}".lower())
    return named[1] if named else ""


def instances_of(profile: str, product: str) -> int:
    """Return how many instances of a MIG profile one GPU holds: its compute slices and its memory bound them."""
    compute, memory = (int(number) for number in re.findall(r"[0-9]+", profile)[:2])
    name, said = short_name(product), re.search(r"([0-9]+) ?gb", product.lower())
    slices = 4 if name == "a30" or name.startswith("rtx-pro-6000") else 7
    total = _MEMORY.get(name) or (int(said[1]) if said else 0)
    by_memory = round(total / memory) if total else slices
    return max(1, min(slices // compute, by_memory))


_MEMORY = {"a30": 24, "gh200": 96, "h200": 141, "b200": 180, "gb200": 186, "b300": 270}  # GB, where no label says it
_PARTITIONS = {"spx": 1, "dpx": 2, "tpx": 3, "qpx": 4, "cpx": 8}  # of an AMD accelerator


def _instances(base: str, product: str, labels: Mapping[str, str], amounts: Mapping[str, int]) -> float:
    """Return of how many equal parts one accelerator consists, one of which the resource counts."""
    if profile := profile_of(base, labels):
        return instances_of(profile, product)
    if base.startswith("amd.com/"):
        mode = labels.get("amd.com/compute-memory-partition", "") if base == "amd.com/gpu" else base[8:]
        return _PARTITIONS.get(mode[:3], 1)
    if base == "aws.amazon.com/neuroncore":
        chips = amounts.get("aws.amazon.com/neuron") or amounts.get("aws.amazon.com/neurondevice") or 0
        cores = amounts.get(base, 0)
        return cores / chips if chips and cores > chips else _cores(accelerator_of(labels, base))
    return 1


def _cores(accelerator: str) -> int:
    """Return the cores of an AWS chip."""
    return {"inferentia1": 4, "trainium2": 8}.get(accelerator, 2)


def _replicas(
    resource: str, base: str, product: str, labels: Mapping[str, str], amounts: Mapping[str, int]
) -> float | None:
    """Return how many share one of a resource; None where they share it and nothing tells how many."""
    have = amounts.get(resource, 0)
    if base.startswith("gpu.intel.com/"):
        cards = _number(labels, "gpu.intel.com/device.count")
        return have / cards if cards and have > cards else 1
    ways = (f"{base}.sharing-strategy", "cloud.google.com/gke-gpu-sharing-strategy")
    strategy = next((labels[name] for name in ways if labels.get(name)), "none")
    if resource == base and not product.endswith("-SHARED") and strategy == "none":
        return 1
    given = _number(labels, f"{base}.replicas") or _number(labels, "cloud.google.com/gke-max-shared-clients-per-gpu")
    cards = _number(labels, f"{base}.count")
    return given or (have / cards if cards and have >= cards else None)


def _number(labels: Mapping[str, str], name: str) -> int:
    text = labels.get(name, "")
    return int(text) if text.isdecimal() else 0


# ---------------------------------------------------------------- as kube-state-metrics spells it


def metric_name(name: str) -> str:
    """Return a resource or a label as kube-state-metrics spells it: nvidia.com/gpu is nvidia_com_gpu."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


METRIC_PATTERN = (
    "nvidia_com_p?gpu|nvidia_com_gpu_shared|nvidia_com_mig_[0-9]+g_.+|amd_com_gpu|amd_com_[sdtqc]px_nps[0-9]"
    "|gpu_intel_com_(i915|xe)|volcano_sh_v?gpu_number|google_com_tpu|aws_amazon_com_neuron(device|core)?"
    "|habana_ai_gaudi|fpga_intel_com_.+|(xilinx|amd)_com_fpga(_.+)?"
)
"""The resources of the table as kube-state-metrics spells them, for a query of Prometheus."""

_SPELLED = {
    metric_name(name): name
    for name in (
        "nvidia.com/gpu", "nvidia.com/pgpu", "nvidia.com/gpu.shared", "amd.com/gpu", "gpu.intel.com/i915",
        "gpu.intel.com/xe", "volcano.sh/vgpu-number", "volcano.sh/gpu-number", "google.com/tpu", "habana.ai/gaudi",
        "aws.amazon.com/neuron", "aws.amazon.com/neurondevice", "aws.amazon.com/neuroncore",
    )
}  # fmt: skip


def resource_from(metric: str) -> str:
    """Return the resource that kube-state-metrics spells so."""
    if mig := re.fullmatch(r"nvidia_com_mig_([0-9]+g)_([0-9]+gb)(_\w+?)??(_shared)?", metric):
        return f"nvidia.com/mig-{mig[1]}.{mig[2]}{(mig[3] or '').replace('_', '.')}{'.shared' if mig[4] else ''}"
    if metric in _SPELLED:
        return _SPELLED[metric]
    domain, _, name = metric.partition("_com_")
    return f"{domain.replace('_', '.')}.com/{name.replace('fpga_', 'fpga-', 1)}"


def only_one(names: Iterable[str]) -> str:
    """Return the one name that all of these are; empty where they differ, or there are none."""
    different = set(names)
    return different.pop() if len(different) == 1 else ""
