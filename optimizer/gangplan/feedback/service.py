"""Whom the nodes that ran could serve: work by due hour, later work on what is left.

The rules of each workload class (`types.CLASS_RULES`) are those that the plan is made by, unless its policy changes
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gangplan.types import ANY, CLASS_RULES, WorkloadClass

_NOTHING = 1e-9


@dataclass(kw_only=True)
class Room:
    """GPUs of one accelerator in one hour, used up as work is served."""

    firm: float = 0.0
    spot: float = 0.0

    @property
    def free(self) -> float:
        """What is left."""
        return self.firm + self.spot

    def take(self, gpus: float, *, spot: bool) -> float:
        """Use up to that many GPUs, those that may be taken away first, and return how many there were."""
        from_spot = min(gpus, self.spot) if spot else 0.0
        from_firm = min(gpus - from_spot, self.firm)
        self.spot -= from_spot
        self.firm -= from_firm
        return from_spot + from_firm


@dataclass(kw_only=True)
class Work:
    """GPU-hours of one class asked for in one hour, to be served by the hour `due`."""

    workload_class: WorkloadClass
    accelerator: str
    gpus: float
    due: int


@dataclass(kw_only=True)
class Served:
    """What was left over on both sides, in GPU-hours."""

    unserved: dict[WorkloadClass, float] = field(default_factory=lambda: dict.fromkeys(WorkloadClass, 0.0))
    idle: float = 0.0


def serve(rooms: Sequence[Mapping[str, Room]], asked: Sequence[Iterable[Work]]) -> Served:
    """Go through the hours: serve what is due first, drop what is overdue, carry the rest over.

    A room that is not there (its demand is unknown) serves nobody and lets nothing become overdue. Work that could
    still wait when the hours end is neither served nor unserved.
    """
    result, queue = Served(), list[Work]()
    for hour, (free, new) in enumerate(zip(rooms, asked, strict=True)):
        queue = sorted([*queue, *new], key=lambda one: (one.due, one.accelerator == ANY))
        for work in queue:
            _serve_one(work, free)
        for work in [one for one in queue if one.due <= hour and _known(one, free)]:
            result.unserved[work.workload_class] += work.gpus
            work.gpus = 0.0
        queue = [one for one in queue if one.gpus > _NOTHING]
        result.idle += sum(room.free for room in free.values())
    return result


def _serve_one(work: Work, free: Mapping[str, Room]) -> None:
    """Give work what its rooms have left."""
    rooms = free.values() if work.accelerator == ANY else [free[work.accelerator]] if work.accelerator in free else []
    for room in rooms:
        work.gpus -= room.take(work.gpus, spot=CLASS_RULES[work.workload_class].spot)


def _known(work: Work, free: Mapping[str, Room]) -> bool:
    """Whether this hour says anything about work of that accelerator."""
    return work.accelerator in free if work.accelerator != ANY else bool(free)
