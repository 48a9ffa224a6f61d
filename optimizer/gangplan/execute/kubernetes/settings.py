"""Where a pool lives on a cluster, as targets.yaml says it: who makes its nodes, and which quotas let it be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from gangplan.errors import InputError

_STRICT = {"extra": "forbid"}  # a misspelt field of targets.yaml is refused


@dataclass(frozen=True, kw_only=True)
class FixedNodes:
    """Nodes that nobody orders or removes; they are found by the pool's label."""

    kind: Literal["fixed"] = "fixed"

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT


@dataclass(frozen=True, kw_only=True)
class KarpenterNodes:
    """Nodes of a static NodePool of Karpenter."""

    kind: Literal["karpenter"] = "karpenter"
    nodepool: str

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        if not self.nodepool:
            raise InputError.missing("nodes.nodepool")


@dataclass(frozen=True, kw_only=True)
class ScaledNodes:
    """Nodes that something with a `/scale` makes: the machines of a MachineDeployment, or pods that are nodes."""

    kind: Literal["scale"] = "scale"
    resource: Literal["deployments.apps", "statefulsets.apps", "machinedeployments.cluster.x-k8s.io"]
    namespace: str
    name: str

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        for field_name in ("namespace", "name"):
            if not getattr(self, field_name):
                raise InputError.missing(f"nodes.{field_name}")

    @property
    def group(self) -> str:
        """The API group."""
        return self.resource.partition(".")[2]

    @property
    def plural(self) -> str:
        """The resource within its group."""
        return self.resource.partition(".")[0]


NodeSettings: TypeAlias = FixedNodes | KarpenterNodes | ScaledNodes
"""Who makes the nodes of a pool."""


@dataclass(frozen=True, kw_only=True)
class KueueQuota:
    """The quota that lets a pool be used: of one Cohort, or shared out to ClusterQueues by weight.

    `flavor` is needed where more than one ResourceFlavor fits the pool's nodes. `take_over` writes the quota although
    another manager (a GitOps tool) owns it.
    """

    kind: Literal["kueue"] = "kueue"
    cohort: str = ""
    queues: Mapping[str, float] = field(default_factory=dict[str, float])
    flavor: str = ""
    take_over: bool = False

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        if self.cohort and self.queues:
            raise InputError(
                "quota.queues", ", ".join(self.queues), "cannot stand beside a cohort: give one of the two"
            )
        if not self.cohort and not self.queues:
            raise InputError("quota.cohort", "", "is missing: give a cohort, or queues with their weights")
        for queue, weight in self.queues.items():
            if not weight > 0:
                raise InputError(f"quota.queues[{queue}]", weight, "must be greater than 0: leave the queue out else")
