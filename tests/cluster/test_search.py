"""Any sequence of calls on Kueue: what is granted is what is counted, whole, and never more than there is."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gangplan.errors import StaleTokenError
from gangplan.reserve.kueue.ledger import KueueLedger
from gangplan.testing import a_request
from gangplan.types import PodSet, Reservation, ReservationState, Token
from tests.cluster.conftest import Space, until

GPUS = 8
GRANTED = ReservationState.GRANTED
_examples = itertools.count()
_picks = st.integers(0, 7)


class KueueMachine(RuleBasedStateMachine):
    """A ledger on 8 GPUs with calls in any order; what it says is held against what Kueue counts."""

    space: Space

    def __init__(self) -> None:
        super().__init__()
        self.name = next(_examples)
        self.ledger: KueueLedger = self.space.ledger()
        self.keys: list[str] = []
        self.tokens: dict[str, Token] = {}
        self.ended: dict[str, ReservationState] = {}

    def teardown(self) -> None:
        """End what is left, so that the next example begins empty."""
        for key in self.keys:
            self.ledger.cancel(self.ledger.find(key).id)
        self.ledger.close()

    @rule(pods=st.integers(1, 4), each=st.sampled_from((1, 2, 4)), priority=st.integers(0, 3))
    def submit(self, pods: int, each: int, priority: int) -> None:
        """A gang of any shape."""
        key = f"s{self.name}-{len(self.keys)}"
        pod_sets = (PodSet(count=pods, gpus_per_pod=each),)
        wish = a_request(key, pod_sets=pod_sets, priority=priority, duration=timedelta(hours=1))
        assert self.ledger.submit(wish).id == self.ledger.submit(wish).id
        self.keys.append(key)

    @rule(pick=_picks)
    def release(self, pick: int) -> None:
        """Give slots back, with the right token and before that with a wrong one."""
        if (one := self.picked(pick)) is not None and one.token is not None:
            with pytest.raises(StaleTokenError):
                self.ledger.release(one.id, Token(one.token - 1))
            assert self.ledger.release(one.id, one.token).state is ReservationState.RELEASED

    @rule(pick=_picks)
    def cancel(self, pick: int) -> None:
        """End what waits or holds; again answers the same."""
        if (one := self.picked(pick)) is not None:
            assert self.ledger.cancel(one.id) == self.ledger.cancel(one.id)

    @rule(pick=_picks)
    def renew(self, pick: int) -> None:
        """A lease goes on."""
        if (one := self.picked(pick)) is not None and one.token is not None:
            assert self.ledger.renew(one.id, one.token).token == one.token

    @rule(minutes=st.sampled_from((1, 30, 61)))
    def pass_time(self, minutes: int) -> None:
        """Leases may run out."""
        self.space.clock.advance(timedelta(minutes=minutes))
        self.ledger.tick()

    def picked(self, pick: int) -> Reservation | None:
        """Return one of the reservations as it stands."""
        return self.ledger.find(self.keys[pick % len(self.keys)]) if self.keys else None

    @invariant()
    def what_is_granted_is_what_is_counted(self) -> None:
        """Whole gangs, no more than there is, once Kueue's count has come after; final states stay; tokens grow."""
        if not self.keys:
            return
        found = until(self.agreed)
        for one in found:
            before = self.ended.get(one.id)
            assert before is None or before is one.state
            if one.state.final:
                self.ended[one.id] = one.state
            if one.state is GRANTED:
                assert sum(place.gpus for place in one.placements) == one.request.gpus
                assert one.token is not None
                assert one.token >= self.tokens.get(one.id, Token(0))
                self.tokens[one.id] = one.token

    def agreed(self) -> list[Reservation] | None:
        """Return the reservations when the ledger and Kueue say the same."""
        found = list(self.ledger.list())
        holding = sum(one.request.gpus for one in found if one.state is GRANTED)
        assert holding <= GPUS
        queue = self.space.api.get(f"/apis/kueue.x-k8s.io/v1beta2/clusterqueues/{self.space.name}-queue")
        flavors = queue["status"].get("flavorsReservation", ())
        counted = sum(
            int(one["total"]) for flavor in flavors for one in flavor["resources"] if one["name"] == "nvidia.com/gpu"
        )
        return found if counted == holding else None


def test_no_sequence_of_calls_breaks_an_invariant(space: Space) -> None:
    """A small search: each step waits for the real Kueue."""
    space.queue({space.flavor(): GPUS})
    machine = type("Machine", (KueueMachine,), {"space": space})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )
