"""What the tests of a step's client share: a ledger on a clock that they move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gangplan.reserve import Ledger
from gangplan.testing import FakeClock, memory_ledger


@pytest.fixture
def fake() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture
def ledger(fake: FakeClock) -> Iterator[Ledger]:
    """A ledger with 2 nodes x 4 GPUs."""
    with memory_ledger(fake) as ledger:
        yield ledger
