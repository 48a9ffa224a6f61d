"""The tables of a SQL ledger, and the migrations to them. Times are microseconds since 1970, UTC."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, MetaData, String, Table, Text, inspect, text

from gangplan.errors import InputError

HEAD = "0002"
"""The newest migration; a database that is at it is opened without Alembic."""

VERSION_TABLE = "gangplan_version"
_MIGRATIONS = Path(__file__).with_name("migrations")

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # the only type that SQLite counts up by itself

# One row: the number of the last change, the counters, the newest document's change, when time alone changes something,
# and who leads: its name, the term that it leads in, and its heartbeat, which only counts.
head = Table(
    "gangplan_head",
    metadata,
    Column("one", BigInteger, primary_key=True, autoincrement=False),
    Column("change", BigInteger, nullable=False),
    Column("arrivals", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("documents_change", BigInteger, nullable=False),
    Column("due", BigInteger),
    Column("term", BigInteger, nullable=False),
    Column("holder", String(200)),
    Column("beat", BigInteger, nullable=False),
)

reservations = Table(
    "gangplan_reservations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("request_key", String(512), nullable=False),
    Column("tenant", String(63), nullable=False),
    Column("body", Text, nullable=False),
    Column("arrival", BigInteger, nullable=False),
    Column("submitted", BigInteger, nullable=False),
    Column("state", String(20), nullable=False),
    Column("token", BigInteger),
    Column("pool", String(63)),
    Column("slots", Text),
    Column("granted", BigInteger),
    Column("hard_end", BigInteger),
    Column("expires", BigInteger),
    Column("ended", BigInteger),
    Column("first_eta", BigInteger),
    Column("plan", Text),
    Column("reason", Text),
    Column("more", Text),
    Column("change", BigInteger, nullable=False),
    Index("gangplan_reservations_change", "change"),
    Index("gangplan_reservations_state", "state", "arrival"),
    Index("gangplan_reservations_ended", "ended"),
)

# Calendars, policies and the nodes' states: the newest of a kind is in force, the others are its history.
documents = Table(
    "gangplan_documents",
    metadata,
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(20), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("gangplan_documents_kind", "kind", "change"),
)

# What clients ask of the leader, and what it answered; both are empty when nobody is at work.
inbox = Table(
    "gangplan_inbox",
    metadata,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("call", String(80), nullable=False),
    Column("client", String(200), nullable=False),
    Column("body", Text, nullable=False),
)

answers = Table(
    "gangplan_answers",
    metadata,
    Column("call", String(80), primary_key=True),
    Column("client", String(200), nullable=False),
    Column("change", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("gangplan_answers_client", "client", "change"),
    Index("gangplan_answers_change", "change"),
)

# One row for each change: when, in whose term, by which commands, and what it made of which columns.
audit = Table(
    "gangplan_audit",
    metadata,
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("term", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)


def version_of(connection: Connection) -> str | None:
    """Return the migration that a database is at; None for an empty one."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 (a constant)


def migrate(connection: Connection) -> None:
    """Bring a database to `HEAD` in the transaction that the caller holds the write lock in."""
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    present = version_of(connection)
    if present == HEAD:
        return
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise InputError("ledger", f"schema {present}", f"is not known here ({error}): upgrade gangplan") from None
