"""From a ledger's URL to an open ledger."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from gangplan.clock import Clock, system_clock
from gangplan.errors import InputError, UnavailableError
from gangplan.reserve.contract import Ledger
from gangplan.reserve.ledger import StoreLedger
from gangplan.reserve.memory import MemoryStore
from gangplan.reserve.sql import SqlStore

_BUSY_S = 30.0
"""How long a call waits for another process's transaction; `?timeout=<seconds>` in the URL says otherwise."""


def open_ledger(url: str, *, clock: Clock = system_clock) -> Ledger:
    """Open the ledger at a URL, and bring its schema up to date.

    `sqlite:///path/to/ledger.db` keeps it in a file, `memory://` in this process alone.
    """
    parsed = _parse(url)
    kind = parsed.get_backend_name()
    if kind == "memory":
        return StoreLedger(MemoryStore(), clock=clock)
    if kind == "sqlite" and parsed.database:
        return StoreLedger(_sqlite(parsed), clock=clock)
    raise _no_ledger(url)


def _parse(url: str) -> URL:
    """Read a URL, or refuse what is none."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise _no_ledger(url) from None


def _no_ledger(url: str) -> InputError:
    """Say which URLs there are, and never show a password."""
    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        shown = url.rpartition("@")[2]
    return InputError("ledger", shown, "is no ledger's URL: give sqlite:///path/to/ledger.db or memory://")


def _sqlite(url: URL) -> SqlStore:
    """Open a SQLite file, which is made, with its folder, when it is missing."""
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"ledger: {path.parent} cannot be made ({error.strerror}): check its rights") from None
    timeout = _seconds(url)
    plain = url.difference_update_query(["timeout"])
    writer = _sqlite_engine(plain, timeout, "BEGIN IMMEDIATE")
    return SqlStore(writer, _sqlite_engine(plain, timeout, "BEGIN"), shown=f"sqlite:///{path}")


def _seconds(url: URL) -> float:
    """Return the URL's busy timeout."""
    given = url.query.get("timeout", str(_BUSY_S))
    try:
        seconds = float(str(given))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise InputError("ledger.timeout", given, "must be a number of seconds from 0 to 3600")
    return seconds


def _sqlite_engine(url: URL, timeout: float, begin: str) -> Engine:
    """Return an engine whose transactions begin as said, durable on commit."""
    engine = create_engine(url, connect_args={"timeout": timeout, "check_same_thread": False})

    def connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute(f"PRAGMA busy_timeout={round(timeout * 1000)}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine
