"""The few array types and operations that all members share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Key: TypeAlias = tuple[str, str, str]
"""tenant, workload class, accelerator"""

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


def tidy(quantiles: Floats) -> Floats:
    """Sort along the levels (the last axis) and clip at 0: demand is never negative."""
    return np.maximum(0.0, np.sort(quantiles, axis=-1))
