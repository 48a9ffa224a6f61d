"""The load of Kueue's own scheduler benchmark: which gang comes when, asks for what, and runs for how long.

Source: kubernetes-sigs/kueue, test/performance/scheduler: configs/baseline/generator.yaml, and of large-scale the
version of commit f6517b0, which has 50,000 workloads (others have 60,000). By runner/generator/generator.go each set of
workloads of each queue has a loop of its own that creates one every `creationIntervalMs`; it waits before the first one
too, which here comes at 0: nothing else changes, and all sizes meet at once in the first moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

SEED = 5
MS = 1_000
"""Microseconds; all times here are whole microseconds from the start of the run."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The gangs of one size that every tenant submits, one after the other at a steady pace."""

    name: str
    count: int
    every: int
    run: int
    priority: int
    units: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """Cohorts of tenants that are all alike; `ci_s` is what Kueue's own CI takes for it, by its repository."""

    name: str
    cohorts: int
    tenants: int
    nominal: int
    borrow: int
    kinds: tuple[Kind, ...]
    ci_s: float

    @property
    def cohort_units(self) -> int:
        """What the tenants of one cohort hold together at most."""
        return self.tenants * self.nominal

    @property
    def tenant_units(self) -> int:
        """What one tenant holds at most: its own, and what it borrows."""
        return min(self.cohort_units, self.nominal + self.borrow)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gang:
    """One gang: so many units (pods of one GPU) for `run` microseconds."""

    key: str
    cohort: int
    tenant: str
    size: str
    arrival: int
    run: int
    units: int
    priority: int


BASELINE = Load(
    name="baseline",
    cohorts=5,
    tenants=6,
    nominal=20,
    borrow=100,
    kinds=(
        Kind(name="small", count=350, every=100 * MS, run=200 * MS, priority=50, units=1),
        Kind(name="medium", count=100, every=500 * MS, run=500 * MS, priority=100, units=5),
        Kind(name="large", count=50, every=1200 * MS, run=1000 * MS, priority=200, units=20),
    ),
    ci_s=351.1,
)

LARGE_SCALE = Load(
    name="large-scale",
    cohorts=10,
    tenants=100,
    nominal=20,
    borrow=100,
    kinds=(
        Kind(name="small", count=35, every=60 * MS, run=150 * MS, priority=50, units=1),
        Kind(name="medium", count=11, every=300 * MS, run=350 * MS, priority=100, units=5),
        Kind(name="large", count=4, every=700 * MS, run=700 * MS, priority=200, units=20),
    ),
    ci_s=1179.0,
)


def gangs_of(load: Load) -> list[Gang]:
    """Return all gangs of a load in order of arrival."""
    gangs = [
        Gang(
            key=f"{cohort}-{tenant}-{kind.name}-{number}",
            cohort=cohort,
            tenant=tenant_name(cohort, tenant),
            size=kind.name,
            arrival=number * kind.every,
            run=kind.run,
            units=kind.units,
            priority=kind.priority,
        )
        for cohort in range(load.cohorts)
        for tenant in range(load.tenants)
        for kind in load.kinds
        for number in range(kind.count)
    ]
    return sorted(gangs, key=lambda gang: gang.arrival)


def tenant_name(cohort: int, tenant: int) -> str:
    """Name a tenant of a cohort."""
    return f"t{cohort}-{tenant}"


def out_of_step(gangs: Sequence[Gang], jitter: int) -> list[Gang]:
    """Return gangs whose runs take up to `jitter` microseconds longer, as those of real clients do.

    Kueue's all begin and end at multiples of 100 ms, so that slots come free together.
    """
    late = Random(SEED)
    return [replace(gang, run=gang.run + late.randint(0, jitter)) for gang in gangs]
