"""What a gang asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import NoneType

from gangplan.clock import require_utc
from gangplan.errors import InputError
from gangplan.types.checks import (
    LAST,
    MOST,
    require_at_least,
    require_items,
    require_name,
    require_slot,
    require_span,
    require_text,
    require_type,
    require_whole,
)
from gangplan.types.demand import WorkloadClass
from gangplan.types.fleet import WHOLE_GPU


class Level(StrEnum):
    """How close together the pods of a gang stand."""

    NODE = "node"
    NVLINK = "nvlink"  # one NVLink domain: `nodes_per_nvlink` nodes in a row
    RACK = "rack"  # `nodes_per_rack` nodes in a row
    ZONE = "zone"  # a pool is in one zone, and a gang in one pool: always so


@dataclass(frozen=True, kw_only=True)
class PodSet:
    """Pods of one shape: how many, and whole GPUs (or slots of the request's kind) for each.

    `min_count` and `max_count` (default: `count`) bound what a running gang may be resized to.
    """

    count: int
    gpus_per_pod: int
    min_count: int | None = None
    max_count: int | None = None

    def __post_init__(self) -> None:
        require_whole("pod_sets.count", self.count, 1)
        require_whole("pod_sets.gpus_per_pod", self.gpus_per_pod, 1)
        require_whole("pod_sets.min_count", self.least, 1, self.count)
        require_whole("pod_sets.max_count", self.most, self.count)

    @property
    def gpus(self) -> int:
        """The GPUs of all its pods."""
        return self.count * self.gpus_per_pod

    @property
    def least(self) -> int:
        """The fewest pods that it may shrink to."""
        return self.count if self.min_count is None else self.min_count

    @property
    def most(self) -> int:
        """The most pods that it may grow to."""
        return self.count if self.max_count is None else self.max_count


@dataclass(frozen=True, kw_only=True)
class Topology:
    """How close together all pods of a gang must stand, or (`required=False`) should."""

    level: Level
    required: bool = True

    def __post_init__(self) -> None:
        require_type("topology.level", self.level, Level, "a Level")
        require_type("topology.required", self.required, bool, "True or False")

    @classmethod
    def from_text(cls, text: str) -> Topology | None:
        """Read `rack` (required) or `rack:preferred`; an empty text is no wish."""
        level, _, wish = text.partition(":")
        if not text:
            return None
        if level not in list(Level) or wish not in ("", "preferred", "required"):
            raise InputError("topology", text, f"is unknown: use one of {', '.join(Level)}, alone or with :preferred")
        return cls(level=Level(level), required=wish != "preferred")

    def __str__(self) -> str:
        return self.level.value if self.required else f"{self.level.value}:preferred"


@dataclass(frozen=True, kw_only=True)
class GangRequest:
    """A gang of GPU slots that is granted whole or not at all.

    `request_key` makes it idempotent: the same key with the same body is the same reservation. `duration` is the
    expected run time and, with no renewal, the hard limit of the lease; `walltime` (default: `duration`) bounds all
    renewals together. Both hold on an accelerator of speed 1; `speed` gives measured factors of others (2.0: twice as
    fast, half the time). The window runs from `earliest_start` to `latest_start`, and no later than what lets the
    walltime end by `deadline`; a request not started by then expires. `priority_class` names a class of the policy,
    whose priority then counts instead of `priority`. A `preemptible` gang may lose its slots to one that is entitled to
    them, after a notice that is at least `checkpoint` long. A grant that nobody claims (by a first renewal) within
    `claim_within` goes back, and the lease counts from the claim; without it, from the grant.
    """

    request_key: str
    tenant: str
    pod_sets: tuple[PodSet, ...]
    accelerators: tuple[str, ...]
    duration: timedelta
    walltime: timedelta | None = None
    speed: dict[str, float] = field(default_factory=dict[str, float])
    slot: str = WHOLE_GPU
    priority: int = 100
    priority_class: str = ""
    workload_class: WorkloadClass = WorkloadClass.THROUGHPUT
    earliest_start: datetime | None = None
    latest_start: datetime | None = None
    deadline: datetime | None = None
    topology: Topology | None = None
    preemptible: bool = False
    checkpoint: timedelta | None = None
    claim_within: timedelta | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        require_text("request_key", self.request_key, 1)
        require_name("tenant", self.tenant)
        require_items("pod_sets", self.pod_sets, PodSet, "PodSets")
        require_items("accelerators", self.accelerators, str, "names of accelerators")
        for accelerator in self.accelerators:
            require_name("accelerators", accelerator)
        require_slot("slot", self.slot)
        require_span("duration", self.duration)
        require_span("walltime", self.limit)
        require_at_least("walltime", self.limit.total_seconds(), self.duration.total_seconds())
        self._check_speed()
        require_whole("priority", self.priority, -MOST)
        require_type("priority_class", self.priority_class, str, "a name")
        if self.priority_class:
            require_name("priority_class", self.priority_class)
        require_type("workload_class", self.workload_class, WorkloadClass, "a WorkloadClass")
        require_type("topology", self.topology, (Topology, NoneType), "a Topology")
        require_type("preemptible", self.preemptible, bool, "True or False")
        if self.checkpoint is not None:
            require_span("checkpoint", self.checkpoint)
        if self.claim_within is not None:
            require_span("claim_within", self.claim_within)
        self._check_labels()
        self._check_window()

    def _check_speed(self) -> None:
        """Refuse factors of accelerators that are not asked for, and those that no hardware has."""
        require_type("speed", self.speed, dict, "a dict of factors by accelerator")
        for name, factor in self.speed.items():
            require_type(f"speed[{name}]", factor, (int, float), "a number")
            if name not in self.accelerators:
                raise InputError(f"speed[{name}]", factor, "is of no accelerator of the request: leave it out")
            if not 0.01 <= factor <= 100:
                raise InputError(f"speed[{name}]", factor, "must be from 0.01 to 100")

    def _check_labels(self) -> None:
        """Refuse labels that are not texts."""
        require_type("labels", self.labels, dict, "a dict of texts")
        if len(self.labels) > 64:
            raise InputError("labels", f"{len(self.labels)} of them", "are too many: give up to 64")
        for name, value in self.labels.items():
            require_text("labels", name, 1)
            require_text(f"labels[{name}]", value)

    def _check_window(self) -> None:
        """Refuse a window that is not in UTC, lies past the year 2999, or ends before it begins."""
        for name in ("earliest_start", "latest_start", "deadline"):
            value: datetime | None = getattr(self, name)
            if value is not None and require_utc(name, value) >= LAST:
                raise InputError(name, value.isoformat(), f"must be before the year {LAST.year}")
        if self.earliest_start and self.latest_start and self.latest_start < self.earliest_start:
            raise InputError("latest_start", self.latest_start.isoformat(), "must not be before earliest_start")
        if self.earliest_start and self.deadline and self.deadline <= self.earliest_start:
            raise InputError("deadline", self.deadline.isoformat(), "must be later than earliest_start")

    @property
    def limit(self) -> timedelta:
        """The hard walltime: the lease never lasts longer than this from its grant."""
        return self.walltime if self.walltime is not None else self.duration

    @property
    def gpus(self) -> int:
        """The GPUs of the whole gang."""
        return sum(pod_set.gpus for pod_set in self.pod_sets)
