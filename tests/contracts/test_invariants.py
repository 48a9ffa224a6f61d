"""Any sequence of calls, on every ledger, leaves the invariants of a reservation true at every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.contracts.machine import LedgerMachine, search
from tests.effort import effort

from gangplan.reserve import open_ledger


@pytest.mark.searches
@pytest.mark.parametrize(
    ("kind", "examples", "steps"),
    [("memory", effort(60, 3000), 60), ("sqlite", effort(6, 100), 30), ("postgresql", effort(4, 60), 25)],
    ids=["memory", "sqlite", "postgresql"],
)
def test_invariants_hold_under_any_calls(new_url: Callable[[str], str], kind: str, examples: int, steps: int) -> None:
    """No sequence of calls breaks an invariant."""

    class Machine(LedgerMachine):
        def opened(self):
            return open_ledger(new_url(kind), clock=self.clock)

    search(Machine, examples=examples, steps=steps)
