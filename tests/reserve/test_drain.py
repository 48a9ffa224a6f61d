"""When waiting requests are expected to start: what must hold of every estimate, and how often the ledger agrees."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.effort import effort, examples

from gangplan.clock import from_us, to_us
from gangplan.feedback import scoring
from gangplan.reserve import Ledger
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.expected import estimate, eta_errors, learned_ratio, waited
from gangplan.reserve.policy.rules import Policy, Quota, TenantPolicy
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request, memory_ledger
from gangplan.types import GangRequest, PodSet, Reservation, ReservationId, ReservationState

MINUTE = timedelta(minutes=1)
LEAST = 0.1  # holders use from this part of their walltime up to all of it, each part as likely
RATIO = LEAST + 0.35 * (1 - LEAST)  # what is learned of such holders
PODS = [(1, 1), (1, 2), (2, 2), (1, 4), (2, 4), (4, 4), (1, 8), (2, 8)]


def book_of(ledger: Ledger) -> Book:
    """Return the book of a ledger in memory."""
    return ledger._store._book  # type: ignore[attr-defined]


def guesses(ledger: Ledger, clock: FakeClock, ratio: float = 1.0) -> dict[ReservationId, tuple[datetime, datetime]]:
    """Return the estimate of all that waits, as times."""
    found = estimate(book_of(ledger), to_us(clock()), ratio=ratio)
    return {id: (from_us(first), from_us(last)) for id, (first, last) in found.items()}


# ---------------------------------------------------------------- against the ledger itself


class Play:
    """A ledger whose holders release after a random part of their walltime, played to its end."""

    def __init__(self, seed: int, *, nodes: int, gangs: int, later: int = 0) -> None:
        self.rng = random.Random(seed)
        self.clock = FakeClock()
        self.ledger = memory_ledger(self.clock, a_calendar([a_pool(gpus_per_node=8, max_nodes=nodes)]))
        self.nodes, self.later = nodes, later
        self.releases: list[tuple[datetime, ReservationId]] = []
        self.starts: dict[ReservationId, datetime] = {}
        for number in range(gangs):
            self.submit(f"k{number}")
        self.settle()

    def submit(self, key: str) -> None:
        """Ask for a gang of any shape, for up to two hours."""
        count, size = self.rng.choice([pods for pods in PODS if pods[0] * pods[1] <= 8 * self.nodes])
        duration = self.rng.randint(10, 120) * MINUTE
        self.ledger.submit(
            a_request(
                key,
                tenant=self.rng.choice("abc"),
                pod_sets=(PodSet(count=count, gpus_per_pod=size),),
                duration=duration,
            )
        )

    def settle(self) -> None:
        """Note who started, and draw when each of them will be done."""
        for one in self.ledger.list(state=ReservationState.GRANTED):
            if one.id not in self.starts:
                self.starts[one.id] = self.clock()
                heappush(self.releases, (self.clock() + self.rng.uniform(LEAST, 1.0) * one.request.limit, one.id))

    def step(self) -> bool:
        """Go on to the next end, or promised start; return whether anything is left."""
        due = book_of(self.ledger).next_due()
        moments = [self.releases[0][0]] if self.releases else []
        moments += [] if due is None else [from_us(due)]
        if not moments:
            return False
        self.clock.now = max(self.clock(), min(moments))
        if self.releases and self.releases[0][0] <= self.clock():
            one = self.ledger.get(heappop(self.releases)[1])
            if one.state is ReservationState.GRANTED and one.token is not None:
                self.ledger.release(one.id, one.token)
        if self.later and self.rng.random() < 0.3:
            self.later -= 1
            self.submit(f"later{self.later}")
        self.ledger.tick()
        self.settle()
        return True


def coverage(seed: int, *, nodes: int, gangs: int, later: int) -> list[tuple[bool, bool]]:
    """Return of each that waits after five steps whether it starts no earlier, and no later, than estimated."""
    play = Play(seed, nodes=nodes, gangs=gangs, later=later)
    for _ in range(5):
        play.step()
    found = guesses(play.ledger, play.clock, RATIO)
    waiting = {one.id for one in play.ledger.list(state=ReservationState.WAITING)}
    assert found.keys() == waiting
    while play.step():
        pass
    return [(first <= play.starts[id], play.starts[id] <= last) for id, (first, last) in found.items()]


@pytest.mark.parametrize(("nodes", "gangs", "later"), [(1, 20, 0), (2, 20, 0), (4, 40, 0), (4, 40, 20), (16, 120, 40)])
@pytest.mark.searches
def test_most_starts_lie_in_the_range(nodes: int, gangs: int, later: int) -> None:
    """Of all that waited, at least 80 in 100 start within the range, and at most 2 in 100 later.

    Measured, with gangs of 1 to 16 GPUs that use 10 to 100 in 100 of their walltime, in the order of the parameters:
    84, 88, 90, 89 and 88 in 100 inside; the rest earlier, since a small gang slipped through; none later.
    """
    seen = [one for seed in range(effort(8, 40)) for one in coverage(seed, nodes=nodes, gangs=gangs, later=later)]
    early, late = (sum(not one[side] for one in seen) / len(seen) for side in (0, 1))
    print(
        f"{nodes} nodes, {gangs} + {later} gangs: {len(seen)} waited, {1 - early - late:.1%} inside, {late:.1%} later"
    )
    assert len(seen) > 60
    assert early + late <= 0.2
    assert late <= 0.02


def test_with_no_ratio_the_early_end_is_no_use() -> None:
    """The check above can fail: without what was learned, many start before the range."""
    seen = [one for seed in range(8) for one in _unlearned(seed)]
    assert sum(not first for first, _ in seen) / len(seen) > 0.3


def _unlearned(seed: int) -> list[tuple[bool, bool]]:
    play = Play(seed, nodes=4, gangs=40)
    found = guesses(play.ledger, play.clock, 1.0)
    while play.step():
        pass
    return [(first <= play.starts[id], play.starts[id] <= last) for id, (first, last) in found.items()]


# ---------------------------------------------------------------- what must hold


def whole(key: str, minutes: int, **changes: Any) -> GangRequest:
    """Return a request for all of a pool of 2 nodes x 4 GPUs."""
    return a_request(key, pod_sets=(PodSet(count=2, gpus_per_pod=4),), duration=minutes * MINUTE, **changes)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=12), st.integers(1, 10))
@examples(30, 600)
def test_one_gang_at_a_time_is_a_plain_sum(minutes: list[int], tenths: int) -> None:
    """In a pool that holds one gang, each starts when those ahead have used their walltimes, or that part of them."""
    clock = FakeClock()
    with memory_ledger(clock) as ledger:
        ids = [ledger.submit(whole(f"k{at}", length)).id for at, length in enumerate(minutes)]
        found = guesses(ledger, clock, tenths / 10)
    assert found.keys() == set(ids[1:])
    for at, id in enumerate(ids[1:], start=1):
        assert found[id][1] == NOW + sum(minutes[:at]) * MINUTE
        assert abs(found[id][0] - (NOW + sum(minutes[:at]) * MINUTE * tenths / 10)) < timedelta(seconds=1)


@given(st.integers(0, 10**6), st.sampled_from([0.2, 0.5, 1.0]))
@examples(15, 400)
def test_ranges_are_ordered_and_identical_requests_start_in_turn(seed: int, ratio: float) -> None:
    """From is never behind to, nor before now; no promise is passed; of two alike the one behind starts no earlier."""
    play = Play(seed, nodes=3, gangs=25)
    found = guesses(play.ledger, play.clock, ratio)
    last: dict[tuple[Any, ...], tuple[datetime, datetime]] = {}
    for entry in book_of(play.ledger).in_order():
        first, end = found[entry.id]
        assert play.clock() <= first <= end
        assert entry.promise is None or end == from_us(entry.promise.start)
        alike = (entry.request.pod_sets, entry.limit, entry.promise is None)
        if entry.promise is None:
            assert alike not in last or (first >= last[alike][0] and end >= last[alike][1])
            last[alike] = first, end


def test_free_capacity_and_no_line_is_now() -> None:
    """What waits only for the next admission is expected now: from now, to now."""
    book = Book()
    book.load(a_calendar(), book.policy, {})
    entry = book.enter(a_request(), id=ReservationId("one"), body="", now=to_us(NOW))
    assert estimate(book, to_us(NOW), ratio=1.0) == {entry.id: (to_us(NOW), to_us(NOW))}


def test_what_no_pool_serves_is_left_out() -> None:
    """After a calendar without its accelerator, a request has no estimate; the others keep theirs."""
    clock = FakeClock()
    with memory_ledger(clock, a_calendar([a_pool(), a_pool("a100-owned")])) as ledger:
        for name in ("h100", "a100"):
            ledger.submit(whole(f"{name}-runs", 60, accelerators=(name,)))
        stays = ledger.submit(whole("stays", 60))
        gone = ledger.submit(whole("gone", 60, accelerators=("a100",)))
        assert guesses(ledger, clock).keys() == {stays.id, gone.id}
        ledger.publish(a_calendar())
        assert guesses(ledger, clock).keys() == {stays.id}


def test_the_pool_that_is_free_first_is_taken() -> None:
    """A gang that takes two accelerators is expected where it starts first."""
    clock = FakeClock()
    with memory_ledger(clock, a_calendar([a_pool(), a_pool("a100-owned")])) as ledger:
        ledger.submit(whole("long", 120))
        ledger.submit(whole("short", 30, accelerators=("a100",)))
        either = ledger.submit(whole("either", 60, accelerators=("h100", "a100")))
        assert guesses(ledger, clock)[either.id] == (NOW + 30 * MINUTE, NOW + 30 * MINUTE)


def test_a_window_is_expected_at_its_promise_and_nobody_runs_across_it() -> None:
    """A firm window keeps its start; who would still run then is expected behind it."""
    clock = FakeClock()
    with memory_ledger(clock) as ledger:
        window = ledger.submit(whole("window", 60, earliest_start=NOW + 60 * MINUTE))
        crossing = ledger.submit(whole("crossing", 90))
        found = guesses(ledger, clock)
    assert found[window.id] == (NOW + 60 * MINUTE, NOW + 60 * MINUTE)
    assert found[crossing.id] == (NOW + 120 * MINUTE, NOW + 120 * MINUTE)


def test_the_calendar_counts() -> None:
    """Nodes that the plan brings later are waited for."""
    book = Book()
    book.load(a_calendar(hours=[1, 1, 2]), book.policy, {})
    entry = book.enter(whole("two", 60), id=ReservationId("two"), body="", now=to_us(NOW))
    assert estimate(book, to_us(NOW), ratio=1.0)[entry.id] == (to_us(NOW + 120 * MINUTE),) * 2


def test_a_quota_holds_its_tenant_back_and_nobody_else() -> None:
    """A tenant at its quota waits for its own; what is free besides is there for others."""
    policy = Policy(tenants={"vision": TenantPolicy(quotas={"h100": Quota(nominal=4)})})
    clock, half = FakeClock(), (PodSet(count=1, gpus_per_pod=4),)
    with memory_ledger(clock, a_calendar([a_pool(max_nodes=4)])) as ledger:
        ledger.set_policy(policy, by="test", why="a quota")
        ledger.submit(a_request("runs", pod_sets=half))
        waits = ledger.submit(a_request("waits", pod_sets=half))
        book = book_of(ledger)
        other = book.enter(
            a_request("other", tenant="search", pod_sets=half), id=ReservationId("o"), body="", now=to_us(NOW)
        )
        found = guesses(ledger, clock)
    assert found[waits.id] == (NOW + 60 * MINUTE, NOW + 60 * MINUTE)
    assert found[other.id] == (NOW, NOW)


# ---------------------------------------------------------------- what was learned


def past(key: str, *, part: float, eta: float | None = 0.0, **changes: Any) -> Reservation:
    """Return a reservation of an hour's walltime that ran a part of it; `eta` was so many minutes before its grant."""
    plain: dict[str, Any] = {
        "id": ReservationId(key),
        "request": a_request(key, duration=60 * MINUTE),
        "state": ReservationState.RELEASED,
        "submitted_at": NOW - 30 * MINUTE,
        "granted_at": NOW,
        "ended_at": NOW + part * 60 * MINUTE,
        "first_eta": None if eta is None else NOW - eta * MINUTE,
    }
    return Reservation(**{**plain, **changes})


