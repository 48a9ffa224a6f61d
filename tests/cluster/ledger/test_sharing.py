"""Cohorts, flavors and preemption across queues, as Kueue decides them and the ledger tells them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gangplan.errors import InputError
from gangplan.testing import a_request
from gangplan.types import PodSet, ReservationState
from tests.cluster.conftest import Space

HOUR, SOON = timedelta(hours=1), timedelta(seconds=10)
GRANTED, WAITING = ReservationState.GRANTED, ReservationState.WAITING


def gpus(key: str, count: int, **more: object) -> object:
    """Return a request for so many pods of one GPU."""
    return a_request(key, pod_sets=(PodSet(count=count, gpus_per_pod=1),), **more)


def test_a_queue_borrows_what_its_cohort_does_not_use_and_no_more(space: Space) -> None:
    """What may be borrowed is on the calendar; what another uses is not there."""
    flavor = space.flavor()
    space.queue({flavor: 8}, local="mine", cohort="lab")
    space.queue({flavor: 8}, local="theirs", cohort="lab", lends=4)
    mine, theirs = space.ledger("mine"), space.ledger("theirs")
    now = space.clock()
    assert mine.calendar(now, now + HOUR)[0].planned_gpus == 12
    assert mine.submit(gpus("a", 12)).state is GRANTED
    assert mine.submit(gpus("b", 1)).state is WAITING
    assert theirs.submit(gpus("c", 4)).state is GRANTED
    assert theirs.submit(gpus("d", 1)).state is WAITING


def test_what_was_lent_is_reclaimed_within_two_seconds(space: Space) -> None:
    """The owner's gang preempts a borrower, whole; the borrower's end is completed by us."""
    flavor = space.flavor()
    space.queue({flavor: 8}, local="borrower", cohort="lab")
    space.queue({flavor: 8}, local="owner", cohort="lab", preempts=True)
    borrower, owner = space.ledger("borrower"), space.ledger("owner")
    with pytest.raises(InputError, match=r"preemptible: False cannot be promised here .*reclaims what was lent"):
        borrower.submit(gpus("firm", 4))
    own, lent = (borrower.submit(gpus(key, 8, preemptible=True)) for key in ("own", "lent"))
    assert (own.state, lent.state) == (GRANTED, GRANTED)
    back = owner.submit(gpus("back", 8, preemptible=True))
    assert owner.wait(back.id, timeout=timedelta(seconds=2)).state is GRANTED
    ends = sorted(borrower.get(one.id).state for one in (own, lent))
    assert ends == [GRANTED, ReservationState.PREEMPTED]


def test_each_accelerator_has_its_flavor_and_the_queue_its_order(space: Space) -> None:
    """A request for one gets that one; for several, in the queue's order, and another order is refused."""
    h100, a100 = space.flavor("h100"), space.flavor("a100", pool="a100-owned")
    space.queue({h100: 8, a100: 8})
    ledger = space.ledger()
    only = ledger.submit(gpus("only", 4, accelerators=("a100",)))
    assert {place.pool for place in only.placements} == {a100}
    both = ("h100", "a100")
    first = ledger.submit(gpus("first", 8, accelerators=both))
    assert {place.pool for place in first.placements} == {h100}
    second = ledger.submit(gpus("second", 4, accelerators=both))
    assert {place.pool for place in second.placements} == {a100}
    with pytest.raises(InputError, match="are preferred in another order than the queue tries them"):
        ledger.submit(gpus("third", 1, accelerators=("a100", "h100")))


def test_two_pod_sets_are_granted_together(space: Space, queue: str) -> None:
    """One gang of two shapes, whole or not at all."""
    ledger = space.ledger()
    pods = (PodSet(count=1, gpus_per_pod=2), PodSet(count=2, gpus_per_pod=3))
    held = ledger.submit(a_request("a", pod_sets=pods))
    assert [(place.pod_set, place.pods, place.gpus) for place in held.placements] == [(0, 1, 2), (1, 2, 6)]
    assert ledger.submit(a_request("b", pod_sets=pods)).state is WAITING
