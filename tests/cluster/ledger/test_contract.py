"""The ledgers' own contract, claim by claim, on the real Kueue; `differences.py` has what it cannot keep.

The clock stands in the future, so that Kueue's own, which counts whole seconds, never says anything later.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from gangplan.clock import system_clock
from gangplan.kube.api import connect
from gangplan.reserve.kueue.ledger import KueueLedger, Place
from gangplan.testing import FakeClock
from tests.cluster import differences
from tests.cluster.conftest import Space
from tests.contracts import test_ledger, test_takeover
from tests.refusals import refused_by

LATER = datetime(2100, 3, 1, 9, tzinfo=UTC)
CONTRACT = (test_ledger, test_takeover)
CLAIMS = {name: claim for part in CONTRACT for name, claim in vars(part).items() if name.startswith("test_")}
globals().update({name: claim for name, claim in CLAIMS.items() if name not in differences.CLAIMS})


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the contract's now be the test's."""
    for part in CONTRACT:
        monkeypatch.setattr(part, "NOW", LATER)


@pytest.fixture
def fake() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock(LATER)


@pytest.fixture
def ledger(space: Space, fake: FakeClock) -> KueueLedger:
    """A ledger on as many GPUs as the contract's pool has."""
    space.queue({space.flavor(): 8})
    opened = KueueLedger(
        connect(kubeconfig=str(space.kubeconfig)), Place(namespace=space.name, queue="queue"), clock=fake
    )
    space.ledgers.append(opened)
    return opened


@pytest.fixture
def refused(ledger: KueueLedger) -> Callable[..., None]:
    """Assert that a call is refused with an error and that no reservation was written by it."""
    return refused_by(ledger)


def test_the_table_names_claims_that_there_are() -> None:
    """And most of the contract is kept."""
    assert differences.CLAIMS.keys() <= CLAIMS.keys()
    assert system_clock() < LATER
