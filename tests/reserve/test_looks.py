"""What a process that waits asks a SQL ledger for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, event

from gangplan.reserve.ledger import StoreLedger
from gangplan.reserve.opening import open_store
from gangplan.testing import FakeClock, a_calendar, a_request
from gangplan.types import Reservation, ReservationState


@contextmanager
def asked() -> Generator[list[str]]:
    """Collect the statements that are sent to any database."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_look_is_one_query_however_many_wait(tmp_path: Path) -> None:
    """While nothing happens each look of a process with many waits is one query; the next change is still told."""
    clock = FakeClock()
    store = open_store(f"sqlite:///{tmp_path}/ledger.db", clock=clock, threads=False)
    with StoreLedger(store, clock=clock) as ledger:
        ledger.publish(a_calendar(hours=[2] * 9))
        holder = ledger.submit(a_request("holder"))
        waiting = [ledger.submit(a_request(f"w{number}")) for number in range(20)]
        told: list[Reservation] = []
        for one in waiting:
            ledger.subscribe(one.id, told.append)
        store.step()
        assert len(told) == 20
        with asked() as statements:
            for _ in range(3):
                store.step()
        assert len([text for text in statements if text.startswith("SELECT")]) == 3, statements
        assert holder.token is not None
        ledger.release(holder.id, holder.token)
        store.step()
    assert ReservationState.GRANTED in {one.state for one in told[20:]}
