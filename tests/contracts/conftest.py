"""The ledgers that every contract test runs over: an empty one of each kind, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import FakeClock, a_calendar


@pytest.fixture
def fake() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite"])
def empty(request: pytest.FixtureRequest, tmp_path: Path, fake: FakeClock) -> Iterator[Ledger]:
    """A ledger with no calendar, of each kind."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"
    with open_ledger(url, clock=fake) as ledger:
        yield ledger


@pytest.fixture
def ledger(empty: Ledger) -> Ledger:
    """A ledger whose calendar has one pool of 2 nodes x 4 GPUs."""
    empty.publish(a_calendar())
    return empty


@pytest.fixture
def refused(ledger: Ledger) -> Callable[..., None]:
    """Assert that a call is refused with an error and that no reservation was written by it."""

    def check(error: type[Exception], match: str, call: Callable[[], object]) -> None:
        before = ledger.list()
        with pytest.raises(error, match=match):
            call()
        assert ledger.list() == before

    return check
