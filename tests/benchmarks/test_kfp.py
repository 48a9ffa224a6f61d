"""What the benchmark of Kubeflow Pipelines makes of what it saw: runs lost, runs doubled, the slowest to be free."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmarks.parts.kfp.dead import KINDS, slowest
from benchmarks.parts.kfp.parallel import Seen, doubled, lost

from gangplan.types import ReservationState

FIRST = Seen(key="kfp/run-1/gang", id="r-1", token=1, state=ReservationState.GRANTED, open_ms=1.0, submit_ms=2.0)
OTHER = replace(FIRST, key="kfp/run-2/gang", id="r-2", token=2)


@pytest.mark.parametrize(
    ("again", "other", "found"),
    [
        (FIRST, OTHER, 0),
        (replace(FIRST, id="r-3"), OTHER, 1),
        (replace(FIRST, token=3), OTHER, 1),
        (FIRST, replace(OTHER, id="r-1"), 2),
    ],
)
def test_a_run_that_has_two_reservations_or_another_s_is_doubled(again: Seen, other: Seen, found: int) -> None:
    """Its second try must find just what the first one got."""
    assert doubled([(FIRST, again), (other, other)]) == found


def test_a_run_without_slots_is_lost() -> None:
    """So is one of which nothing was seen."""
    waits = replace(OTHER, token=None, state=ReservationState.WAITING)
    assert lost([(FIRST, FIRST), (waits, waits)], 3) == 2


def test_the_slowest_run_counts_until_another_gang_has_its_slots() -> None:
    """The time until slots that were free were granted is added to the run's own."""
    took, words = slowest([(KINDS[0], 10.0, 30.0), (KINDS[1], 10.0, 50.0)], granted=[31.0, 52.0])
    assert took == 42.0
    assert words == f"{KINDS[0]} 20.0 s of 1; {KINDS[1]} 40.0 s of 1; passed on 2.0 s"
