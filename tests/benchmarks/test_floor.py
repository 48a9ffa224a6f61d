"""The floor that the ledger's course of Kueue's load is held against."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmarks.parts.load.floor import floor_of
from benchmarks.parts.load.kueue_load import BASELINE, LARGE_SCALE, Gang, Kind, Load, gangs_of, out_of_step

SECOND = 1_000_000


def a_load(**changes: object) -> Load:
    """Return a load whose cohorts hold 4 units, 2 from each tenant, all of which may be borrowed."""
    plain = Load(name="tiny", cohorts=1, tenants=2, nominal=2, borrow=2, kinds=(), ci_s=0.0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def a_gang(key: str, **changes: object) -> Gang:
    """Return a gang of one unit for a second, there from the start."""
    plain = Gang(key=key, cohort=0, tenant="a", size="small", arrival=0, run=SECOND, units=1, priority=50)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_gangs_that_fit_wait_for_nothing() -> None:
    """Where all fit at once, nobody waits and the makespan is the longest run."""
    course = floor_of(a_load(), [a_gang("x"), a_gang("y", run=3 * SECOND, units=3)])
    assert course.makespan == 3
    assert course.waits == {"small": 0}


def test_the_higher_priority_goes_first() -> None:
    """Of two that wait for the same units, the higher priority starts first though it came later."""
    gangs = [
        a_gang("runs", units=4),
        a_gang("low", units=4, arrival=100_000, size="low"),
        a_gang("high", units=4, arrival=200_000, size="high", priority=60),
    ]
    course = floor_of(a_load(), gangs)
    assert course.waits == {"small": 0, "high": pytest.approx(0.8), "low": pytest.approx(1.9)}
    assert course.makespan == 3


def test_whoever_fits_passes_one_that_does_not() -> None:
    """It is greedy: a small gang of low priority starts beside a large one that has to wait."""
    gangs = [
        a_gang("runs", units=2, size="first"),
        a_gang("large", arrival=200_000, units=4, priority=60, size="large"),
        a_gang("small", arrival=400_000),
    ]
    course = floor_of(a_load(), gangs)
    assert course.waits == {"first": 0, "small": 0, "large": pytest.approx(1.2)}


def test_a_tenant_stays_within_what_it_may_borrow() -> None:
    """A tenant's limit holds though its cohort has units left, and another tenant may have them."""
    gangs = [a_gang("1", units=2), a_gang("2", units=2, size="over"), a_gang("3", tenant="b", size="other", units=2)]
    course = floor_of(a_load(borrow=0), gangs)
    assert course.waits == {"small": 0, "over": 1, "other": 0}


def test_cohorts_lend_each_other_nothing() -> None:
    """A full cohort makes its own gangs wait and no others."""
    gangs = [a_gang("1", units=4), a_gang("2", size="behind"), a_gang("3", cohort=1, tenant="z", size="beside")]
    assert floor_of(a_load(cohorts=2), gangs).waits == {"small": 0, "behind": 1, "beside": 0}


@pytest.mark.parametrize(("load", "gangs", "busy_s"), [(BASELINE, 15_000, 66.0), (LARGE_SCALE, 50_000, 4.025)])
def test_the_floor_is_no_less_than_the_work(load: Load, gangs: int, busy_s: float) -> None:
    """A load has as many gangs as Kueue says, and no course is shorter than its work on all units at once."""
    there = gangs_of(load)
    assert len(there) == gangs
    work = sum(gang.units * gang.run for gang in there) / SECOND / load.cohorts / load.cohort_units
    assert work == pytest.approx(busy_s)
    assert floor_of(load, there).makespan >= work


def test_the_floor_of_the_baseline_is_the_known_one() -> None:
    """The baseline's floor is 66.1 s, with mean waits of 44.7, 11.4 and 0.21 s."""
    course = floor_of(BASELINE, gangs_of(BASELINE))
    assert course.makespan == pytest.approx(66.1)
    assert course.waits == {
        "small": pytest.approx(44.7, abs=0.05),
        "medium": pytest.approx(11.4, abs=0.05),
        "large": pytest.approx(0.21, abs=0.005),
    }


def test_gangs_come_at_their_pace() -> None:
    """Each tenant submits each kind once an interval, the first at the start, in order of arrival over all."""
    kind = Kind(name="k", count=3, every=10, run=1, priority=1, units=1)
    there = gangs_of(a_load(kinds=(kind,)))
    assert [(gang.arrival, gang.tenant) for gang in there] == [
        (at, tenant) for at in (0, 10, 20) for tenant in ("t0-0", "t0-1")
    ]


def test_the_floor_of_the_baseline_loses_its_order_where_ends_are_a_little_late() -> None:
    """Slots then come free one by one, which the small ones take: the large ones, first in rank, wait."""
    gangs = gangs_of(BASELINE)
    even, late = floor_of(BASELINE, gangs), floor_of(BASELINE, out_of_step(gangs, 1_000))
    assert even.waits["large"] < 1 < even.waits["small"]
    assert late.waits["small"] < 1 < late.waits["large"]
    assert late.makespan > 1.05 * even.makespan
