"""The step release_gang: unconditional, by the run's key, twice the same as once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from gangplan.reserve import Ledger
from gangplan.types import Reservation, ReservationState
from gangplan_kfp import reserved_gang
from gangplan_kfp.components import release_gang, reserve_gang
from gangplan_kfp.support import holding


@dsl.component(base_image="python", install_kfp_package=False)
def fail():
    """Fail as a training step would."""
    raise RuntimeError("out of memory")


def test_released_twice_is_released(ledger: Callable[[], Ledger], wish: dict[str, Any], runs: Path) -> None:
    """A release that runs again finds its work done, and says the same."""
    reserve_gang(run_id="run-1", **wish)
    assert [release_gang(run_id="run-1").output for _ in range(2)] == ["released", "released"]
    with ledger() as book:
        assert [found.state for found in book.list()] == [ReservationState.RELEASED]


def test_nothing_to_release_is_no_error(ledger: Callable[[], Ledger], runs: Path) -> None:
    """A run that failed before it reserved anything still ends its exit task well."""
    assert release_gang(run_id="run-1").output == "none"


def test_waiting_request_leaves_the_line(
    held: Reservation, ledger: Callable[[], Ledger], wish: dict[str, Any], runs: Path
) -> None:
    """A run that ends while its request still waits takes it out of the line, and touches nobody else's."""
    with ledger() as book:
        book.submit(holding.request_from(run_id="run-1", **wish))
    assert release_gang(run_id="run-1").output == "cancelled"
    with ledger() as book:
        assert book.get(held.id).state is ReservationState.GRANTED


def test_released_when_a_step_fails(ledger: Callable[[], Ledger], wish: dict[str, Any], runs: Path) -> None:
    """The slots come back although the work inside the reservation failed."""

    @dsl.pipeline(name="failing")
    def failing():
        with reserved_gang(retry=False, **wish):
            fail()

    with pytest.raises(RuntimeError, match="fail"):
        failing()
    with ledger() as book:
        (found,) = book.list()
    assert found.granted_at is not None
    assert found.state is ReservationState.RELEASED
