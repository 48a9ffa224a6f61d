"""A reason names who stands in the way when it is asked for; the same on every ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from queue import SimpleQueue

import pytest

from gangplan.errors import WaitTimeoutError
from gangplan.reserve import Ledger, Policy, Quota, TenantPolicy
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import Limit, PodSet, Reason, Reservation

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
ONE = (PodSet(count=1, gpus_per_pod=4),)


@contextmanager
def news_of(ledger: Ledger, waits: Reservation) -> Iterator[SimpleQueue[Reservation]]:
    """Yield what a subscriber to a reservation is told."""
    told: SimpleQueue[Reservation] = SimpleQueue()
    unsubscribe = ledger.subscribe(waits.id, told.put)
    yield told
    unsubscribe()


def all_reasons(ledger: Ledger, waits: Reservation, fake: FakeClock) -> list[Reason]:
    """Return the reason as each way to ask for it gives it."""
    listed = next(one for one in ledger.list() if one.id == waits.id)
    with news_of(ledger, waits) as told:
        heard = told.get(timeout=20)
    asked = (ledger.get(waits.id), ledger.find(waits.request.request_key), ledger.submit(waits.request), listed, heard)
    reasons = [one.reason for one in asked]
    reasons += [next(ledger.watch(waits.id, sleep=fake.sleep)).reason, ledger.explain(waits.id)]
    assert all(reasons)
    return [reason for reason in reasons if reason is not None]


def test_a_reason_names_who_holds_the_slots_now(ledger: Ledger, fake: FakeClock) -> None:
    """One of those in its way gives its slots back, another takes them: however it is asked for, the reason follows."""
    long = ledger.submit(a_request("long", tenant="search", pod_sets=ONE, duration=2 * HOUR))
    short = ledger.submit(a_request("short", tenant="language", pod_sets=ONE))
    waits = ledger.submit(a_request("waits"))
    assert all("language short" in reason.message for reason in all_reasons(ledger, waits, fake))
    assert short.token is not None
    ledger.release(short.id, short.token)
    for reason in all_reasons(ledger, waits, fake):
        assert reason.holders == (long.id,)
        assert "4 of 8 free" in reason.message
    other = ledger.submit(a_request("other", tenant="ops", pod_sets=ONE, duration=30 * MINUTE))
    for reason in all_reasons(ledger, waits, fake):
        assert reason.holders == (other.id, long.id)
        assert "ops other" in reason.message
        assert "language" not in reason.message
    with pytest.raises(WaitTimeoutError, match="ops other"):
        ledger.wait(waits.id, timeout=MINUTE, sleep=fake.sleep)


def test_a_request_that_the_policy_shrank_below_says_so(ledger: Ledger) -> None:
    """It was taken when it could have been served; now it can never start, and the reason says which limit and what."""
    ledger.submit(a_request("first", tenant="search"))
    waits = ledger.submit(a_request("waits"))
    quotas = {"h100": Quota(nominal=4)}
    ledger.set_policy(Policy(tenants={"vision": TenantPolicy(quotas=quotas)}), by="ada", why="less for vision")
    reason = ledger.get(waits.id).reason
    assert reason is not None
    assert reason.limit is Limit.QUOTA
    assert "can never start as the policy is now" in reason.message
    assert "vision asks for 8" in reason.message
    assert "at most 4 GPUs of h100" in reason.message
    assert ledger.get(waits.id).eta is None


def test_a_request_that_the_pools_shrank_below_says_so(ledger: Ledger) -> None:
    """A calendar with smaller pools, or without its accelerator, is named; a plan that is short of nodes is another."""
    ledger.submit(a_request("first", tenant="search"))
    waits = ledger.submit(a_request("waits"))
    for pools, hours, words in (
        ([a_pool(max_nodes=1)], [1], "can never start as the pools are now: pod_sets"),
        ([a_pool("a100-owned")], None, "can never start as the pools are now: accelerators"),
        (
            [a_pool()],
            [1],
            "the present calendar never has the nodes for it (at most 4 GPUs): it waits for another plan",
        ),
    ):
        ledger.publish(a_calendar(pools, hours=hours))
        reason = ledger.get(waits.id).reason
        assert reason is not None
        assert reason.limit is Limit.CALENDAR
        assert words in reason.message


def test_a_window_without_a_promise_says_what_the_calendar_has_then(ledger: Ledger) -> None:
    """No longer that its slots are still to come."""
    window = ledger.submit(a_request("w", earliest_start=NOW + 4 * HOUR, latest_start=NOW + 5 * HOUR))
    assert window.promised
    ledger.publish(a_calendar(hours=[2, 2, 2, 2, 0, 0, 2]))
    reason = ledger.get(window.id).reason
    assert reason is not None
    assert "no slots are promised: the calendar has 0 GPUs of h100-owned then" in reason.message
