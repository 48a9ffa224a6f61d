"""Any sequence of calls, on every ledger, leaves the invariants of a reservation true at every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.contracts.machine import LedgerMachine, search

from gangplan.reserve import open_ledger


@pytest.mark.parametrize(("kind", "examples", "steps"), [("memory", 170, 60), ("sqlite", 6, 30), ("postgresql", 4, 25)])
def test_invariants_hold_under_any_calls(new_url: Callable[[str], str], kind: str, examples: int, steps: int) -> None:
    """No sequence of calls breaks an invariant."""

    class Machine(LedgerMachine):
        def opened(self):
            return open_ledger(new_url(kind), clock=self.clock)

    search(Machine, examples=examples, steps=steps)
