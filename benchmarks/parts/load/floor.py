"""The zero-latency floor: what a load takes when every grant and every release costs nothing.

Greedy: at each arrival and each end, serve the cohort's line in priority, then arrival order, and grant all that fit
the cohort and their tenants' limits; one that does not fit is passed over. There are no promises and no preemption.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import groupby
from statistics import fmean
from typing import TypeAlias

from benchmarks.parts.load.kueue_load import Gang, Load

SECOND = 1_000_000

Line: TypeAlias = deque[tuple[int, int, Gang]]
"""Gangs of one tenant, priority and size in order of arrival: the rank, the number of the arrival, the gang."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a load went: seconds from the start to the last end, and the mean wait of each size in seconds."""

    makespan: float
    waits: dict[str, float]


@dataclass(slots=True)
class _Cohort:
    """What one cohort has free, who holds what of it, and who waits: by units, by (priority, tenant)."""

    free: int
    limit: int
    held: dict[str, int] = field(default_factory=dict[str, int])
    lines: dict[int, dict[tuple[int, str], Line]] = field(default_factory=dict[int, dict[tuple[int, str], Line]])

    def wait(self, gang: Gang, number: int) -> None:
        """Put a gang at the end of its line."""
        line = self.lines.setdefault(gang.units, {}).setdefault((gang.priority, gang.tenant), deque())
        line.append((-gang.priority, number, gang))

    def first_that_fits(self) -> Gang | None:
        """Take the gang out of its line that goes first of all that fit."""
        lines = [
            line
            for units, by_tenant in self.lines.items()
            if units <= self.free
            for (_, tenant), line in by_tenant.items()
            if line and self.held.get(tenant, 0) + units <= self.limit
        ]
        return min(lines, key=lambda line: line[0][:2]).popleft()[2] if lines else None

    def hold(self, gang: Gang, units: int) -> None:
        """Let a gang hold so many units more."""
        self.free -= units
        self.held[gang.tenant] = self.held.get(gang.tenant, 0) + units


def floor_of(load: Load, gangs: Sequence[Gang]) -> Course:
    """Return the course of a load with no latency at all; the gangs come in order of arrival."""
    by_cohort = groupby(sorted(gangs, key=lambda gang: gang.cohort), key=lambda gang: gang.cohort)
    waited: dict[str, list[int]] = {}
    makespan = 0
    for _, members in by_cohort:
        for gang, start in _run(_Cohort(load.cohort_units, load.tenant_units), members):
            waited.setdefault(gang.size, []).append(start - gang.arrival)
            makespan = max(makespan, start + gang.run)
    return Course(makespan=makespan / SECOND, waits={size: fmean(each) / SECOND for size, each in waited.items()})


def _run(cohort: _Cohort, gangs: Iterable[Gang]) -> list[tuple[Gang, int]]:
    """Return when each gang of one cohort starts."""
    events: list[tuple[int, int, bool, Gang]] = [(gang.arrival, n, True, gang) for n, gang in enumerate(gangs)]
    number, started = len(events), list[tuple[Gang, int]]()
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, order, arrives, gang = heappop(events)
            if arrives:
                cohort.wait(gang, order)
            else:
                cohort.hold(gang, -gang.units)
        while (gang := cohort.first_that_fits()) is not None:
            cohort.hold(gang, gang.units)
            started.append((gang, now))
            heappush(events, (now + gang.run, number := number + 1, False, gang))
    return started
