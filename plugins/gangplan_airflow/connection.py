"""A connection of type `gangplan`: the ledger that it names, and what its Test button says."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from gangplan.errors import InputError, UnsupportedError
from gangplan.reserve import OperableLedger
from gangplan.types import ReservationState

if TYPE_CHECKING:
    from airflow.sdk import Connection


def url_of(connection: Connection) -> str:
    """Return the URL of the ledger that a connection names; empty where it names none.

    That is its host, if it is a URL, or PostgreSQL at its host. Earlier versions kept the URL in the extra `url`, which
    still holds. Login, password, port and database complete a URL of PostgreSQL that lacks them.
    """
    given = str(_extra(connection).get("url") or connection.host or "")
    if not given:
        return ""
    if "://" in given and not given.startswith("postgresql"):
        return given
    try:
        url = make_url(given) if "://" in given else URL.create("postgresql+psycopg", host=given)
    except (ArgumentError, ValueError):
        return given  # the ledger says what is wrong with it
    missing = {
        "username": url.username or connection.login,
        "password": url.password or connection.password,
        "port": url.port or connection.port,
        "database": url.database or connection.schema,
    }
    return url.set(**missing).render_as_string(hide_password=False)


def shows_password(connection: Connection) -> bool:
    """Tell whether a connection's URL carries a password, which Airflow shows to all who see connections."""
    given = str(_extra(connection).get("url") or connection.host or "")
    try:
        return "://" in given and make_url(given).password is not None
    except (ArgumentError, ValueError):
        return False


def describe(ledger: OperableLedger, url: str, now: datetime) -> str:
    """Say what answers: the kind of ledger, its capacity, the plan that holds, the tenants."""
    live = [row for row in ledger.list() if not row.state.final]
    held = sum(row.state is ReservationState.GRANTED for row in live)
    return "; ".join(
        [
            f"{_kind(url)} answers: {_capacity(ledger, now)}",
            _plan(ledger),
            _tenants(ledger),
            f"{held} gangs hold slots, {len(live) - held} wait",
        ]
    )


def _kind(url: str) -> str:
    kind = url.partition(":")[0].partition("+")[0]
    return {"sqlite": "a ledger on SQLite", "postgresql": "a ledger on PostgreSQL", "kueue": "a ledger on Kueue"}.get(
        kind, f"a ledger ({kind})"
    )


def _capacity(ledger: OperableLedger, now: datetime) -> str:
    """Say how many GPUs of each pool there are in this hour, and how many of them are free."""
    rows = ledger.calendar(now, now + timedelta(minutes=1))
    pools = {row.pool: f"{row.pool} {row.free_gpus} of {row.planned_gpus} GPUs free" for row in rows}
    return ", ".join(pools.values()) or "no capacity is published for now (run `gangplan init`, or make a plan)"


def _plan(ledger: OperableLedger) -> str:
    try:
        return f"plan {ledger.published() or 'none yet'}"
    except UnsupportedError:
        return "capacity is Kueue's quota"


def _tenants(ledger: OperableLedger) -> str:
    try:
        return f"tenants with rules: {', '.join(sorted(ledger.policy().tenants)) or 'none, all share alike'}"
    except UnsupportedError:
        return "quotas are Kueue's"


def _extra(connection: Connection) -> dict[str, Any]:
    """Read a connection's extra field, which must be a JSON object."""
    try:
        extra = json.loads(connection.extra or "{}")
    except json.JSONDecodeError:
        extra = None
    if not isinstance(extra, dict):
        raise InputError(f"connection {connection.conn_id} extra", "...", "is no JSON object: leave it empty")
    return extra
