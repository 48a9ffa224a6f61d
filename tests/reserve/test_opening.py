"""Opening a ledger: its URL, its file, its migrations, and what stands in the way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from gangplan.errors import InputError, UnavailableError
from gangplan.reserve import open_ledger
from gangplan.reserve.stores.sql.schema import HEAD, metadata
from gangplan.testing import FakeClock, a_calendar, a_request

CLIENT = """
import sys, time
from datetime import timedelta
from gangplan.reserve import open_ledger
from gangplan.testing import NOW, a_calendar, a_request
with open_ledger(sys.argv[1], clock=lambda: NOW) as ledger:
    ledger.publish(a_calendar())
    for n in range(int(sys.argv[3])):
        held = ledger.submit(a_request(f"{sys.argv[2]}-{n}"))
        held = ledger.wait(held.id, timeout=timedelta(seconds=1), sleep=lambda _: time.sleep(0.002))
        ledger.release(held.id, held.token)
"""


def test_migrations_make_exactly_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    """Columns and indexes of an opened ledger are those of the schema."""
    url = f"sqlite:///{tmp_path / 'new' / 'ledger.db'}"
    open_ledger(url).close()
    there = inspect(create_engine(url))
    for table in metadata.sorted_tables:
        assert {c["name"] for c in there.get_columns(table.name)} == {c.name for c in table.columns}
        assert {i["name"] for i in there.get_indexes(table.name)} == {i.name for i in table.indexes}


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    """Another process sees the calendar, the grant and the promise as they were."""
    url, clock = f"sqlite:///{tmp_path / 'ledger.db'}", FakeClock()
    with open_ledger(url, clock=clock) as ledger:
        ledger.publish(a_calendar())
        written = (ledger.submit(a_request("a")), ledger.submit(a_request("b")))
    with open_ledger(url, clock=clock) as ledger:
        assert ledger.list() == written
        clock.advance(timedelta(hours=1))
        assert ledger.find("b").granted_at == clock()


def test_two_open_ledgers_see_each_other(tmp_path: Path) -> None:
    """What one grants the other neither grants again nor misses."""
    url, clock = f"sqlite:///{tmp_path / 'ledger.db'}", FakeClock()
    with open_ledger(url, clock=clock) as one, open_ledger(url, clock=clock) as two:
        one.publish(a_calendar())
        first, second = two.submit(a_request("a")), one.submit(a_request("b"))
        assert (first.state.value, second.state.value) == ("granted", "waiting")
        assert first.token is not None
        two.release(first.id, first.token)
        assert one.get(second.id).state.value == "granted"
        two.publish(a_calendar(hours=[0]))
        assert one.submit(a_request("c")).eta is None


def test_processes_may_open_and_use_one_file_at_once(tmp_path: Path) -> None:
    """Three processes that make, migrate and use one file lose nothing and give no token twice."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    clients = [subprocess.Popen([sys.executable, "-c", CLIENT, url, name, "15"]) for name in "abc"]
    assert [client.wait(timeout=60) for client in clients] == [0, 0, 0]
    with open_ledger(url, clock=FakeClock()) as ledger:
        rows = ledger.list()
    assert len(rows) == 45
    assert sorted(row.token for row in rows if row.token) == list(
        range(1, 1 + sum(row.token is not None for row in rows))
    )


@pytest.mark.parametrize("url", ["ledger.db", "", "mysql://u:secret@h/d", "sqlite://", "sqlite:///x.db?timeout=soon"])
def test_what_is_no_ledger_url_is_refused(url: str) -> None:
    """The error names the value and what to give, and never a password."""
    with pytest.raises(InputError, match="ledger") as caught:
        open_ledger(url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """It is named and left as it was."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database, by far\n" * 100)
    with pytest.raises(InputError, match="no gangplan ledger"):
        open_ledger(f"sqlite:///{file}")
    assert file.read_text().startswith("not a database")


def test_a_locked_file_is_unavailable_and_then_works(tmp_path: Path) -> None:
    """A call that cannot get the lock in time says try again; afterwards the same call works."""
    file = tmp_path / "ledger.db"
    with open_ledger(f"sqlite:///{file}?timeout=0.05", clock=FakeClock()) as ledger:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="try again"):
            ledger.submit(a_request("a"))
        other.execute("ROLLBACK")
        assert ledger.submit(a_request("a")).state.value == "waiting"


def test_a_ledger_of_a_newer_gangplan_is_refused(tmp_path: Path) -> None:
    """An unknown schema is not touched; the remedy is named."""
    file = tmp_path / "ledger.db"
    open_ledger(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as other:
        other.execute("UPDATE gangplan_version SET version_num = '9999'")
    with pytest.raises(InputError, match="upgrade gangplan"):
        open_ledger(f"sqlite:///{file}")
    assert HEAD != "9999"


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """A file where the folder should be is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="cannot be made"):
        open_ledger(f"sqlite:///{tmp_path / 'file' / 'deep' / 'ledger.db'}")
