"""Time: timezone-aware UTC from a clock that is passed in, or whole microseconds: exact, quick to compare and store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from gangplan.errors import InputError

Clock: TypeAlias = Callable[[], datetime]
"""Returns the present moment, timezone-aware, in UTC."""

HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)

SECOND = 1_000_000
"""Microseconds in a second."""

FOREVER = 2**62
"""Later than every moment in microseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DURATION = "like 90s, 30m, 2h or 1d"

NO_DURATION = f"is not a duration: give it {DURATION}"
NO_TIME = "is not an ISO 8601 time: give it like 2026-03-01T12:00:00Z"
NOT_UTC = "is not a UTC time: give it with Z or +00:00, like 2026-03-01T12:00:00Z"
"""What errors say about a text that cannot be read so."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def system_clock() -> datetime:
    """Return the machine's present moment in UTC; nothing else reads it, and only edges call this (ruff's TID251)."""
    return datetime.now(UTC)


def require_utc(field: str, value: object) -> datetime:
    """Return `value` in UTC, or refuse a naive time, any other zone, and what is no time."""
    if not isinstance(value, datetime) or value.tzinfo is None or value.utcoffset() != timedelta(0):
        shown = value.isoformat() if isinstance(value, datetime) else value
        raise InputError(field, shown, NOT_UTC)
    return value.astimezone(UTC)


def parse_utc(field: str, text: str) -> datetime:
    """Read an ISO 8601 time that must say that it is UTC."""
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(field, text, NO_TIME) from None
    return require_utc(field, value)


def parse_span(field: str, text: str) -> timedelta:
    """Read a duration such as 90s, 30m, 2h or 1d."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None:
        raise InputError(field, text, NO_DURATION)
    try:
        return timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        raise InputError(field, text, "is longer than any duration may be: give a shorter one") from None


def parse_factors(field: str, texts: Iterable[str]) -> dict[str, float]:
    """Read factors by name, each written like h100=2."""
    factors: dict[str, float] = {}
    for text in texts:
        name, _, factor = (part.strip() for part in text.partition("="))
        if name in factors:
            raise InputError(field, text, f"names {name} twice: give one factor for each")
        try:
            factors[name] = float(factor)
        except ValueError:
            raise InputError(field, text, "is no factor: give it like h100=2") from None
    return factors


def in_words(span: timedelta) -> str:
    """Return a duration for people: in minutes below two hours, in hours below two days, then in days."""
    for unit, name in ((timedelta(days=1), "days"), (HOUR, "h")):
        if span >= 2 * unit:
            return f"{round(span / unit, 1):,g} {name}"
    return f"{span / timedelta(minutes=1):.0f} min"


def floor_hour(value: datetime) -> datetime:
    """Return the start of the hour that `value` lies in."""
    return value.replace(minute=0, second=0, microsecond=0)


# ---------------------------------------------------------------- whole microseconds since 1970 in UTC


def to_us(moment: datetime) -> int:
    """Return the microseconds from 1970 to `moment`."""
    return (moment - _EPOCH) // MICROSECOND


def from_us(us: int) -> datetime:
    """Return the moment of so many microseconds after 1970, in UTC."""
    return _EPOCH + timedelta(microseconds=us)


def span_us(span: timedelta) -> int:
    """Return a duration in microseconds."""
    return span // MICROSECOND


def or_none_us(moment: datetime | None) -> int | None:
    """Return the microseconds of a moment that may be missing."""
    return None if moment is None else to_us(moment)


def or_none_at(us: int | None) -> datetime | None:
    """Return the moment of microseconds that may be missing."""
    return None if us is None else from_us(us)
