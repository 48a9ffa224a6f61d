"""How tenants share: order, quotas, cohorts, classes, preemption with notice; the same on every ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gangplan.errors import InputError, StaleTokenError
from gangplan.reserve import Ledger
from gangplan.reserve.policy.rules import Policy, Preemption, Quota, TenantPolicy
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import GangRequest, Limit, PodSet, Reservation, ReservationState, Token

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GRANTED, WAITING = ReservationState.GRANTED, ReservationState.WAITING
SOON = Preemption(notice=2 * MINUTE, grace=10 * MINUTE)


def gpus(key: str, count: int, **more: Any) -> GangRequest:
    """Return a request for so many pods of one GPU."""
    return a_request(key, pod_sets=(PodSet(count=count, gpus_per_pod=1),), **more)


def rule(ledger: Ledger, **tenants: TenantPolicy) -> None:
    """Set a policy with these tenants."""
    ledger.set_policy(Policy(tenants=tenants, preemption=SOON), by="test", why="a test")


def of_cohort(nominal: int, *, borrow: int | None = None, lend: int | None = None) -> TenantPolicy:
    """Return a tenant of the cohort `lab` with a quota of h100."""
    return TenantPolicy(cohort="lab", quotas={"h100": Quota(nominal=nominal, borrow=borrow, lend=lend)})


def release(ledger: Ledger, key: str) -> None:
    """Give back what a key holds."""
    found = ledger.find(key)
    ledger.release(found.id, found.token or Token(0))


def states(ledger: Ledger, *keys: str) -> list[ReservationState]:
    """Return where these stand."""
    return [ledger.find(key).state for key in keys]


# ---------------------------------------------------------------- order


def test_the_tenant_with_the_smaller_share_goes_first(ledger: Ledger) -> None:
    """Of equal priority, who holds less is served before who came earlier, and in turn after that."""
    ledger.submit(gpus("a1", 4, tenant="a"))
    ledger.submit(gpus("c1", 4, tenant="c"))
    for key in ("a2", "a3"):
        ledger.submit(gpus(key, 4, tenant="a"))
    ledger.submit(gpus("b1", 4, tenant="b"))
    release(ledger, "c1")
    assert states(ledger, "b1", "a2", "a3") == [GRANTED, WAITING, WAITING]


def test_a_weight_buys_a_larger_share(ledger: Ledger) -> None:
    """A tenant of weight 4 with 4 GPUs stands before one of weight 1 with 2."""
    rule(ledger, a=TenantPolicy(weight=4.0), b=TenantPolicy(weight=1.0))
    for key, tenant, count in (("a1", "a", 4), ("b1", "b", 2), ("x", "x", 2)):
        ledger.submit(gpus(key, count, tenant=tenant))
    ledger.submit(gpus("b2", 2, tenant="b"))
    ledger.submit(gpus("a2", 2, tenant="a"))
    release(ledger, "x")
    assert states(ledger, "a2", "b2") == [GRANTED, WAITING]


def test_a_promise_keeps_its_place_when_shares_change(ledger: Ledger) -> None:
    """Who was promised a start does not lose it to a later one of its own tenant, whatever was given back meanwhile."""
    ledger.submit(gpus("a1", 8, tenant="a"))
    first = ledger.submit(gpus("a2", 8, tenant="a"))
    release(ledger, "a1")
    ledger.submit(gpus("a3", 8, tenant="a"))
    assert first.eta == NOW + HOUR
    assert states(ledger, "a2", "a3") == [GRANTED, WAITING]


def test_a_promise_ranks_better_when_its_tenants_share_has_fallen(empty: Ledger, fake: FakeClock) -> None:
    """Who was promised a start at a large share does not lose it to a later one, once that share is gone."""
    empty.publish(a_calendar([a_pool(max_nodes=4)], start=fake()))
    empty.set_policy(Policy(depth=2), by="test", why="a short line")

    def ask(key: str, tenant: str, pods: int, minutes: int, *, after: int = 0) -> Reservation:
        window = {"earliest_start": fake() + after * MINUTE, "latest_start": fake() + 600 * MINUTE} if after else {}
        size = (PodSet(count=pods, gpus_per_pod=4),)
        return empty.submit(a_request(key, tenant=tenant, pod_sets=size, duration=minutes * MINUTE, **window))

    gone = ask("gone", "c", 3, 10)
    ask("first window", "b", 4, 20, after=7)
    ask("ahead", "b", 3, 60)
    promised = ask("promised", "c", 2, 10)
    empty.cancel(gone.id)
    ask("second window", "b", 4, 60, after=21)
    start = empty.get(promised.id).eta
    assert start is not None
    late = ask("late", "a", 1, 60)
    assert not late.promised
    assert empty.get(promised.id).eta == start


def test_a_priority_class_counts_instead_of_the_number(ledger: Ledger) -> None:
    """The policy says what a class is worth; a class that it does not have is refused."""
    ledger.submit(gpus("a", 8))
    ledger.submit(gpus("normal", 8, priority_class="normal"))
    high = ledger.submit(gpus("high", 8, priority_class="high", priority=1))
    assert high.eta == NOW + HOUR
    with pytest.raises(InputError, match="priority_class: 'urgent' is not in the policy: use one of low, normal, high"):
        ledger.submit(gpus("urgent", 8, priority_class="urgent"))


# ---------------------------------------------------------------- quotas


def test_a_quota_holds_a_tenant_back_though_slots_are_free(ledger: Ledger) -> None:
    """A tenant gets no more than its quota, is told so, and starts when it gave some back."""
    rule(ledger, a=TenantPolicy(quotas={"h100": Quota(nominal=4)}))
    ledger.submit(gpus("a1", 4, tenant="a"))
    second = ledger.submit(gpus("a2", 2, tenant="a"))
    assert second.state is WAITING
    assert second.reason is not None
    assert second.reason.limit is Limit.QUOTA
    assert "a holds 4 of its 4 h100" in second.reason.message
    assert second.reason.holders == (ledger.find("a1").id,)
    assert second.eta == NOW + HOUR
    assert ledger.submit(gpus("b1", 4, tenant="b")).state is GRANTED
    release(ledger, "a1")
    assert states(ledger, "a2") == [GRANTED]


def test_more_than_a_quota_can_ever_be_is_refused(ledger: Ledger) -> None:
    """A request above all that its tenant may hold names the tenant."""
    rule(ledger, a=TenantPolicy(quotas={"*": Quota(nominal=4)}))
    with pytest.raises(InputError, match="tenant: 'a asks for 5' may hold at most 4 GPUs of h100"):
        ledger.submit(gpus("a1", 5, tenant="a"))


def test_a_cohort_lends_what_its_members_do_not_use(ledger: Ledger) -> None:
    """A member borrows up to its limit, and all together stay within the sum of their quotas."""
    rule(ledger, a=of_cohort(2, borrow=2), b=of_cohort(3))
    assert ledger.submit(gpus("a1", 4, tenant="a")).state is GRANTED
    assert ledger.submit(gpus("a2", 1, tenant="a")).state is WAITING
    assert ledger.submit(gpus("b1", 1, tenant="b")).state is GRANTED
    last = ledger.submit(gpus("b2", 1, tenant="b"))
    assert last.state is WAITING
    assert last.reason is not None
    assert "its cohort lab 5 of 5" in last.reason.message


def test_what_is_not_lent_stays_with_its_owner(ledger: Ledger) -> None:
    """A member that lends 1 of its 3 keeps 2 free for itself."""
    rule(ledger, a=of_cohort(2), b=of_cohort(3, lend=1))
    assert ledger.submit(gpus("a1", 3, tenant="a")).state is GRANTED
    assert ledger.submit(gpus("a2", 1, tenant="a")).state is WAITING
    assert ledger.submit(gpus("b1", 2, tenant="b")).state is GRANTED


def test_windows_count_in_a_quota_from_their_start(ledger: Ledger) -> None:
    """A tenant's window ahead leaves its quota free until then, and no longer."""
    rule(ledger, a=TenantPolicy(quotas={"h100": Quota(nominal=4)}))
    ledger.submit(gpus("window", 4, tenant="a", earliest_start=NOW + HOUR))
    assert ledger.submit(gpus("short", 4, tenant="a")).state is GRANTED
    release(ledger, "short")
    long = ledger.submit(gpus("long", 4, tenant="a", duration=2 * HOUR))
    assert (long.state, long.eta) == (WAITING, NOW + 2 * HOUR)


