"""The ledgers' own stateful search on the real Kueue: what is granted is what Kueue counts, too.

What a ledger on Kueue does not do is left out by the table of the contract (differences.py). Kueue goes on between two
calls: each step waits until its count and the ledger's agree, and what waits may have been granted since it was read.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis.stateful import invariant

from gangplan.kube.api import connect
from gangplan.reserve.kueue.ledger import KueueLedger, Place
from gangplan.reserve.kueue.objects import names
from gangplan.types import GangRequest, Limit, Placement, Reservation, ReservationState
from tests.cluster import differences
from tests.cluster.conftest import Space, until
from tests.contracts.machine import POOLS, LedgerMachine, search
from tests.effort import effort

GPUS = {pool.accelerator: pool.gpus_per_node * pool.max_nodes for pool in POOLS}
GRANTED = ReservationState.GRANTED


class KueueMachine(LedgerMachine):
    """A ledger on a LocalQueue with as many GPUs of each accelerator as the machine's pools have."""

    start = datetime(2100, 3, 1, 9, tzinfo=UTC)  # Kueue's own clock never says anything later
    space: Space
    flavors: dict[str, int]

    def opened(self) -> KueueLedger:
        """Open a ledger; that of the sequence before has been emptied."""
        place = Place(namespace=self.space.name, queue="queue")
        return KueueLedger(connect(kubeconfig=str(self.space.kubeconfig)), place, clock=self.clock)

    def begin(self) -> None:
        """The queue has its capacity."""

    def teardown(self) -> None:
        """All that is left can be ended, and nothing stays behind."""
        for one in self.ledger.list():
            self.ledger.cancel(one.id)
        self.clock.advance(timedelta(hours=1))
        self.ledger.compact(self.clock())
        assert self.ledger.list() == ()
        self.ledger.close()

    def possible(self, request: GangRequest) -> GangRequest:
        """No gang grows or shrinks, and no flavor has a Topology."""
        fixed = tuple(replace(one, min_count=None, max_count=None) for one in request.pod_sets)
        return replace(request, pod_sets=fixed, topology=None)

    def room(self, place: Placement) -> int:
        """Without a Topology a placement is in a flavor."""
        return self.flavors[place.pool]

    def whole(self, pool: str) -> int:
        """A flavor is a pool."""
        return self.flavors[pool]

    def same(self, before: Reservation, now: Reservation) -> bool:
        """What waits may be granted, or wait for something else, at any moment."""
        return before == now or (before.state.waits and before.id == now.id and before.request == now.request)

    @invariant()
    def what_is_granted_is_what_kueue_counts(self) -> None:
        """Once its count has come after."""
        until(lambda: self.held() == self.counted(), why="what is held is not what Kueue counts")

    def held(self) -> int:
        """Return the GPUs of all that is granted, or kept for a window that opens soon."""
        found = [one for one in self.ledger.list() if one.state is GRANTED or self.kept(one)]
        return sum(one.request.gpus for one in found)

    def kept(self, one: Reservation) -> bool:
        """Whether it has its slots already, to find them free when its window opens."""
        ahead = one.state.waits and one.reason is not None and one.reason.limit is Limit.WINDOW
        return ahead and self.ledger.claim(one.id).safe  # type: ignore[attr-defined]

    def counted(self) -> int:
        """Return the GPUs that Kueue says are reserved."""
        queue = self.space.api.get(f"{names.API}/clusterqueues/{self.space.name}-queue")
        flavors = queue["status"].get("flavorsReservation", ())
        return sum(int(one["total"]) for flavor in flavors for one in flavor["resources"] if one["name"] == names.GPU)


@pytest.mark.searches
def test_no_sequence_of_calls_breaks_an_invariant(space: Space) -> None:
    """A small search: each step waits for the real Kueue."""
    flavors = {space.flavor(name, pool=f"{name}-owned"): GPUS[name] for name in ("a100", "h100")}
    space.queue(flavors)
    left_out = dict.fromkeys(differences.PARTS)
    machine = type("Machine", (KueueMachine,), {"space": space, "flavors": flavors, **left_out})
    search(machine, examples=effort(8, 60), steps=15, shrink=False)


@pytest.mark.parametrize("part", differences.PARTS)
def test_what_is_left_out_is_a_part_of_the_search(part: str) -> None:
    """The table names rules and invariants that there are."""
    assert callable(vars(LedgerMachine)[part])
