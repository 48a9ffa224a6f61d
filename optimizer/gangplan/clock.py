"""Time as gangplan sees it: timezone-aware UTC, from a clock that is passed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from gangplan.errors import InputError

Clock: TypeAlias = Callable[[], datetime]
"""Returns the present moment, timezone-aware, in UTC."""


def system_clock() -> datetime:
    """Return the machine's present moment in UTC."""
    return datetime.now(UTC)


def require_utc(field: str, value: datetime) -> datetime:
    """Return `value` in UTC, or refuse a naive time and any other zone."""
    if value.tzinfo is None or value.utcoffset() != timedelta(0):
        raise InputError(
            field, value.isoformat(), "is not a UTC time: give it with Z or +00:00, like 2026-03-01T12:00:00Z"
        )
    return value.astimezone(UTC)


def parse_utc(field: str, text: str) -> datetime:
    """Read an ISO 8601 time that must say that it is UTC."""
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(field, text, "is not an ISO 8601 time: give it like 2026-03-01T12:00:00Z") from None
    return require_utc(field, value)


def floor_hour(value: datetime) -> datetime:
    """Return the start of the hour that `value` lies in."""
    return value.replace(minute=0, second=0, microsecond=0)