def test_a_new_policy_holds_at_once_and_is_kept_with_its_reason(ledger: Ledger) -> None:
    """What runs stays; what waits is judged by the new rules; all policies are on record."""
    ledger.submit(gpus("a1", 8, tenant="a"))
    rule(ledger, a=TenantPolicy(quotas={"h100": Quota(nominal=4)}))
    release(ledger, "a1")
    assert ledger.submit(gpus("a2", 4, tenant="a")).state is GRANTED
    assert ledger.submit(gpus("a3", 4, tenant="a")).state is WAITING
    ledger.set_policy(Policy(), by="ada", why="no quotas any more")
    ledger.tick()
    assert states(ledger, "a3") == [GRANTED]
    last = ledger.policies()[-1]
    assert (last.by, last.why, last.policy) == ("ada", "no quotas any more", Policy())


# ---------------------------------------------------------------- preemption


def lend_all(ledger: Ledger, fake: FakeClock, **more: Any) -> Reservation:
    """Let a preemptible gang of low priority hold everything, past its grace."""
    rule(ledger)
    low = ledger.submit(gpus("low", 8, priority=50, preemptible=True, duration=9 * HOUR, **more))
    fake.advance(11 * MINUTE)
    return low


def test_a_higher_priority_takes_slots_after_notice(ledger: Ledger, fake: FakeClock) -> None:
    """The victim is told by when and for whom; then it ends, and the other starts at that very moment."""
    low = lend_all(ledger, fake)
    high = ledger.submit(gpus("high", 2, priority=200))
    told = ledger.get(low.id)
    assert told.state is GRANTED
    assert told.notice is not None
    assert (told.notice.until, told.notice.beneficiary) == (fake() + 2 * MINUTE, "high")
    assert (high.eta, high.promised) == (told.notice.until, True)
    renewed = ledger.renew(low.id, low.token or Token(0), HOUR)
    assert renewed.expires_at == told.notice.until
    fake.advance(2 * MINUTE)
    ledger.tick()
    assert states(ledger, "low", "high") == [ReservationState.PREEMPTED, GRANTED]
    with pytest.raises(StaleTokenError):
        ledger.renew(low.id, low.token or Token(0))


