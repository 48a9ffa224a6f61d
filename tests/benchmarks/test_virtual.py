"""A load in virtual time, through the ledger's own admission."""

from __future__ import annotations

from benchmarks.parts.load.floor import floor_of
from benchmarks.parts.load.kueue_load import Kind, Load, gangs_of
from benchmarks.parts.load.virtual import virtual_course

MS = 1_000
TINY = Load(
    name="tiny",
    cohorts=1,
    tenants=2,
    nominal=4,
    borrow=4,
    kinds=(
        Kind(name="small", count=20, every=100 * MS, run=200 * MS, priority=50, units=1),
        Kind(name="large", count=4, every=400 * MS, run=400 * MS, priority=200, units=4),
    ),
    ci_s=0.0,
)


def test_virtual_time_takes_no_less_than_the_work() -> None:
    """All gangs come and go, within the limits that the work itself and the greedy floor set."""
    gangs = gangs_of(TINY)
    course, floor = virtual_course(TINY, gangs), floor_of(TINY, gangs)
    work = sum(gang.units * gang.run for gang in gangs) / 8 / 1e6
    assert work <= course.makespan <= 1.5 * floor.makespan
    assert course.waits["large"] <= floor.waits["large"] + 0.4


def test_ends_noticed_late_make_it_longer() -> None:
    """Each end that is noticed 50 ms late at most costs time, and never more than that a run."""
    gangs = gangs_of(TINY)
    on_time, late = virtual_course(TINY, gangs), virtual_course(TINY, gangs, late=50 * MS)
    assert on_time.makespan < late.makespan < 1.3 * on_time.makespan
