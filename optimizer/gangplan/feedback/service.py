"""What the nodes that ran could serve: work in the order of its due hours, and later work on what is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gangplan.types import ANY, CLASS_RULES, WorkloadClass

_NOTHING = 1e-9


@dataclass(kw_only=True)
class Capacity:
    """The free GPUs of one accelerator in one hour; work takes them away."""

    firm: float = 0.0
    spot: float = 0.0

    @property
    def free(self) -> float:
        """All GPUs that are left."""
        return self.firm + self.spot

    def take(self, gpus: float, *, spot: bool) -> float:
        """Take up to that many GPUs, first those on spot nodes if `spot` allows it; return how many were taken."""
        from_spot = min(gpus, self.spot) if spot else 0.0
        from_firm = min(gpus - from_spot, self.firm)
        self.spot -= from_spot
        self.firm -= from_firm
        return from_spot + from_firm


@dataclass(kw_only=True)
class Work:
    """GPU-hours of one class that were asked for in one hour and must be served by the hour `due`."""

    workload_class: WorkloadClass
    accelerator: str
    gpus: float
    due: int


@dataclass(kw_only=True)
class Served:
    """The GPU-hours of work that were not served, by class, and the GPU-hours of nodes that were not used."""

    unserved: dict[WorkloadClass, float] = field(default_factory=lambda: dict.fromkeys(WorkloadClass, 0.0))
    idle: float = 0.0


def serve(capacities: Sequence[Mapping[str, Capacity]], asked: Sequence[Iterable[Work]]) -> Served:
    """Serve the work of each hour in the order of its due hours; keep what may wait for the next hours.

    Parameters
    ----------
    capacities
        The capacity of each hour by accelerator. One that is missing (its demand is unknown) serves nothing, and work
        for it does not become overdue in that hour.
    asked
        The work that was asked for in each hour. Work that could still wait when the hours end counts as neither
        served nor unserved.
    """
    result, queue = Served(), list[Work]()
    for hour, (free, new) in enumerate(zip(capacities, asked, strict=True)):
        queue = sorted([*queue, *new], key=lambda work: (work.due, work.accelerator == ANY))
        for work in queue:
            _serve_work(work, free)
            if work.due <= hour and _known(work, free):
                result.unserved[work.workload_class] += work.gpus
                work.gpus = 0.0
        queue = [work for work in queue if work.gpus > _NOTHING]
        result.idle += sum(capacity.free for capacity in free.values())
    return result


def _serve_work(work: Work, free: Mapping[str, Capacity]) -> None:
    """Give work the GPUs that are left for it."""
    for accelerator, capacity in free.items():
        if work.accelerator in (ANY, accelerator):
            work.gpus -= capacity.take(work.gpus, spot=CLASS_RULES[work.workload_class].spot)


def _known(work: Work, free: Mapping[str, Capacity]) -> bool:
    """Return whether the demand of the work's accelerator is known in this hour."""
    return work.accelerator in free if work.accelerator != ANY else bool(free)