def test_a_victim_that_leaves_early_lets_the_other_start_early(ledger: Ledger, fake: FakeClock) -> None:
    """Notice is the longest that the other waits."""
    lend_all(ledger, fake)
    ledger.submit(gpus("high", 8, priority=200))
    release(ledger, "low")
    assert states(ledger, "low", "high") == [ReservationState.RELEASED, GRANTED]


def test_notice_is_taken_back_when_the_other_leaves(ledger: Ledger, fake: FakeClock) -> None:
    """The victim then keeps its slots as long as it could before."""
    low = lend_all(ledger, fake)
    high = ledger.submit(gpus("high", 2, priority=200))
    ledger.cancel(high.id)
    after = ledger.get(low.id)
    assert (after.notice, after.expires_at) == (None, low.expires_at)
    fake.advance(HOUR)
    ledger.tick()
    assert states(ledger, "low") == [GRANTED]


def test_a_renewal_under_notice_counts_when_the_notice_is_taken_back(ledger: Ledger, fake: FakeClock) -> None:
    """The lease cannot pass the notice; once that is gone, it ends when the renewal asked for."""
    low = lend_all(ledger, fake)
    high = ledger.submit(gpus("high", 2, priority=200))
    fake.advance(MINUTE)
    ledger.renew(low.id, low.token or Token(0), HOUR / 2)
    ledger.cancel(high.id)
    stays = ledger.get(low.id)
    assert (stays.notice, stays.expires_at) == (None, fake() + HOUR / 2)


