"""Who stays within its nominal quota goes before all who have to borrow; the same on every ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.contracts.machine import POOLS, LedgerMachine, search
from tests.effort import effort

from gangplan.reserve import Ledger, Policy, Preemption, Quota, TenantPolicy, open_ledger
from gangplan.testing import FakeClock, a_calendar, a_pool, a_request
from gangplan.types import GangRequest, Limit, PodSet, Reservation, ReservationState

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GRANTED, WAITING = ReservationState.GRANTED, ReservationState.WAITING


def shared(*tenants: str, lab: str = "lab", **quotas: int) -> dict[str, TenantPolicy]:
    """Return tenants of one cohort with the same nominal quotas."""
    each = {name: Quota(nominal=nominal) for name, nominal in quotas.items()}
    return {tenant: TenantPolicy(cohort=lab, quotas=each) for tenant in tenants}


def ask(ledger: Ledger, key: str, tenant: str, gpus: int, hours: float = 48, **more: Any) -> Reservation:
    """Ask for single GPUs."""
    pods = (PodSet(count=gpus, gpus_per_pod=1),)
    return ledger.submit(a_request(key, tenant=tenant, pod_sets=pods, duration=hours * HOUR, **more))


def give_back(ledger: Ledger, held: Reservation) -> None:
    """Release what is held."""
    assert held.token is not None
    ledger.release(held.id, held.token)


@pytest.mark.parametrize("owners_first", [True, False])
def test_who_owns_a_free_gpu_gets_it_before_who_must_borrow_it(
    empty: Ledger, fake: FakeClock, owners_first: bool
) -> None:
    """Though it borrowed much of another accelerator, so that its dominant share is larger; the policy may say else.

    Source: kubernetes-sigs/kueue#9406, mended there by #9484.
    """
    tenants = {
        **shared("team-a", "team-b", h100=5, a10=0),
        **shared("team-c", h100=5),
        "bank": TenantPolicy(cohort="lab", quotas={"a10": Quota(nominal=50)}),
    }
    pools = [a_pool("h100-x", gpus_per_node=5, max_nodes=3), a_pool("a10-x", gpus_per_node=10, max_nodes=5)]
    empty.publish(a_calendar(pools))
    empty.set_policy(Policy(tenants=tenants, owners_first=owners_first), by="ada", why="shared")
    mine = [ask(empty, f"a-{number}", "team-a", 1) for number in range(5)]
    ask(empty, "a-a10", "team-a", 30, accelerators=("a10",))
    for tenant in ("team-b", "team-c"):
        ask(empty, tenant, tenant, 5)
    own = ask(empty, "a-next", "team-a", 1)
    fake.advance(MINUTE)
    borrows = ask(empty, "c-next", "team-c", 1)
    assert (own.state, borrows.state) == (WAITING, WAITING)
    give_back(empty, mine[0])
    states = empty.get(own.id).state, empty.get(borrows.id).state
    assert states == ((GRANTED, WAITING) if owners_first else (WAITING, GRANTED))


@pytest.mark.parametrize(("hours", "preemptible"), [(1, True), (8, True), (8, False)])
def test_who_borrows_uses_what_idles_and_never_delays_its_owner(
    empty: Ledger, fake: FakeClock, hours: int, preemptible: bool
) -> None:
    """A gang that is over before the owner's promised start runs at once; a longer one waits, and hears what would do.

    Source: kubernetes-sigs/kueue#4809.
    """
    empty.publish(a_calendar([a_pool("h100-x", gpus_per_node=8, max_nodes=1)]))
    tenants = {**shared("guaranteed", h100=8), **shared("best-effort", h100=0)}
    empty.set_policy(Policy(tenants=tenants), by="ada", why="shared")
    ask(empty, "g1", "guaranteed", 4, 4)
    own = ask(empty, "g2", "guaranteed", 8, 4)
    assert own.eta == fake() + 4 * HOUR
    other = ask(empty, "be", "best-effort", 4, hours, preemptible=preemptible)
    assert empty.get(own.id).eta == own.eta
    if hours <= 4:
        assert other.state is GRANTED
    else:
        assert (other.state, other.eta) == (WAITING, fake() + 8 * HOUR)
        assert other.reason is not None
        assert other.reason.limit is Limit.ORDER
        assert "have it end by 2026-03-02 13:00:00Z: it could start now" in other.reason.helps
    fake.advance(4 * HOUR)
    empty.tick()
    assert empty.get(own.id).state is GRANTED


def test_an_owner_that_waits_for_its_own_starts_sooner_where_it_can_borrow(empty: Ledger, fake: FakeClock) -> None:
    """Its promise stands on its own quota; what others do not use it takes at once, even ahead of who only borrows."""
    empty.publish(a_calendar([a_pool("h100-x", gpus_per_node=8, max_nodes=2)]))
    empty.set_policy(Policy(tenants=shared("a", "b", h100=8)), by="ada", why="shared")
    ask(empty, "a1", "a", 8, 2)
    assert ask(empty, "a2", "a", 8, 2).state is GRANTED
    third = ask(empty, "a3", "a", 8, 1)
    assert (third.state, third.eta) == (WAITING, fake() + 2 * HOUR)
    borrowed = empty.find("a2")
    give_back(empty, borrowed)
    assert empty.get(third.id).state is GRANTED


def test_an_owner_displaces_the_promise_of_a_higher_priority_that_borrows(empty: Ledger, fake: FakeClock) -> None:
    """Priority orders those who own, and those who borrow, each among themselves."""
    empty.publish(a_calendar([a_pool("h100-x", gpus_per_node=8, max_nodes=2)]))
    tenants = {**shared("a", h100=16), **shared("b", h100=0)}
    empty.set_policy(Policy(tenants=tenants), by="ada", why="shared")
    ask(empty, "a1", "a", 16, 1)
    borrows = ask(empty, "b1", "b", 16, 1, priority=1000)
    assert borrows.eta == fake() + HOUR
    own = ask(empty, "a2", "a", 16, 1)
    assert (own.eta, empty.get(borrows.id).eta) == (fake() + HOUR, fake() + 2 * HOUR)


@pytest.mark.parametrize("owners_first", [True, False])
def test_who_borrows_preempts_no_owner(empty: Ledger, fake: FakeClock, owners_first: bool) -> None:
    """A higher priority that has to borrow takes no slots from a gang whose tenant is within its own."""
    empty.publish(a_calendar([a_pool("h100-x", gpus_per_node=8, max_nodes=1)]))
    tenants = {**shared("a", h100=8), **shared("b", h100=0)}
    rules = Policy(tenants=tenants, preemption=Preemption(grace=0 * MINUTE), owners_first=owners_first)
    empty.set_policy(rules, by="ada", why="shared")
    own = ask(empty, "a1", "a", 8, 4, preemptible=True)
    fake.advance(MINUTE)
    ask(empty, "b1", "b", 4, 1, priority=1000)
    assert (empty.get(own.id).notice is None) is owners_first


class OwnersMachine(LedgerMachine):
    """A lab in which one tenant owns much, one little and one nothing, on nodes that stay; all may borrow."""

    publish = set_policy = mark_node = plan_drain = resize = renew = stale = None  # type: ignore[assignment]

    def opened(self) -> Ledger:
        """Open a ledger in memory."""
        return open_ledger("memory://", clock=self.clock)

    def possible(self, request: GangRequest) -> GangRequest:
        """Return a plain request for what they share."""
        plain = {"earliest_start": None, "latest_start": None, "topology": None, "preemptible": False}
        return replace(request, accelerators=("h100",), **plain)

    def begin(self) -> None:
        """Share what there is."""
        tenants = {**shared("vision", h100=6), **shared("search", h100=2), **shared("other", h100=0)}
        self.policy = Policy(tenants=tenants, preemption=Preemption(by_priority=False))
        self.ledger.publish(a_calendar(POOLS[:1], start=self.clock(), hours=[2]))
        self.ledger.set_policy(self.policy, by="test", why="shared")


@pytest.mark.searches
def test_no_borrower_moves_an_owners_start_under_any_calls() -> None:
    """The order of the line, and with it whose promise may move, is the same whatever comes, ends or goes."""
    search(OwnersMachine, examples=effort(40, 3000), steps=50, shrink=False)