def test_the_ratio_is_learned_of_the_released_alone() -> None:
    """A low quantile of what was used, drawn to 1 by few samples; cancelled and preempted gangs do not count."""
    many = [past(f"k{at}", part=at / 1000) for at in range(1001)]
    noise = [
        past("c", part=0.0, state=ReservationState.CANCELLED),
        past("p", part=0.0, state=ReservationState.PREEMPTED),
    ]
    assert learned_ratio([*many, *noise])["vision"] == pytest.approx(0.35, abs=0.01)
    assert learned_ratio(noise) == {}
    assert learned_ratio([past("one", part=0.0)])["vision"] == pytest.approx(8 / 9)


def test_eta_errors_agree_with_feedback() -> None:
    """The mean is feedback's; median, 90th percentile, bias and kept share are as counted by hand."""
    told = [
        past("a", part=1, eta=10),
        past("b", part=1, eta=-20),
        past("c", part=1, eta=0),
        past("d", part=1, eta=None),
    ]
    errors = eta_errors(told)
    assert errors is not None
    assert (errors.count, errors.mean_s, errors.median_s) == (3, 600, 600)
    assert errors.p90_s == pytest.approx(1080)
    assert errors.bias_s == pytest.approx(-200)
    assert errors.kept == pytest.approx(2 / 3)
    assert errors.mean_s == sum(scoring._eta_errors(told)) / 3
    assert eta_errors([past("d", part=1, eta=None)]) is None


def test_who_started_at_once_did_not_wait() -> None:
    """Only those that waited say how good an ETA was."""
    at_once = past("now", part=1, submitted_at=NOW)
    assert [one.id for one in waited([at_once, past("later", part=1)])] == ["later"]
