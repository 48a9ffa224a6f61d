"""Running pods with their requests, the rule of their class, and the changes that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gangplan.errors import InputError
from gangplan.types import WorkloadClass

CPU, MEMORY = "cpu", "memory"
MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class ResizeRule:
    """How the pods of a workload class are resized; a class without a rule is left alone.

    A request becomes `margin` times what was used, and at least `cpu` cores and `memory_mib`. It changes only after so
    many `hours` of measurements, and only by `least_change` of what it is (0.2: a fifth) or more.
    """

    margin: float = 1.4
    cpu: float = 0.1
    memory_mib: float = 256.0
    hours: float = 24.0
    least_change: float = 0.2

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        least = {"margin": 1.0, "cpu": 0.001, "memory_mib": 4.0, "hours": 1.0, "least_change": 0.01}
        for name, number in least.items():
            if not number <= getattr(self, name) < float("inf"):
                raise InputError(f"resize.{name}", getattr(self, name), f"must be a number of at least {number:g}")


ResizeRules = Mapping[WorkloadClass, ResizeRule]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container's requests now, and those that it came with: thousandths of a core, and bytes of memory."""

    name: str
    requests: Mapping[str, int]
    at_first: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPod:
    """A pod that runs: its class, its quality of service, and why its last resize is not done (empty: it is)."""

    namespace: str
    name: str
    uid: str
    kind: WorkloadClass
    qos: str
    containers: tuple[Container, ...]
    pending: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """A change of a container's requests, in thousandths of a core and in bytes; one that cannot be says why."""

    pod: RunningPod
    container: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    waits_for: str = ""
