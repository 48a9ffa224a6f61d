"""Checks of single fields: each raises InputError with the field, the value and the remedy."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from gangplan.errors import InputError

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
NO_NAME = "is not a name: use 1 to 63 letters, digits, '.', '_' or '-'"
"""The pattern of a plain name, and what errors say about a text that is none."""

_SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,62}")

LONGEST = timedelta(days=3650)
"""The longest duration that a field may hold."""

LAST = datetime(3000, 1, 1, tzinfo=UTC)
"""Times in fields must lie before this one."""

MOST = 1_000_000
"""The largest whole number that a field may hold."""


def require_type(field_name: str, value: object, kind: type | tuple[type, ...], words: str) -> None:
    """Refuse a value of another type; a bool does not count as a number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(field_name, value, f"must be {words}, not {type(value).__name__}")


def require_whole(field_name: str, value: int, least: int, most: int = MOST) -> None:
    """Refuse what is not a whole number from `least` to `most`."""
    require_type(field_name, value, int, "a whole number")
    if not least <= value <= most:
        raise InputError(field_name, value, f"must be a whole number of at least {least} and at most {most}")


def require_text(field_name: str, value: str, least: int = 0, most: int = 512) -> None:
    """Refuse what is not a text of `least` to `most` printable characters."""
    require_type(field_name, value, str, "a text")
    if not least <= len(value) <= most:
        raise InputError(field_name, value, f"must be {least} to {most} characters")
    if not value.isprintable():
        raise InputError(field_name, value, "must hold no control characters")


def require_span(field_name: str, value: timedelta) -> None:
    """Refuse a duration that is not positive, or longer than ten years."""
    require_type(field_name, value, timedelta, "a timedelta")
    require_positive(field_name, value.total_seconds())
    if value > LONGEST:
        raise InputError(field_name, value, f"must be at most {LONGEST.days} days")


def require_items(field_name: str, value: tuple[object, ...], kind: type, words: str) -> None:
    """Refuse what is not a tuple of 1 to 64 values of one type."""
    require_type(field_name, value, tuple, f"a tuple of {words}")
    if not 1 <= len(value) <= 64:
        shown = f"{len(value)} of them" if value else "[]"
        raise InputError(field_name, shown, f"is empty or too long: give 1 to 64 {words}, the preferred first")
    for item in value:
        require_type(field_name, item, kind, words)


def require_name(field_name: str, value: str) -> str:
    """Return `value`, or refuse what is not a plain name."""
    require_type(field_name, value, str, "a name")
    if not re.fullmatch(NAME, value):
        raise InputError(field_name, value, NO_NAME)
    return value


def require_slot(field_name: str, value: str) -> None:
    """Refuse what cannot be the name of a slot: gpu, a MIG profile or a fraction."""
    require_type(field_name, value, str, "a name")
    if not _SLOT.fullmatch(value):
        raise InputError(field_name, value, "names no slot: give gpu, a MIG profile as 1g.10gb or a fraction as 1/4")


def require_positive(field_name: str, value: float) -> None:
    """Refuse zero, negative numbers, NaN and infinity."""
    if not value > 0 or value == float("inf"):
        raise InputError(field_name, value, "must be a number greater than 0")


def require_at_least(field_name: str, value: float, least: float) -> None:
    """Refuse numbers below `least`, NaN and infinity."""
    if not value >= least or value == float("inf"):
        raise InputError(field_name, value, f"must be a number of at least {least:g}")
