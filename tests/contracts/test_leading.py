"""Who leads, and what the leader does for others: driven by hand, so that every step stands where the test puts it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from gangplan.errors import GangplanError, KeyConflictError, UnavailableError
from gangplan.reserve import open_ledger
from gangplan.reserve.commands import Command, Release, Submit, batch
from gangplan.reserve.opening import open_store
from gangplan.reserve.stores.sql.leadership import DEAD_AFTER, LINGER
from gangplan.reserve.stores.sql.store import PENDING, SqlStore
from gangplan.testing import FakeClock, a_calendar, a_request
from gangplan.types import Reservation


@dataclass
class Stage:
    """Stores on one database, a clock, and a monotonic time that the test moves."""

    url: str
    clock: FakeClock = field(default_factory=FakeClock)
    seconds: float = 100.0
    stores: list[SqlStore] = field(default_factory=list)

    def open(self) -> SqlStore:
        """Open a store that moves only by hand."""
        store = open_store(self.url, clock=self.clock, threads=False, monotonic=lambda: self.seconds)
        self.stores.append(store)
        return store


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, new_url: Callable[[str], str]) -> Iterator[Stage]:
    """An empty database with one pool of 2 nodes x 4 GPUs."""
    stage = Stage(new_url(request.param))
    with open_ledger(stage.url, clock=stage.clock) as ledger:
        ledger.publish(a_calendar())
    yield stage
    for store in stage.stores:
        store.close()


@dataclass(frozen=True)
class Brew(Command):
    """A command that no leader knows, or that fails in it."""

    name: ClassVar[str] = "brew"

    def run(self, book: object, lookup: object, now: int) -> None:
        """Fail."""
        raise KeyError("beans")


class Empty(Brew):
    """A submit without its arguments, which no client of ours writes."""

    name = "submit"


def submit(key: str, **changes: object) -> Submit:
    """Return the command that submits a request."""
    request = a_request(key, **changes)
    return Submit(request)


def test_a_posted_command_is_run_once_by_the_leader_and_answered(stage: Stage) -> None:
    """The client has no answer before the leader's step and the reservation after it; the inbox is empty then."""
    client, leader = stage.open(), stage.open()
    leader.step(lead=True)
    call = client.post(submit("a"))
    assert client.answer(call) is PENDING
    assert leader.status().inbox == 1
    leader.step(lead=True)
    answer = client.answer(call)
    assert isinstance(answer, Reservation)
    assert answer == client.get(answer.id)[0].reservation()  # pyright: ignore[reportOptionalMemberAccess]
    assert answer.token == 1
    assert (leader.status().inbox, leader.status().leader) == (0, leader.leadership.name)
    leader.step(lead=True)
    assert len(client.select(since=None, state=None)) == 1


def test_refusals_travel_as_themselves(stage: Stage) -> None:
    """Another process's refusal has its type and its words; the commands beside it are run."""
    client, leader = stage.open(), stage.open()
    leader.step(lead=True)
    calls = [client.post(submit("a")), client.post(submit("a", priority=9)), client.post(submit("b"))]
    calls.append(client.post(Brew()))
    leader.step(lead=True)
    first, conflict, second, unknown = (client.answer(call) for call in calls)
    assert isinstance(first, Reservation)
    assert isinstance(conflict, KeyConflictError)
    assert "another body" in str(conflict)
    assert isinstance(second, Reservation)
    assert isinstance(unknown, GangplanError)
    assert "brew" in str(unknown)


