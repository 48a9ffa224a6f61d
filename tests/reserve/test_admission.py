"""Decide, then commit: a decision leaves the book as it was, is the same when made again, and commit keeps to it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event, given, settings, strategies as st

from gangplan.clock import to_us
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.scheduler import admit, commit, decide, look_ahead
from gangplan.reserve.codec import id_of
from gangplan.reserve.policy.rules import Policy, Preemption, Quota, TenantPolicy
from gangplan.testing import NOW, a_calendar, a_pool, a_request
from gangplan.types import PodSet, ReservationState

MINUTE = timedelta(minutes=1)
QUICK = Preemption(notice=MINUTE, grace=timedelta(0))
SHARED = {name: TenantPolicy(cohort="all", quotas={"h100": Quota(nominal=12)}) for name in ("a", "b", "c")}


def picture(book: Book, now: int) -> dict[str, Any]:
    """Return all that a book says, in a form that can be compared."""
    return {
        "live": {entry.id: entry.snapshot() for entry in book.live.values()},
        "line": [entry.id for entry in book.in_order()],
        "promised": set(book.promised),
        "leaving": set(book.leaving),
        "changed": set(book.changed),
        "free": list(book.occupancy.free_capacity(now, now + to_us(NOW))),
        "shares": {tenant: book.occupancy.share(tenant) for tenant in SHARED},
        "agenda": (book.agenda.freed, book.agenda.unserved, book.agenda.lost, book.agenda.ranks, book.next_due()),
        "tokens": book.tokens,
    }


def crowd(book: Book, dice: random.Random, step: int, now: int) -> None:
    """Let some gangs come and some leave, and at times a node."""
    for number in range(dice.randrange(4)):
        key = f"{step}-{number}"
        request = a_request(
            key,
            tenant=dice.choice("abc"),
            pod_sets=(PodSet(count=dice.choice([1, 1, 2, 3]), gpus_per_pod=dice.choice([1, 4, 8])),),
            duration=dice.choice([5, 20, 60]) * MINUTE,
            priority=dice.choice([0, 50]),
            preemptible=dice.random() < 0.5,
            earliest_start=None if dice.random() < 0.8 else NOW + (step + dice.randrange(1, 60)) * MINUTE,
        )
        book.enter(request, id=id_of(key), body="", now=now)
    running = sorted(book.granted(), key=lambda entry: entry.id)
    if running and dice.random() < 0.6:
        book.end(dice.choice(running), ReservationState.RELEASED, now)
    if running and dice.random() < 0.1:
        book.interrupt(dice.choice(running))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([Policy(), Policy(tenants=SHARED, preemption=QUICK, depth=3)]))
def test_a_decision_is_pure_and_commit_keeps_to_it(seed: int, policy: Policy) -> None:
    """Two decisions on one book are the same and change nothing; committed, a decision holds as it was made."""
    dice, book = random.Random(seed), Book()
    book.load(a_calendar([a_pool(gpus_per_node=8, max_nodes=4)]), policy, {})
    for step in range(12):
        now = to_us(NOW + step * 3 * MINUTE)
        crowd(book, dice, step, now)
        before = picture(book, now)
        decision = decide(book, now)
        assert picture(book, now) == before
        again = decide(book, now)
        assert [(entry.id, after) for entry, after, _ in decision.changes] == [
            (entry.id, after) for entry, after, _ in again.changes
        ]
        commit(book, decision)
        for entry, after, _ in decision.changes:
            assert entry.snapshot() == after
            event(entry.state)


def test_a_trial_that_fails_is_taken_back() -> None:
    """Whatever a block did before it raised, the book is as it was: what came in it goes, what left it is back."""
    dice, book, now = random.Random(1), Book(), to_us(NOW)
    book.load(a_calendar([a_pool(gpus_per_node=8, max_nodes=2)]), Policy(), {})
    for step in range(4):
        crowd(book, dice, step, now)
        admit(book, now)
    before = picture(book, now)

    def fails() -> None:
        with book.trial():
            book.enter(a_request("new"), id=id_of("new"), body="", now=now)
            book.end(book.granted()[0], ReservationState.RELEASED, now)
            look_ahead(book, now)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert picture(book, now) == before
    assert book.arrivals == max(entry.arrival for entry in book.live.values())
