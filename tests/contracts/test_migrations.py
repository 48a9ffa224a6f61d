"""A ledger that an earlier gangplan made is brought up to date with all that is in it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, inspect, make_url, text

from gangplan.clock import to_us
from gangplan.errors import KeyConflictError
from gangplan.reserve import codec, open_ledger
from gangplan.reserve.codec import calendar_text, id_of
from gangplan.reserve.stores.sql import schema
from gangplan.testing import NOW, FakeClock, a_calendar, a_request
from gangplan.types import GangRequest, Level, ReservationState, Topology

HOUR = 3_600_000_000


def body_of_0001(key: str, *, same_rack: bool = False) -> str:
    """Return a request as 0001's code wrote it."""
    return json.dumps(
        {
            "request_key": key,
            "tenant": "vision",
            "pod_sets": [[2, 4]],
            "accelerators": ["h100"],
            "duration": HOUR,
            "walltime": None,
            "priority": 100,
            "workload_class": "throughput",
            "earliest_start": None,
            "latest_start": None,
            "same_rack": same_rack,
            "preemptible": False,
            "labels": {},
        }
    )


def rows_of_0001() -> list[dict[str, Any]]:
    """Return a reservation that was released, one that holds, and one that waits with a promise and its reason."""
    at, slots = to_us(NOW), "[[0, 0, 1, 4], [1, 0, 1, 4]]"
    plain: dict[str, Any] = dict.fromkeys(
        ("token", "pool", "slots", "granted", "hard_end", "expires", "ended", "first_eta", "plan", "reason")
    )
    held = {"pool": "h100-owned", "slots": slots, "first_eta": at}
    first = {"token": 1, "granted": at - HOUR, "hard_end": at, "expires": at, "ended": at - HOUR // 2}
    second = {"token": 2, "granted": at, "hard_end": at + HOUR, "expires": at + HOUR}
    third = {
        "first_eta": at + HOUR,
        "plan": f'["h100-owned", {slots}, {at + HOUR}, {at + 2 * HOUR}, false]',
        "reason": json.dumps(["capacity", "others hold it", [id_of("second")], ["ask for less"]]),
    }
    entries = [("first", "released", {**held, **first}), ("second", "granted", {**held, **second})]
    entries.append(("third", "waiting", third))
    return [
        {
            **plain,
            "id": id_of(key),
            "request_key": key,
            "tenant": "vision",
            "body": body_of_0001(key, same_rack=key == "third"),
            "arrival": number,
            "submitted": at - HOUR,
            "state": state,
            "change": number + 1,
            **more,
        }
        for number, (key, state, more) in enumerate(entries, start=1)
    ]


def make_0001(connection: Connection) -> None:
    """Make a database as 0001 left it: its tables, two calendars and three reservations."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    for row in rows_of_0001():
        names = ", ".join(row)
        places = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO gangplan_reservations ({names}) VALUES ({places})"), row)  # noqa: S608
    for change, hours in ((1, [0]), (4, [2])):
        values = {"change": change, "published": to_us(NOW), "body": calendar_text(a_calendar(hours=hours))}
        connection.execute(text("INSERT INTO gangplan_calendars VALUES (:change, :published, :body)"), values)
    head = "UPDATE gangplan_head SET change = 4, arrivals = 3, tokens = 2, calendar_change = 4, due = :due"
    connection.execute(text(head), {"due": to_us(NOW) + HOUR})


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of 0001."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
    else:
        server = request.getfixturevalue("postgres")
        name = f"old_{abs(hash(tmp_path))}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = server.replace("/postgres?", f"/{name}?")
    driver = "sqlite" if request.param == "sqlite" else "postgresql+psycopg"
    engine = create_engine(make_url(url).set(drivername=driver))
    with engine.begin() as connection:
        make_0001(connection)
    engine.dispose()
    return url


def again(key: str, **changes: Any) -> GangRequest:
    """Return the request of an old row as a client makes it now."""
    return a_request(key, **{"priority": 100, **changes})


def test_what_0001_wrote_reads_back_and_goes_on(old_url: str) -> None:
    """States, slots, tokens, promises and reasons are as they were; the line goes on from there."""
    clock = FakeClock()
    with open_ledger(old_url, clock=clock) as ledger:
        first, second, third = ledger.list()
        assert [r.state.value for r in (first, second, third)] == ["released", "granted", "waiting"]
        assert (first.ended_at, first.token) == (NOW - timedelta(minutes=30), 1)
        assert {p.node for p in second.placements} == {"h100-owned-0", "h100-owned-1"}
        assert (third.eta, third.promised) == (NOW + timedelta(hours=1), True)
        assert third.reason is not None
        assert third.reason.holders == (second.id,)
        assert third.request.topology == Topology(level=Level.RACK)
        assert second.token is not None
        ledger.release(second.id, second.token)
        granted = ledger.get(third.id)
        assert (granted.state, granted.token) == (ReservationState.GRANTED, 3)
        assert ledger.replay().different == ()
    with open_ledger(old_url, clock=clock) as ledger:
        assert ledger.get(third.id) == granted


def test_an_old_key_is_still_the_same_request(old_url: str) -> None:
    """Submitting what was submitted before the upgrade answers with its row; another body is refused."""
    with open_ledger(old_url, clock=FakeClock()) as ledger:
        assert ledger.submit(again("second")).token == 2
        assert ledger.submit(again("third", topology=Topology(level=Level.RACK))).id == id_of("third")
        with pytest.raises(KeyConflictError):
            ledger.submit(again("second", priority=7))


def test_calendars_are_kept_with_their_history(old_url: str) -> None:
    """The newest is in force; the older one is in the documents."""
    with open_ledger(old_url, clock=FakeClock()) as ledger:
        assert [c.planned_gpus for c in ledger.calendar(NOW, NOW + timedelta(hours=1))] == [8]
        store = ledger._store  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
        texts = [document.body for _, document in store.documents("calendar")]
    assert [codec.calendar_from(body).intervals[0].nodes for body in texts] == [0, 2]


def test_an_upgraded_ledger_has_the_tables_that_a_new_one_has(old_url: str) -> None:
    """Columns and indexes are those of the schema; nothing old is left."""
    open_ledger(old_url).close()
    plain = make_url(old_url)
    driver = "sqlite" if plain.get_backend_name() == "sqlite" else "postgresql+psycopg"
    there = inspect(create_engine(plain.set(drivername=driver)))
    for table in schema.metadata.sorted_tables:
        assert {c["name"] for c in there.get_columns(table.name)} == {c.name for c in table.columns}
        assert {i["name"] for i in there.get_indexes(table.name)} == {i.name for i in table.indexes}
    names = {table.name for table in schema.metadata.sorted_tables} | {schema.VERSION_TABLE}
    assert {name for name in there.get_table_names() if name != "sqlite_sequence"} == names
