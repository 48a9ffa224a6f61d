"""Any calls of a ledger, and the invariants of a reservation that they must leave true at every step.

A ledger that cannot do a part of it sets that rule or invariant to None in its own machine.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import Phase, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from gangplan.errors import InputError, NoRoomError, StaleTokenError
from gangplan.reserve import Ledger
from gangplan.reserve.policy.rules import Policy, Preemption, Quota, TenantPolicy
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import (
    GangRequest,
    Level,
    NodeState,
    Placement,
    PodSet,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
    Topology,
)

MINUTE = timedelta(minutes=1)
MOST_NODES = 4
POOLS = (
    a_pool("h100-owned", max_nodes=4, nodes_per_rack=2),
    a_pool("a100-owned", gpus_per_node=8, max_nodes=2, price_per_node_hour=5.0),
)
one_set = st.builds(PodSet, count=st.integers(1, 3), gpus_per_pod=st.sampled_from([1, 2, 3, 4]))
pod_sets = st.lists(one_set, min_size=1, max_size=2)
quotas = st.none() | st.builds(
    Quota, nominal=st.integers(4, 8), borrow=st.sampled_from([None, 0, 4]), lend=st.sampled_from([None, 0, 3])
)
policies = st.builds(
    lambda vision, search, weight, depth, owners: Policy(
        tenants={
            "vision": TenantPolicy(cohort="lab", quotas={} if vision is None else {"*": vision}),
            "search": TenantPolicy(cohort="lab", weight=weight, quotas={} if search is None else {"h100": search}),
        },
        depth=depth,
        preemption=Preemption(notice=2 * MINUTE, grace=10 * MINUTE),
        drain=5 * MINUTE,
        owners_first=owners,
    ),
    vision=quotas,
    search=quotas,
    weight=st.sampled_from([1.0, 3.0]),
    depth=st.sampled_from([1, 3, 128]),
    owners=st.sampled_from([True, True, False]),
)
nodes = st.sampled_from([f"h100-owned-{n}" for n in range(4)] + ["a100-owned-0", "a100-owned-1"])


class LedgerMachine(RuleBasedStateMachine):
    """A ledger under any calls, and what the calls were told."""

    start = NOW
    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(self.start)
        self.ledger = self.opened()
        self.count = 0
        self.ended: dict[ReservationId, Reservation] = {}
        self.tokens: dict[ReservationId, Token] = {}
        self.given: set[Token] = set()
        self.seen: dict[ReservationId, Reservation] = {}
        self.may_move = True  # whether a promise may move later: a calendar, a policy or the clock was at work
        self.policy = Policy()
        self.sizes: dict[str, tuple[int, ...]] = {}
        self.tries: dict[str, int] = {}  # by key: the present try, 0 where nobody said one
        self.claimed: set[Token] = set()
        self.taken_over: set[ReservationId] = set()
        self.allowed: dict[tuple[str, str], int] = {}  # by tenant or cohort: what a new policy found them at
        self.begin()

    @abstractmethod
    def opened(self) -> Ledger:
        """Open an empty ledger on the machine's clock."""

    def begin(self) -> None:
        """Give it its capacity."""
        self.publish([MOST_NODES])

    def teardown(self) -> None:
        """The audit log replays to what there is."""
        assert self.ledger.replay().different == ()
        self.ledger.close()

    def possible(self, request: GangRequest) -> GangRequest:
        """Return a request without what this ledger refuses to take."""
        return request

    def room(self, place: Placement) -> int:
        """Return how many GPUs there are where a placement is."""
        return next(pool.gpus_per_node for pool in POOLS if pool.name == place.pool)

    def whole(self, pool: str) -> int:
        """Return how many GPUs a pool has at most, by the calendars that are published."""
        return next(one.gpus_per_node * MOST_NODES for one in POOLS if one.name == pool)

    def same(self, before: Reservation, now: Reservation) -> bool:
        """Tell whether a reservation is what it was before; nothing happens to it between two calls."""
        return before == now

    @rule(hours=st.lists(st.integers(0, MOST_NODES), min_size=1, max_size=3))
    def publish(self, hours: list[int]) -> None:
        """A new calendar, maybe smaller."""
        self.ledger.publish(a_calendar(POOLS, start=self.clock(), hours=hours))
        self.may_move = True

    @rule(
        target=keys,
        pods=pod_sets,
        minutes=st.integers(1, 90),
        extra=st.integers(0, 60),
        priority=st.sampled_from([50, 100, 100, 200]),
        accelerators=st.sampled_from([("h100",), ("a100",), ("a100", "h100")]),
        window=st.sampled_from([None, None, (0, 30), (40, 40), (20, 600)]),
        same_rack=st.booleans(),
        tenant=st.sampled_from(["vision", "search", "other"]),
        preemptible=st.booleans(),
        grows=st.integers(0, 3),
        claim=st.sampled_from([None, None, 2, 45]),
        named=st.booleans(),
    )
    def submit(
        self,
        pods: list[PodSet],
        minutes: int,
        extra: int,
        priority: int,
        accelerators: tuple[str, ...],
        window: tuple[int, int] | None,
        same_rack: bool,
        tenant: str,
        preemptible: bool,
        grows: int,
        claim: int | None,
        named: bool,
    ) -> object:
        """A new request, and the same again."""
        self.count += 1
        key = f"k{self.count}"
        request = a_request(
            key,
            pod_sets=tuple(replace(one, min_count=1, max_count=one.count + grows) for one in pods),
            tenant=tenant,
            preemptible=preemptible,
            duration=minutes * MINUTE,
            walltime=(minutes + extra) * MINUTE,
            priority=priority,
            accelerators=accelerators,
            earliest_start=None if window is None else self.clock() + window[0] * MINUTE,
            latest_start=None if window is None else self.clock() + window[1] * MINUTE,
            topology=Topology(level=Level.RACK) if same_rack else None,
            claim_within=None if claim is None else claim * MINUTE,
        )
        request = self.possible(request)
        self.tries[key] = int(named)
        try:
            self.ledger.submit(request, self.attempt(key))
        except InputError:
            return multiple()
        there = self.ledger.find(key)  # with an estimate where nothing is promised, which a submit does not wait for
        told = there if there.promised else replace(there, eta=None, eta_range=None)
        again = self.ledger.submit(request, self.attempt(key))  # far back in the line, its reason is a shorter one
        assert self.same(replace(told, reason=None), replace(again, reason=None))
        return key

    def attempt(self, key: str) -> str:
        """Return the present attempt of a key."""
        return f"machine/{key}/{self.tries[key]}" if self.tries[key] else ""

    @rule(key=keys)
    def take_over(self, key: str) -> None:
        """The next try keeps the place in line and the slots; the token of the one before is good for nothing more."""
        before = self.ledger.find(key)
        self.tries[key] += 1
        after = self.ledger.submit(before.request, self.attempt(key))
        if before.state.final:
            assert self.same(before, after)
            self.tries[key] -= 1
            return
        assert (after.id, after.attempt, after.submitted_at) == (before.id, self.attempt(key), before.submitted_at)
        if before.token is None:
            there = self.ledger.find(key)
            assert self.same(replace(before, attempt=there.attempt, reason=None), replace(there, reason=None))
            return
        self.taken_over.add(after.id)
        assert after.token is not None
        assert (after.placements, after.granted_at) == (before.placements, before.granted_at)
        assert after.token > before.token
        within = after.request.claim_within
        assert within is not None or after.expires_at == before.expires_at
        assert within is None or after.expires_at is None or after.expires_at <= self.clock() + within
        for late in (self.ledger.release, self.ledger.renew):
            with pytest.raises(StaleTokenError):
                late(after.id, before.token)
        assert self.same(after, self.ledger.find(key))

    @rule(key=keys)
    def end_late(self, key: str) -> None:
        """An earlier attempt, or one of somebody else, ends nothing."""
        before = self.ledger.find(key)
        with pytest.raises(StaleTokenError):
            self.ledger.cancel(before.id, f"machine/{key}/{self.tries[key] - 1}")
        assert self.same(before, self.ledger.find(key))

    @rule(key=keys)
    def release(self, key: str) -> None:
        """A holder gives back, twice; who holds nothing is refused."""
        reservation = self.ledger.find(key)
        if reservation.token is None:
            with pytest.raises(StaleTokenError):
                self.ledger.release(reservation.id, Token(1))
            return
        ended = self.ledger.release(reservation.id, reservation.token)
        assert ended.state.final
        assert self.ledger.release(reservation.id, reservation.token) == ended

    @rule(key=keys, minutes=st.integers(1, 200))
    def renew(self, key: str, minutes: int) -> None:
        """A heartbeat moves the end within the walltime."""
        reservation = self.ledger.find(key)
        if reservation.state is not ReservationState.GRANTED or reservation.token is None:
            with pytest.raises(StaleTokenError):
                self.ledger.renew(reservation.id, reservation.token or Token(1))
            return
        notice = reservation.notice
        renewed = self.ledger.renew(reservation.id, reservation.token, minutes * MINUTE)
        assert renewed.expires_at is not None
        assert renewed.granted_at is not None
        assert renewed.claim_by is None
        self.claimed.add(reservation.token)
        request = renewed.request
        assert renewed.expires_at <= renewed.granted_at + (request.claim_within or timedelta(0)) + request.limit
        assert notice is None or renewed.expires_at <= notice.until

    @rule(key=keys, pods=st.lists(st.integers(1, 6), min_size=1, max_size=2).map(tuple))
    def resize(self, key: str, pods: tuple[int, ...]) -> None:
        """An elastic gang changes its size within its bounds, or nothing changes."""
        before = self.ledger.find(key)
        try:
            after = self.ledger.resize(before.id, before.token or Token(1), pods)
        except (InputError, NoRoomError, StaleTokenError):
            assert self.ledger.find(key) == before
            return
        assert after.token == before.token
        self.sizes[key] = pods
        self.may_move = self.may_move or sum(pods) > sum(place.pods for place in before.placements)

    @rule(node=nodes, state=st.sampled_from(NodeState), lasts=st.sampled_from([None, None, 20, 90]))
    def mark_node(self, node: str, state: NodeState, lasts: int | None) -> None:
        """A node goes away, maybe for a time that is known, or comes back."""
        back = None if lasts is None or state is NodeState.READY else self.clock() + lasts * MINUTE
        self.ledger.mark_node(node, state, back=back)
        self.may_move = True
        on_it = [r for r in self.ledger.list(ReservationState.GRANTED) if any(p.node == node for p in r.placements)]
        assert state is not NodeState.LOST or not on_it
        assert state is not NodeState.DRAINING or all(r.notice for r in on_it)

    @rule(node=nodes, ahead=st.integers(1, 120), lasts=st.sampled_from([None, 15, 240]))
    def plan_drain(self, node: str, ahead: int, lasts: int | None) -> None:
        """A node will be drained later."""
        begin = self.clock() + ahead * MINUTE
        back = None if lasts is None else begin + lasts * MINUTE
        self.ledger.mark_node(node, NodeState.DRAINING, begin=begin, back=back)
        self.may_move = True

    @rule(policy=policies)
    def set_policy(self, policy: Policy) -> None:
        """Another policy; what runs beyond its quotas stays."""
        self.ledger.set_policy(policy, by="test", why="any")
        self.policy = policy
        self.may_move = True
        self.allowed = {}

    @rule(key=keys)
    def stale(self, key: str) -> None:
        """Another token changes nothing."""
        before = self.ledger.find(key)
        with pytest.raises(StaleTokenError):
            self.ledger.release(before.id, Token((before.token or 0) + 1))
        assert self.same(before, self.ledger.find(key))

    @rule(key=keys)
    def cancel(self, key: str) -> None:
        """Whatever it is ends, and stays so when asked again."""
        ended = self.ledger.cancel(self.ledger.find(key).id)
        assert ended.state.final
        assert self.ledger.cancel(ended.id) == ended

    @rule(seconds=st.integers(1, 7200))
    def time_passes(self, seconds: int) -> None:
        """The clock moves on."""
        self.clock.advance(timedelta(seconds=seconds))
        self.ledger.tick()
        self.may_move = self.may_move or seconds > 4

    @invariant()
    def nothing_is_oversold_now_or_later(self) -> None:
        """1: held and promised GPUs never exceed a node; the calendar says the same of its pools."""
        used: dict[tuple[str, str], int] = defaultdict(int)
        room: dict[tuple[str, str], int] = {}
        for reservation in self.ledger.list(ReservationState.GRANTED):
            assert reservation.expires_at is not None
            assert reservation.expires_at > self.clock()
            for place in reservation.placements:
                used[place.pool, place.node] += place.gpus
                room[place.pool, place.node] = self.room(place)
        assert all(gpus <= room[where] for where, gpus in used.items())
        for stretch in self.ledger.calendar(self.clock(), self.clock() + timedelta(hours=12)):
            assert stretch.held_gpus <= self.whole(stretch.pool)

    @invariant()
    def nobody_stands_on_a_node_that_goes(self) -> None:
        """1: leases end before a planned drain, those on a draining node were given notice, and a lost one has none."""
        outages = self.ledger.outages()
        for reservation in self.ledger.list(ReservationState.GRANTED):
            for outage in (outages[place.node] for place in reservation.placements if place.node in outages):
                assert outage.state is NodeState.DRAINING
                assert reservation.expires_at is not None
                assert outage.begin is None or reservation.expires_at <= outage.begin
                assert outage.begin is not None or reservation.notice is not None

    @invariant()
    def gangs_are_whole(self) -> None:
        """2: who holds slots holds all of its pods."""
        for reservation in self.ledger.list():
            if reservation.token is None:
                assert not reservation.placements
                continue
            pods: dict[int, int] = defaultdict(int)
            for placement in reservation.placements:
                pods[placement.pod_set] += placement.pods
                size = reservation.request.pod_sets[placement.pod_set].gpus_per_pod
                assert placement.gpus == size * placement.pods
            asked = tuple(one.count for one in reservation.request.pod_sets)
            resized = self.sizes.get(reservation.request.request_key, asked)
            if reservation.interruptions:  # placed again as it was asked for
                assert tuple(pods[i] for i in range(len(pods))) in (asked, resized)
            else:
                assert tuple(pods[i] for i in range(len(pods))) == resized

    @invariant()
    def a_gang_is_in_one_place(self) -> None:
        """2: in one pool, and in one rack where that was asked."""
        for reservation in self.ledger.list():
            if not reservation.placements:
                continue
            assert len({placement.pool for placement in reservation.placements}) == 1
            if reservation.request.topology and reservation.placements[0].pool == "h100-owned":
                assert len({int(p.node.rpartition("-")[2]) // 2 for p in reservation.placements}) == 1

    @invariant()
    def ends_stay(self) -> None:
        """3: what ended stays as it ended, and in the history."""
        present = {r.id: r for r in self.ledger.list()}
        for id, before in self.ended.items():
            assert present[id] == before
        self.ended = {id: now for id, now in present.items() if now.state.final}

    @invariant()
    def a_grant_that_nobody_claims_goes_back(self) -> None:
        """8: in time, and what was claimed lasts from its claim."""
        for one in self.ledger.list():
            if one.claim_by is not None:
                assert one.token not in self.claimed
                assert one.state in (ReservationState.GRANTED, ReservationState.EXPIRED)
                assert one.expires_at is not None
                assert one.expires_at <= one.claim_by
                assert one.ended_at is None or one.ended_at >= one.claim_by
            elif one.state is ReservationState.GRANTED:
                assert one.token in self.claimed or (one.request.claim_within is None)

    @invariant()
    def a_token_is_given_once(self) -> None:
        """4: no two have the same; that of a reservation changes only to a greater one, by a grant or a takeover."""
        present = {r.id: r for r in self.ledger.list() if r.token is not None}
        tokens = {id: r.token or Token(0) for id, r in present.items()}
        assert len(tokens) == len(set(tokens.values()))
        for id, token in tokens.items():
            before = self.tokens.get(id, token)
            anew = present[id].interruptions or id in self.taken_over
            assert token == before or (token > before and anew), (present[id], before)
        self.tokens |= tokens

    @invariant()
    def a_later_grant_has_a_greater_token(self) -> None:
        """4: greater than all that were given before to anyone."""
        fresh = {r.token for r in self.ledger.list() if r.token is not None} - self.given
        assert min(fresh, default=1 << 62) > max(self.given, default=0)
        self.given |= fresh

    @invariant()
    def nobody_holds_more_than_its_quota(self) -> None:
        """Each tenant and cohort stays within its limits, or where a new policy found it beyond them, grows no more."""
        held: dict[tuple[str, str], int] = defaultdict(int)
        for reservation in self.ledger.list(ReservationState.GRANTED):
            accelerator = reservation.placements[0].pool.partition("-")[0]
            held[reservation.request.tenant, accelerator] += sum(place.gpus for place in reservation.placements)
        for accelerator in ("h100", "a100"):
            quotas = {name: quota_of(rules, accelerator) for name, rules in self.policy.tenants.items()}
            limited = {name: quota for name, quota in quotas.items() if quota is not None}
            for name, quota in limited.items():
                limit = 99 if quota.borrow is None else quota.nominal + quota.borrow
                self.within(name, accelerator, held[name, accelerator], limit)
            together = sum(held[name, accelerator] for name in limited)
            self.within("cohort", accelerator, together, sum(quota.nominal for quota in limited.values()))

    def within(self, name: str, accelerator: str, held: int, limit: int) -> None:
        """Hold what is held against a limit, or against what a new policy found."""
        allowed = max(limit, self.allowed.get((name, accelerator), held))
        assert held <= allowed, (name, accelerator, held, limit)
        self.allowed[name, accelerator] = min(allowed, max(limit, held))

    @invariant()
    def notices_end_in_a_grant_or_a_rollback(self) -> None:
        """6: who was given notice for another holds slots that are firmly promised to it, or keeps its own."""
        for reservation in self.ledger.list(ReservationState.GRANTED):
            notice = reservation.notice
            if notice is not None:
                assert reservation.expires_at is not None
                assert reservation.expires_at <= notice.until
                assert notice.beneficiary == "" or reservation.request.preemptible

    @invariant()
    def promises_do_not_move_later(self) -> None:
        """5: only one that ranks ahead, a new calendar or policy, a node or a missed tick moves a promise later.

        One that ranks ahead may have had no promise while its window could not be met, or its quota was used up; what
        others give back gives it one, and that may cost a lower rank its place.
        """
        present = {r.id: r for r in self.ledger.list()}
        gained = [now for id, now in present.items() if kept(now) and not (id in self.seen and kept(self.seen[id]))]
        for id, before in self.seen.items():
            displaced = any(self.ranks_ahead(other, before) for other in gained)
            if before.promised and before.eta is not None and not self.may_move and not displaced:
                assert moment(present[id]) <= before.eta, (before, present[id])
        self.seen = present
        self.may_move = False

    def ranks_ahead(self, one: Reservation, other: Reservation) -> bool:
        """Tell whether one may go before the other: an owner before who has to borrow, where owners go first.

        Then by points; of equal points by its tenant's share, or by arrival.
        """
        owns = self.may_own(one), self.may_own(other)
        if self.policy.owners_first and owns[0] != owns[1]:
            return owns[0]
        points = self.points(one), self.points(other)
        if points[0] != points[1]:
            return points[0] < points[1]
        return one.request.tenant != other.request.tenant or one.submitted_at < other.submitted_at

    def may_own(self, one: Reservation) -> bool:
        """Tell whether a gang is within its tenant's nominal quota by itself, or nothing limits or lends it."""
        rules = self.policy.tenant(one.request.tenant)
        quotas = [quota_of(rules, accelerator) for accelerator in one.request.accelerators]
        return any(quota is None or quota.borrow == 0 or one.request.gpus <= quota.nominal for quota in quotas)

    def points(self, one: Reservation) -> int:
        """Return priority and age as the policy counts them, the first in line the lowest."""
        assert self.policy.ageing is not None
        age = (one.submitted_at - datetime(1970, 1, 1, tzinfo=UTC)) // self.policy.ageing
        return -(2**60) if one.interruptions else age - one.request.priority


def quota_of(rules: TenantPolicy, accelerator: str) -> Quota | None:
    """Return a tenant's quota of an accelerator."""
    return rules.quotas.get(accelerator) or rules.quotas.get("*")


def kept(reservation: Reservation) -> bool:
    """Whether it has a start, promised or taken."""
    return reservation.promised or reservation.granted_at is not None


def moment(reservation: Reservation) -> datetime:
    """Return when it started or will start; one that ended waits no more."""
    if reservation.state.final and reservation.granted_at is None:
        return NOW
    start = reservation.granted_at or (reservation.eta if reservation.promised else None)
    return start or datetime.max.replace(tzinfo=UTC)


def search(machine: type[RuleBasedStateMachine], *, examples: int, steps: int, shrink: bool = True) -> None:
    """Look for calls that break an invariant; shrinking takes long on slow ledgers."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        ),
    )
