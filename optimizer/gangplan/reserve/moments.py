"""Moments as whole microseconds since 1970 in UTC: exact, and quick to compare and to store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

FOREVER = 2**62
"""Later than every moment."""

SECOND = 1_000_000


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
