"""How a process learns, at little cost, that other processes have committed something.

PostgreSQL sends a notification (LISTEN/NOTIFY), SQLite has a number that changes with each commit. Both are only hints:
whoever waits also looks from time to time by itself.
"""

from __future__ import annotations

import os
import select
import sqlite3
import time
from threading import Event, Lock
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import psycopg

CHANGES, COMMANDS = "gangplan_news", "gangplan_inbox"
"""The channels on which PostgreSQL tells of changes, and of commands for the leader."""

_USED = "SELECT (SELECT count(*) FROM pg_stat_activity)::float / current_setting('max_connections')::int"

BUSY, IDLE = 0.003, 0.1
"""Seconds between two looks while something goes on, and after a long time without any change."""

CALM = 1.0
"""Seconds without a change after which the looks become less frequent."""


_CROWDED = 0.8
"""The part of a server's connections from which on nobody listens any more: what is left is for calls."""

_FULL = ("too many clients", "too many connections", "connection slots are reserved", "no more connections allowed")
"""What PostgreSQL and its poolers say where they have no connection to spare; a refusal to connect has no code."""


def is_full(error: Exception) -> bool:
    """Tell whether a server refused a connection because it has none to spare."""
    return any(words in str(error) for words in _FULL)


class Wakeup(Protocol):
    """What a poller waits on between two looks."""

    @property
    def crowded(self) -> bool:
        """Whether so many use the database that those who only wait should look seldom, and keep no connection."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until others may have committed, until `notify` is called, or for so many seconds."""
        ...

    def notify(self) -> None:
        """End a wait, and look often for a while: something has happened, or somebody waits for it."""
        ...

    def rest(self) -> None:
        """Let go of what a wait costs the database: nobody waits for now."""
        ...

    def close(self) -> None:
        """Close connections and files."""
        ...


class LocalWakeup:
    """Waits for `notify` calls of its own process; with `looks` a wait also ends from time to time without one."""

    crowded = False

    def __init__(self, *, looks: bool = False) -> None:
        self._looks = looks
        self._event = Event()
        self._last = time.monotonic()  # the last call of `notify`, or the last change

    def wait(self, seconds: float) -> None:
        """See `Wakeup.wait`."""
        self._event.wait(min(seconds, self._pause()) if self._looks else seconds)
        self._event.clear()

    def notify(self) -> None:
        """See `Wakeup.notify`."""
        self._last = time.monotonic()
        self._event.set()

    def rest(self) -> None:
        """See `Wakeup.rest`."""

    def close(self) -> None:
        """See `Wakeup.close`."""

    def _pause(self) -> float:
        """Return the seconds to the next look: few after a change, more the longer nothing changes."""
        calm = time.monotonic() - self._last - CALM
        return BUSY if calm < 0 else min(IDLE, BUSY + calm / 50)


class SqliteWakeup(LocalWakeup):
    """Reads a number that SQLite changes when another connection has committed; that takes a few microseconds."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._version = -1

    def wait(self, seconds: float) -> None:
        """See `Wakeup.wait`."""
        deadline = time.monotonic() + seconds
        while not self._changed():
            left = deadline - time.monotonic()
            if left <= 0 or self._event.wait(min(left, self._pause())):
                break
        self._event.clear()

    def _changed(self) -> bool:
        """Tell whether somebody has committed since the last look."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        changed, self._version = version != self._version, version
        if changed:
            self._last = time.monotonic()
        return changed

    def close(self) -> None:
        """See `Wakeup.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresWakeup:
    """Listens to the server; while its connection is lost, a wait ends after `IDLE` seconds and connects again.

    It does not listen while most of the server's connections are in use: each who listens keeps one.
    """

    def __init__(self, conninfo: str) -> None:
        self.crowded = False
        self._conninfo = conninfo
        self._connection: psycopg.Connection | None = None
        self._pipe_lock = Lock()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def wait(self, seconds: float) -> None:
        """See `Wakeup.wait`."""
        import psycopg

        try:
            if self._connection is None and self._listen():
                return  # what was told before it listened is looked for
            listening = self._connection
            ready, _, _ = select.select([self._read, *([listening] if listening else [])], [], [], seconds)
            if listening in ready:
                list(listening.notifies(timeout=0))
        except psycopg.OperationalError as error:
            self._disconnect()
            self.crowded = is_full(error)
            ready, _, _ = select.select([self._read], [], [], seconds if self.crowded else min(seconds, IDLE))
        if self._read in ready:
            os.read(self._read, 4096)

    def _listen(self) -> bool:
        """Begin to listen; tell whether the server has room for that."""
        import psycopg

        connection = psycopg.connect(self._conninfo, autocommit=True)
        used = connection.execute(_USED).fetchone()
        self.crowded = used is not None and used[0] > _CROWDED
        if self.crowded:
            connection.close()
            return False
        connection.execute(f"LISTEN {CHANGES}; LISTEN {COMMANDS}".encode())
        self._connection = connection
        return True

    def rest(self) -> None:
        """See `Wakeup.rest`."""
        self._disconnect()

    def _disconnect(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def notify(self) -> None:
        """See `Wakeup.notify`."""
        with self._pipe_lock:
            if self._write >= 0:
                try:
                    os.write(self._write, b".")
                except BlockingIOError:
                    return  # a full pipe ends the wait as well

    def close(self) -> None:
        """See `Wakeup.close`."""
        self._disconnect()
        with self._pipe_lock:
            if self._write >= 0:
                os.close(self._read)
                os.close(self._write)
                self._read = self._write = -1