def test_a_deadline_that_cannot_be_met_is_refused_by_its_name(ledger: Ledger) -> None:
    """Not as a latest start, which nobody gave."""
    with pytest.raises(InputError, match=r"deadline.*cannot be met any more"):
        ledger.submit(gpus("late", 2, deadline=NOW + MINUTE))


def test_a_checkpoint_lengthens_the_notice(ledger: Ledger, fake: FakeClock) -> None:
    """Who needs five minutes to save gets them."""
    low = lend_all(ledger, fake, checkpoint=5 * MINUTE)
    ledger.submit(gpus("high", 2, priority=200))
    notice = ledger.get(low.id).notice
    assert notice is not None
    assert notice.until == fake() + 5 * MINUTE


def test_nobody_is_preempted_within_its_grace_and_then_without_another_call(ledger: Ledger, fake: FakeClock) -> None:
    """A fresh gang is safe; when its grace ends, time alone gives the notice."""
    rule(ledger)
    low = ledger.submit(gpus("low", 8, priority=50, preemptible=True, duration=9 * HOUR))
    ledger.submit(gpus("high", 2, priority=200))
    assert ledger.get(low.id).notice is None
    fake.advance(10 * MINUTE)
    notice = ledger.get(low.id).notice
    assert notice is not None
    assert notice.until == fake() + 2 * MINUTE


def test_only_preemptible_gangs_of_lower_priority_are_taken_and_the_cheapest(ledger: Ledger, fake: FakeClock) -> None:
    """Of three gangs, the one that has run for the fewest GPU-seconds goes; not the one that may not be preempted."""
    rule(ledger)
    long = {"preemptible": True, "duration": 9 * HOUR}
    ledger.submit(gpus("older", 3, priority=50, **long))
    fake.advance(5 * MINUTE)
    ledger.submit(gpus("younger", 3, priority=50, **long))
    ledger.submit(gpus("firm", 2, priority=10, duration=9 * HOUR))
    fake.advance(11 * MINUTE)
    ledger.submit(gpus("high", 3, priority=200))
    noticed = {key: ledger.find(key).notice is not None for key in ("older", "younger", "firm")}
    assert noticed == {"older": False, "younger": True, "firm": False}


def test_an_owner_reclaims_what_others_borrow(ledger: Ledger, fake: FakeClock) -> None:
    """Within its own quota a tenant gets its slots back from a borrower of equal priority; a borrower does not."""
    rule(ledger, a=of_cohort(4), b=of_cohort(4), c=of_cohort(0))
    ledger.submit(gpus("b1", 4, tenant="b", preemptible=True, duration=9 * HOUR))
    ledger.submit(gpus("b2", 4, tenant="b", preemptible=True, duration=9 * HOUR))
    fake.advance(11 * MINUTE)
    ledger.submit(gpus("c1", 2, tenant="c"))
    assert not any(ledger.find(key).notice for key in ("b1", "b2"))
    mine = ledger.submit(gpus("a1", 4, tenant="a"))
    assert [ledger.find(key).notice is not None for key in ("b1", "b2")].count(True) == 1
    assert mine.eta == fake() + 2 * MINUTE
    fake.advance(2 * MINUTE)
    ledger.tick()
    assert states(ledger, "a1") == [GRANTED]


def test_quota_alone_is_reclaimed_too(empty: Ledger, fake: FakeClock) -> None:
    """Where slots are free and only the cohort's quota is used up, a borrower is asked to leave all the same."""
    empty.publish(a_calendar([a_pool(max_nodes=8)]))
    rule(empty, a=of_cohort(4), b=of_cohort(4))
    empty.submit(gpus("b1", 8, tenant="b", preemptible=True, duration=9 * HOUR))
    fake.advance(11 * MINUTE)
    assert empty.submit(gpus("a1", 4, tenant="a")).eta == fake() + 2 * MINUTE


