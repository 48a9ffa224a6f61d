"""Numbers, times and durations as people read them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

NOTHING = "–"  # noqa: RUF001  the typographer's dash for an empty cell


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands marked; a dash for none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:z,.{digits}f}"  # z: a rounded -0 is 0


def share(value: float | None, digits: int = 0) -> str:
    """A share as per cent."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}%}".replace("%", " %")


def moment(value: datetime | None) -> str:
    """A time to the minute; the page says once that all are UTC."""
    return NOTHING if value is None else f"{value:%a %d %b %H:%M}"


def second(value: datetime | None) -> str:
    """A time to the second."""
    return NOTHING if value is None else f"{value:%d %b %H:%M:%S}"


def duration(value: timedelta | float | None) -> str:
    """A duration in its two largest units."""
    if value is None:
        return NOTHING
    total = round(value.total_seconds() if isinstance(value, timedelta) else value)
    sign, total = ("-", -total) if total < 0 else ("", total)
    parts = [(total // 86400, "d"), (total // 3600 % 24, "h"), (total // 60 % 60, "min"), (total % 60, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    shown = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return sign + (" ".join(shown) or "0 s")


def factor(value: float | None) -> str:
    """A factor as a change in per cent."""
    if value is None or not math.isfinite(value):
        return NOTHING
    change = round((value - 1) * 100)
    return "none" if change == 0 else f"{change:+d} %"
