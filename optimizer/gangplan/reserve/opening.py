"""From the URL of a database to an open ledger."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from gangplan.clock import Clock
from gangplan.config import load_settings
from gangplan.errors import InputError, MissingExtraError, UnavailableError
from gangplan.reserve.contract import OperableLedger
from gangplan.reserve.ledger import StoreLedger
from gangplan.reserve.stores import (
    Database,
    IdleConnections,
    LocalWakeup,
    MemoryStore,
    Monotonic,
    PostgresWakeup,
    SqliteWakeup,
    SqlStore,
    wait_for_a_free_one,
)
from gangplan.urls import CLEAR, shown, sqlite_file, sqlite_url, unambiguous

_BUSY_S = 30.0
"""How long a call waits for another process's transaction; `?timeout=<seconds>` in the URL says otherwise."""

_CONNECTIONS = 40
"""The most connections beside the usual few that many threads of one process use at a time."""

_WRITE_LOCK = 0x67616E67  # "gang": the number of our advisory lock


def open_sql_ledger(url: str, *, clock: Clock) -> OperableLedger:
    """Open the ledger at a URL of a database, or one in memory."""
    if _parse(url).get_backend_name() == "memory":
        return StoreLedger(MemoryStore(clock), clock=clock)
    return StoreLedger(open_store(url, clock=clock), clock=clock)


def open_store(
    url: str, *, clock: Clock | None = None, threads: bool = True, monotonic: Monotonic = time.monotonic
) -> SqlStore:
    """Open the SQL store at a URL; with `threads` off nothing moves in it but by `step`, as a simulation needs it."""
    clock = clock or load_settings().clock
    parsed = _parse(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.database:
        return SqlStore(_sqlite(parsed), clock=clock, threads=threads, monotonic=monotonic)
    if kind == "postgresql" and parsed.database:
        return SqlStore(_postgresql(parsed), clock=clock, threads=threads, monotonic=monotonic)
    raise _no_ledger(url)


def _parse(url: str) -> URL:
    """Read a URL, or refuse what is none."""
    file = sqlite_file(url)
    if not unambiguous(url):
        raise InputError("ledger", url, CLEAR)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise _no_ledger(url) from None
    # SQLAlchemy decodes the path of a URL from 2.1 on
    return parsed if file is None else parsed.set(database="" if file == Path() else str(file))


def _no_ledger(url: str) -> InputError:
    """Say which URLs there are."""
    known = "sqlite:///path/to/ledger.db, postgresql://user@host/database, memory:// or kueue://context/namespace/queue"
    return InputError("ledger", url, f"is no ledger's URL: give {known}")


def _sqlite(url: URL) -> Database:
    """Open a SQLite file, which is made, with its folder, when it is missing."""
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"ledger: {path.parent} cannot be made ({error.strerror}): check its rights") from None
    timeout = _seconds(url)
    plain = url.difference_update_query(["timeout"])
    return Database(
        writer=_sqlite_engine(plain, timeout, "BEGIN IMMEDIATE"),
        reader=_sqlite_engine(plain, timeout, "BEGIN"),
        poster=_sqlite_engine(plain, timeout, "BEGIN IMMEDIATE", synchronous="NORMAL"),
        wakeup=SqliteWakeup(str(path)),
        shown=sqlite_url(path),
        patience=timeout,
    )


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


def _sqlite_engine(url: URL, timeout: float, begin: str, *, synchronous: str = "FULL") -> Engine:
    """Return an engine whose transactions begin as said; with FULL they are durable on commit."""
    engine = create_engine(url, connect_args={"timeout": timeout, "check_same_thread": False})

    def connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute(f"PRAGMA busy_timeout={round(timeout * 1000)}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
    return engine


def _postgresql(url: URL) -> Database:
    """Open a PostgreSQL database; its write lock is an advisory lock that ends with the transaction or the client."""
    timeout, listens = _seconds(url), _listens(url)
    plain = url.difference_update_query(["timeout", "listen"]).set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(plain, pool_pre_ping=True, max_overflow=_CONNECTIONS)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "psycopg", "postgres") from None

    wait_for_a_free_one(engine, timeout)
    # One pool for all three kinds: who makes one call at a time has one connection, and not one of each kind.
    writer, poster = engine.execution_options(), engine.execution_options()
    reader = engine.execution_options(isolation_level="REPEATABLE READ")

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(timeout * 1000) or 1}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")

    def posting(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    event.listen(writer, "begin", begun)
    event.listen(poster, "begin", posting)
    conninfo = plain.set(drivername="postgresql").render_as_string(hide_password=False)
    wakeup = PostgresWakeup(conninfo) if listens else LocalWakeup(looks=True)
    return Database(
        writer=writer,
        reader=reader,
        poster=poster,
        wakeup=wakeup,
        shown=shown(url.render_as_string(hide_password=False)),
        idle=IdleConnections(engine, lambda: wakeup.crowded),
        notifies=listens,
        patience=timeout,
    )


def _listens(url: URL) -> bool:
    """Tell whether a server's notifications are to be used; some connection poolers carry none (`?listen=no`)."""
    given = str(url.query.get("listen", "yes"))
    if given not in ("yes", "no"):
        raise InputError("ledger.listen", given, "must be yes or no")
    return given == "yes"