def test_no_thrash(ledger: Ledger, fake: FakeClock) -> None:
    """A preempted gang that comes back does not take its slots back, nor is it taken again within its grace."""
    lend_all(ledger, fake)
    ledger.submit(gpus("high", 8, priority=200, duration=20 * MINUTE))
    fake.advance(2 * MINUTE)
    ledger.tick()
    again = ledger.submit(gpus("again", 8, priority=50, preemptible=True, duration=9 * HOUR))
    assert again.eta == fake() + 20 * MINUTE
    fake.advance(20 * MINUTE)
    ledger.tick()
    assert states(ledger, "high", "again") == [ReservationState.EXPIRED, GRANTED]
    ledger.submit(gpus("high2", 8, priority=200))
    assert ledger.find("again").notice is None


# ---------------------------------------------------------------- other accelerators, slots and deadlines


def test_a_faster_accelerator_is_held_for_less_time(empty: Ledger) -> None:
    """Half the time on one of twice the speed; where neither is free, the one on which it ends first."""
    empty.publish(a_calendar([a_pool("h100-owned"), a_pool("a100-owned")]))
    both = {"accelerators": ("a100", "h100"), "speed": {"h100": 2.0}}
    fast = empty.submit(gpus("fast", 8, **{**both, "accelerators": ("h100",), "speed": {"h100": 2.0}}))
    assert fast.expires_at == NOW + HOUR / 2
    empty.submit(gpus("slow", 8, accelerators=("a100",), duration=HOUR / 4))
    waits = empty.submit(gpus("waits", 8, **both))
    assert waits.eta == NOW + HOUR / 2


def test_a_deadline_is_kept_or_the_request_expires(ledger: Ledger, fake: FakeClock) -> None:
    """A gang that could not end in time any more does not start."""
    ledger.submit(gpus("a", 8))
    late = ledger.submit(gpus("late", 8, deadline=NOW + 1.5 * HOUR))
    assert (late.state, late.eta) == (WAITING, None)
    fake.advance(31 * MINUTE)
    assert ledger.get(late.id).state is ReservationState.EXPIRED
    assert ledger.submit(gpus("fine", 8, deadline=NOW + 3 * HOUR)).eta == NOW + HOUR


def test_parts_of_gpus_are_slots_of_their_own(empty: Ledger) -> None:
    """A divided pool serves requests for its kind of slot alone, so many of them to a GPU; quotas count GPUs."""
    empty.publish(a_calendar([replace(a_pool("h100-mig"), slot="1g.10gb", slots_per_gpu=7, max_nodes=1)]))
    rule(empty, vision=TenantPolicy(quotas={"h100": Quota(nominal=3)}))
    assert empty.submit(gpus("a", 14, slot="1g.10gb")).state is GRANTED
    assert empty.submit(gpus("b", 8, slot="1g.10gb")).state is WAITING
    assert empty.submit(gpus("c", 7, slot="1g.10gb")).state is GRANTED
    with pytest.raises(InputError, match=r"slot: 'gpu' is not what these pools are divided into: use one of 1g\.10gb"):
        empty.submit(gpus("d", 1))


def test_a_promise_made_meanwhile_outlives_the_notice(ledger: Ledger, fake: FakeClock) -> None:
    """Who was promised the victim's later hours while it had to leave keeps them, though the beneficiary left."""
    low = lend_all(ledger, fake)
    ledger.set_policy(Policy(preemption=replace(SOON, margin=100)), by="test", why="a wide margin")
    ledger.submit(gpus("train", 8, priority=100))
    high = ledger.submit(gpus("high", 8, priority=200))
    promised = ledger.find("train").eta
    ledger.cancel(high.id)
    assert promised == fake() + 62 * MINUTE
    assert ledger.find("train").eta == fake() + 2 * MINUTE
    assert ledger.get(low.id).notice is not None
