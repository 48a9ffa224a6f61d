"""The accelerators of all vendors: their resources on Kubernetes, and short names of their products."""

from __future__ import annotations

import re

GPU_RESOURCES = ("nvidia.com/gpu", "amd.com/gpu")
"""The resources that count whole GPUs."""

_PREFIXES = ("nvidia.com/", "amd.com/", "google.com/tpu", "habana.ai/", "gpu.intel.com/")
_MAKERS = {"nvidia", "tesla", "geforce", "quadro", "amd", "instinct", "radeon", "graphics"}


def is_accelerator(resource: str) -> bool:
    """Return whether a resource of a node or a container counts accelerators: GPUs, MIG slices, TPUs."""
    return resource.startswith(_PREFIXES) or resource.partition("/")[2].startswith(("gpu", "mig-", "tpu"))


def short_name(product: str) -> str:
    """Return a short name of a product: NVIDIA-H100-80GB-HBM3 is h100, "NVIDIA GeForce RTX 3090" is rtx-3090."""
    words = [word for word in re.split(r"[^a-z0-9.]+", product.lower()) if word and word not in _MAKERS]
    models = (word for word in words if any(letter.isdigit() for letter in word) and not word[0].isdigit())
    return next(models, "-".join(words)) or product
