"""What containers used of a node's CPU and memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUse:
    """What a container used over the last `hours` that were measured: cores (95 % quantile), bytes of memory (most)."""

    namespace: str
    pod: str
    container: str
    cores: float
    memory: float
    hours: float
