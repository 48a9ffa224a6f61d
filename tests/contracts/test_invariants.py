"""Any sequence of calls, on every ledger, leaves the invariants of a reservation true at every step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from gangplan.errors import InputError, StaleTokenError
from gangplan.reserve import open_ledger
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import Level, PodSet, Reservation, ReservationState, Token, Topology

MINUTE = timedelta(minutes=1)
POOLS = (
    a_pool("h100-owned", max_nodes=4, nodes_per_rack=2),
    a_pool("a100-owned", gpus_per_node=8, max_nodes=2, price_per_node_hour=5.0),
)
one_set = st.builds(PodSet, count=st.integers(1, 3), gpus_per_pod=st.sampled_from([1, 2, 3, 4]))
pod_sets = st.lists(one_set, min_size=1, max_size=2)


class LedgerMachine(RuleBasedStateMachine):
    """A ledger under any calls, and what the calls were told."""

    new_url: Callable[[], str]
    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.ledger = open_ledger(self.new_url(), clock=self.clock)
        self.capacity: dict[str, int] = {}
        self.count = 0
        self.seen: dict[str, Reservation] = {}
        self.may_move = True  # whether a promise may move later: a higher rank, a calendar or the clock was at work
        self.publish([4])

    def teardown(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    @rule(hours=st.lists(st.integers(0, 4), min_size=1, max_size=3))
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
    ) -> object:
        """A new request, and the same again."""
        self.count += 1
        key = f"k{self.count}"
        request = a_request(
            key,
            pod_sets=tuple(pods),
            duration=minutes * MINUTE,
            walltime=(minutes + extra) * MINUTE,
            priority=priority,
            accelerators=accelerators,
            earliest_start=None if window is None else self.clock() + window[0] * MINUTE,
            latest_start=None if window is None else self.clock() + window[1] * MINUTE,
            topology=Topology(level=Level.RACK) if same_rack else None,
        )
        try:
            self.ledger.submit(request)
        except InputError:
            return multiple()
        self.may_move = self.may_move or priority > 50
        assert self.ledger.submit(request) == self.ledger.find(key)
        return key

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
        renewed = self.ledger.renew(reservation.id, reservation.token, minutes * MINUTE)
        assert renewed.expires_at is not None
        assert renewed.granted_at is not None
        assert renewed.expires_at <= renewed.granted_at + renewed.request.limit

    @rule(key=keys)
    def stale(self, key: str) -> None:
        """Another token changes nothing."""
        before = self.ledger.find(key)
        with pytest.raises(StaleTokenError):
            self.ledger.release(before.id, Token((before.token or 0) + 1))
        assert self.ledger.find(key) == before

    @rule(key=keys)
    def cancel(self, key: str) -> None:
        """Whatever it is ends."""
        assert self.ledger.cancel(self.ledger.find(key).id).state.final

    @rule(seconds=st.integers(1, 7200))
    def time_passes(self, seconds: int) -> None:
        """The clock moves on."""
        self.clock.advance(timedelta(seconds=seconds))
        self.ledger.tick()
        self.may_move = self.may_move or seconds > 4

    @invariant()
    def no_node_is_oversold_now_or_later(self) -> None:
        """1: held and promised GPUs never exceed a node; the calendar says the same of its pools."""
        used: dict[str, int] = defaultdict(int)
        for reservation in self.ledger.list(ReservationState.GRANTED):
            assert reservation.expires_at is not None
            assert reservation.expires_at > self.clock()
            for placement in reservation.placements:
                used[placement.node] += placement.gpus
        whole = {pool.name: pool.gpus_per_node for pool in POOLS}
        assert all(gpus <= whole[node.rpartition("-")[0]] for node, gpus in used.items())
        for stretch in self.ledger.calendar(self.clock(), self.clock() + timedelta(hours=12)):
            assert stretch.held_gpus <= whole[stretch.pool] * 4

    @invariant()
    def gangs_are_whole(self) -> None:
        """2: who holds slots holds all of its pods, and in one rack where that was asked."""
        for reservation in self.ledger.list():
            if reservation.token is None:
                assert not reservation.placements
                continue
            pods: dict[int, int] = defaultdict(int)
            for placement in reservation.placements:
                pods[placement.pod_set] += placement.pods
                size = reservation.request.pod_sets[placement.pod_set].gpus_per_pod
                assert placement.gpus == size * placement.pods
            assert [pods[i] for i in range(len(pods))] == [p.count for p in reservation.request.pod_sets]
            assert len({placement.pool for placement in reservation.placements}) == 1
            if reservation.request.topology and reservation.placements[0].pool == "h100-owned":
                assert len({int(p.node.rpartition("-")[2]) // 2 for p in reservation.placements}) == 1

    @invariant()
    def ends_and_tokens_stay(self) -> None:
        """3, 4: what ended stays as it ended; a token is never given twice nor changed."""
        present = {r.id: r for r in self.ledger.list()}
        tokens = [r.token for r in present.values() if r.token is not None]
        assert len(tokens) == len(set(tokens))
        fresh = [r.token for id, r in present.items() if r.token and (id not in self.seen or not self.seen[id].token)]
        assert min(fresh, default=1 << 62) > max((r.token or 0 for r in self.seen.values()), default=0)
        for id, before in self.seen.items():
            if before.state.final:
                assert present[id] == before

    @invariant()
    def promises_do_not_move_later(self) -> None:
        """5: only one that ranks ahead, a new calendar or a missed tick moves a promised start later.

        One that ranks ahead may have had no promise while its window could not be met; what others give back gives it
        one, and that may cost a lower rank its place.
        """
        present = {r.id: r for r in self.ledger.list()}
        promised_now = [before for id, before in self.seen.items() if not kept(before) and kept(present[id])]
        for id, before in self.seen.items():
            displaced = any(ranks_ahead(other, before) for other in promised_now)
            if before.eta is not None and not self.may_move and not displaced:
                assert moment(present[id]) <= before.eta
        self.seen = present
        self.may_move = False


def kept(reservation: Reservation) -> bool:
    """Whether it has a start, promised or taken."""
    return reservation.eta is not None or reservation.granted_at is not None


def ranks_ahead(one: Reservation, other: Reservation) -> bool:
    """Whether one may go before the other: by its priority, or by its age."""
    return one.request.priority > other.request.priority or one.submitted_at <= other.submitted_at


def moment(reservation: Reservation) -> datetime:
    """Return when it started or will start; one that ended waits no more."""
    if reservation.state.final and reservation.granted_at is None:
        return NOW
    start = reservation.granted_at or reservation.eta
    assert start is not None
    return start


@pytest.mark.parametrize(("kind", "examples", "steps"), [("memory", 170, 60), ("sqlite", 6, 30), ("postgresql", 4, 25)])
def test_invariants_hold_under_any_calls(new_url: Callable[[str], str], kind: str, examples: int, steps: int) -> None:
    """No sequence of calls breaks an invariant."""
    machine = type("Machine", (LedgerMachine,), {"new_url": staticmethod(lambda: new_url(kind))})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )
