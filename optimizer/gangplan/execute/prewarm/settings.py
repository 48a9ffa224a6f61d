"""What `serving` in targets.yaml says: whose latency-bound demand, GPUs of a replica, and where it is served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gangplan.errors import InputError
from gangplan.types import ANY, QUANTILES, Fleet, Pool, PoolKind, require_at_least, require_name, require_positive

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Strict:
    """The base of what is read from the file: a misspelt field is refused."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Place(Strict):
    """An object of a cluster.

    `take_over`: its number is written even where another manager owns it, such as a GitOps tool.
    """

    namespace: str
    name: str
    take_over: bool = False

    def __post_init__(self) -> None:
        for named in ("namespace", "name"):
            if not _NAME.fullmatch(getattr(self, named)):
                remedy = "is not the name of an object: use lower case, digits, '-' and '.'"
                raise InputError(f"where.{named}", getattr(self, named), remedy)


@dataclass(frozen=True, kw_only=True)
class Hpa(Place):
    """A HorizontalPodAutoscaler, whose minReplicas follow the plan."""

    kind: Literal["hpa"] = "hpa"


@dataclass(frozen=True, kw_only=True)
class Keda(Place):
    """A ScaledObject of KEDA, whose minReplicaCount follows the plan.

    `hold`: the plan's number is held exactly, whatever the triggers say, by the annotation paused-replicas.
    """

    kind: Literal["keda"] = "keda"
    hold: bool = False


@dataclass(frozen=True, kw_only=True)
class KServe(Place):
    """An InferenceService of KServe, whose predictor's minReplicas follow the plan."""

    kind: Literal["kserve"] = "kserve"


@dataclass(frozen=True, kw_only=True)
class Buffer(Place):
    """Whole nodes of a pool that are kept free, until pods of the server need them.

    `buffer` is a CapacityBuffer where the cluster serves that kind, and placeholder pods else. `filled_by` selects, as
    in `app=chat,tier in (web, api)`, the server's pods of `filled_in` (default: this namespace): what they use is not
    kept free a second time. Nodes are found by `node_labels` (default: gangplan.io/pool), beside `resource` their pods
    tolerate the taints with the keys `tolerates`.
    """

    kind: Literal["buffer", "capacity_buffer", "placeholders"] = "buffer"
    pool: str
    namespace: str = "gangplan"
    filled_by: str = ""
    filled_in: str = ""
    resource: str = "nvidia.com/gpu"
    node_labels: dict[str, str] = field(default_factory=dict[str, str])
    tolerates: tuple[str, ...] = ()
    image: str = "registry.k8s.io/pause:3.10"


Where = Annotated[Hpa | Keda | KServe | Buffer, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True)
class Serving(Strict):
    """A server whose replicas follow what the plan keeps for latency-bound demand.

    tenant, accelerator : whose demand, on which accelerator; without a tenant that of all
    gpus_per_replica : GPUs of a replica; a buffer's is a whole node
    least, most : bounds of its minimum, in replicas or nodes
    level : the quantile of the forecast that is served at once
    pools : where it runs; by default the pools of that accelerator that cannot be interrupted
    ahead_minutes : how long before the hour; by default the longest startup_minutes_p95 of its pools
    """

    where: Where
    accelerator: str
    tenant: str = ""
    gpus_per_replica: float | None = None
    least: int = 0
    most: int | None = None
    level: float = 0.9
    pools: tuple[str, ...] = ()
    ahead_minutes: float | None = None

    def __post_init__(self) -> None:
        require_name(f"{self}.accelerator", self.accelerator)
        if self.tenant:
            require_name(f"{self}.tenant", self.tenant)
        require_at_least(f"{self}.least", self.least, 0)
        if self.most is not None:
            require_at_least(f"{self}.most", self.most, self.least)
        if self.level not in QUANTILES:
            known = ", ".join(f"{level:g}" for level in QUANTILES)
            raise InputError(f"{self}.level", self.level, f"is no quantile of the forecast: use one of {known}")
        if self.ahead_minutes is not None:
            require_at_least(f"{self}.ahead_minutes", self.ahead_minutes, 0)
        self._check_size()

    def __str__(self) -> str:
        return f"serving[{self.where.namespace}/{self.where.name}]"

    @property
    def key(self) -> str:
        """The object that it is about: its kind and its names."""
        return f"{self.where.kind} {self.where.namespace}/{self.where.name}"

    def _check_size(self) -> None:
        if isinstance(self.where, Buffer):
            if self.gpus_per_replica is not None:
                raise InputError(f"{self}.gpus_per_replica", self.gpus_per_replica, "is not a buffer's: leave it out")
        elif self.gpus_per_replica is None:
            raise InputError.missing(f"{self}.gpus_per_replica")
        else:
            require_positive(f"{self}.gpus_per_replica", self.gpus_per_replica)

    def pools_in(self, fleet: Fleet) -> tuple[Pool, ...]:
        """Return the pools that it may run on, in the fleet's order; refuse it where there is none."""
        if isinstance(self.where, Buffer):
            return (fleet.pool(self.where.pool),)
        if self.pools:
            return tuple(fleet.pool(name) for name in self.pools)
        found = tuple(pool for pool in fleet.pools if self._suits(pool))
        if not found:
            known = ", ".join(sorted({pool.accelerator for pool in fleet.pools if pool.kind != PoolKind.SPOT}))
            remedy = f"has no pool that cannot be interrupted (there are {known or 'none'}): name its `pools`"
            raise InputError(f"{self}.accelerator", self.accelerator, remedy)
        return found

    def _suits(self, pool: Pool) -> bool:
        return pool.kind != PoolKind.SPOT and self.accelerator in (ANY, pool.accelerator)

    def gpus_of(self, fleet: Fleet) -> float:
        """Return the GPUs of one replica."""
        return self.gpus_per_replica or self.pools_in(fleet)[0].gpus_per_node


def check_serving(serving: Sequence[Serving], fleet: Fleet) -> None:
    """Refuse a pool that is not in the fleet, an accelerator without pools, and two entries about one object."""
    for entry in serving:
        try:
            entry.pools_in(fleet)
        except InputError as error:
            raise error if error.field.startswith("serving") else error.renamed(f"{entry}.pools") from None
    _refuse_twice(serving)


def _refuse_twice(serving: Iterable[Serving]) -> None:
    seen: set[tuple[str, str, str]] = set()
    for entry in serving:
        where = entry.where
        kind = "buffer" if isinstance(where, Buffer) else where.kind
        if (kind, where.namespace, where.name) in seen:
            raise InputError(f"{entry}.where.name", where.name, "stands twice: one object has one minimum")
        seen.add((kind, where.namespace, where.name))