def test_a_command_that_breaks_the_leader_is_refused_and_the_rest_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command whose run fails, or whose text has no arguments, ends as an error of its own."""
    monkeypatch.setitem(batch.COMMANDS, "brew", Brew)
    client, leader = stage.open(), stage.open()
    leader.step(lead=True)
    good, bad, empty, later = (client.post(c) for c in (submit("a"), Brew(), Empty(), submit("b")))
    for _ in range(3):
        leader.step(lead=True)
    assert isinstance(client.answer(good), Reservation)
    assert "failed in its leader" in str(client.answer(bad))
    assert "failed in its leader" in str(client.answer(empty))
    assert isinstance(client.answer(later), Reservation)


def test_a_leader_that_stands_still_is_replaced_after_two_seconds_and_not_before(stage: Stage) -> None:
    """Who waits takes over by raising the term; what was asked meanwhile is run by the new leader, once."""
    dead, client = stage.open(), stage.open()
    dead.step(lead=True)
    term = dead.status().term
    call = client.post(submit("a"))
    client.step()
    stage.seconds += DEAD_AFTER - 0.1
    client.step()
    assert client.answer(call) is PENDING
    stage.seconds += 0.2
    client.step()
    assert isinstance(client.answer(call), Reservation)
    assert (client.status().leader, client.status().term) == (client.leadership.name, term + 1)


def test_a_beating_leader_is_not_replaced(stage: Stage) -> None:
    """A heartbeat in between starts the two seconds anew, whatever the clocks say."""
    leader, other = stage.open(), stage.open()
    for _ in range(10):
        leader.step(lead=True)
        other.step(lead=True)
        stage.seconds += DEAD_AFTER / 2
    assert other.status().leader == leader.leadership.name


def test_a_deposed_leader_changes_nothing(stage: Stage) -> None:
    """One that stood still and comes back finds another's term: it is told who leads, and leads no more."""
    old, new = stage.open(), stage.open()
    old.step(lead=True)
    new.step()
    stage.seconds += DEAD_AFTER + 0.1
    new.step(lead=True)
    assert new.status().leads
    with pytest.raises(UnavailableError, match="leads it"):
        old.change(submit("a"))
    assert not old.leadership.leads
    assert new.select(since=None, state=None) == []
    old.step(lead=True)
    assert new.status().leader == new.leadership.name


def test_closing_resigns_at_once(stage: Stage) -> None:
    """The next one leads without waiting for a heartbeat to stand still."""
    first, second = stage.open(), stage.open()
    first.step(lead=True)
    second.step()
    first.close()
    second.step(lead=True)
    assert second.status().leads


def test_a_client_that_leads_leaves_when_nobody_asks(stage: Stage) -> None:
    """After a short linger the seat is empty; a store that leads for good stays."""
    client = stage.open()
    call = client.post(submit("a"))
    client.step()
    assert isinstance(client.answer(call), Reservation)
    assert client.status().leads
    stage.seconds += LINGER + 0.1
    client.step()
    client.step()
    assert client.status().leader is None
    client.lead()
    client.step()
    stage.seconds += 10 * LINGER
    client.step()
    assert client.status().leads


def test_with_no_leader_calls_are_committed_directly(stage: Stage) -> None:
    """Two stores that take turns see each other's changes, and nobody need lead."""
    one, two = stage.open(), stage.open()
    first, second = one.change(submit("a")), two.change(submit("b"))
    assert first is not None
    assert second is not None
    assert (first.state.value, second.state.value) == ("granted", "waiting")
    one.change(Release(first.id, first.token))
    assert two.get(second.id)[0].state.value == "granted"  # pyright: ignore[reportOptionalMemberAccess]
    assert one.status().leader is None


def test_answers_that_nobody_reads_are_swept(stage: Stage) -> None:
    """A client that died leaves an answer behind, for a while."""
    client, leader = stage.open(), stage.open()
    leader.step(lead=True)
    call = client.post(submit("a"))
    leader.step(lead=True)
    stage.seconds += 11
    leader.step(lead=True)
    assert client.answer(call) is PENDING


def test_the_leader_ticks_when_time_alone_changes_something(stage: Stage) -> None:
    """A lease that ran out ends, and the next gang starts, without a call."""
    leader = stage.open()
    leader.change(submit("a"))
    second = leader.change(submit("b"))
    assert second is not None
    stage.clock.advance(timedelta(hours=1))
    leader.step(lead=True)
    leader.step(lead=True)
    assert leader.get(second.id)[0].state.value == "granted"  # pyright: ignore[reportOptionalMemberAccess]


def test_a_call_without_an_answer_is_taken_back_in_time(tmp_path: Path) -> None:
    """After the URL's timeout the caller hears of it, and nobody will run the command any more."""
    stage = Stage(f"sqlite:///{tmp_path / 'ledger.db'}?timeout=1")
    client, leader = stage.open(), stage.open()
    leader.step(lead=True)
    client.step()
    call = client.post(submit("a"))
    stage.seconds += 1.5
    client.step()
    assert isinstance(client.answer(call), UnavailableError)
    assert leader.status().inbox == 0
    with sqlite3.connect(tmp_path / "ledger.db") as file:
        assert file.execute("SELECT count(*) FROM gangplan_reservations").fetchone() == (0,)
    for store in stage.stores:
        store.close()
