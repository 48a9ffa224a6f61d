"""An event with a rule (RRULE) -> its starts near now, found in a bounded number of steps.

Source: RFC 5545, section 3.3.10.
"""

from __future__ import annotations

import itertools
import re
from datetime import datetime, timedelta

from gangplan.errors import InputError
from gangplan.telemetry.calendars.events import Event, until

MOST = 5000
"""How many starts of one series are read, and how many events of a calendar: those nearest to now."""

_MOST_STEPS = 100_000
_CYCLE = 7600
"""Years, a multiple of the Gregorian calendar's 400. dateutil looks for the next start up to the year 9999, so rules
are followed that much later: a rule that has no further start is given up after some centuries, not some millennia."""

_PERIODS = {
    "SECONDLY": timedelta(seconds=1),
    "MINUTELY": timedelta(minutes=1),
    "HOURLY": timedelta(hours=1),
    "DAILY": timedelta(days=1),
    "WEEKLY": timedelta(days=7),
}
_NUMBERS = {"BYSECOND": (0, 59), "BYMINUTE": (0, 59), "BYHOUR": (0, 23), "BYMONTH": (1, 12)}
_ONE_NUMBER = {"INTERVAL": (1, 999_999), "COUNT": (1, 999_999_999)}
_SIGNED = {"BYMONTHDAY": 31, "BYYEARDAY": 366, "BYWEEKNO": 53, "BYSETPOS": 366}
_WORDS = {
    "FREQ": re.compile(f"{'|'.join(_PERIODS)}|MONTHLY|YEARLY"),
    "WKST": re.compile("MO|TU|WE|TH|FR|SA|SU"),
    "UNTIL": re.compile("[0-9]{8}(T[0-9]{6}Z?)?"),
}
_DAY = re.compile(r"([+-]?([1-9]|[1-4][0-9]|5[0-3]))?(MO|TU|WE|TH|FR|SA|SU)")


def starts_by_rule(event: Event, low: datetime, now: datetime, high: datetime) -> tuple[set[datetime], bool]:
    """Return the starts from `low` to `high` by the event's rule and wall clock, and whether some are left out.

    Raises
    ------
    InputError
        When the rule cannot be read, or needs too many steps.
    """
    parts = _parts(event.rule)
    interval, count = int(parts.pop("INTERVAL", "1")), int(parts.pop("COUNT", "0"))
    if "UNTIL" in parts:
        high = min(high, until(event, parts.pop("UNTIL")))
    period = _PERIODS.get(parts["FREQ"])
    if period is None:
        return _followed(event, event.wall, parts, (interval, count), (low, high)), False
    if not any(part.startswith("BY") for part in parts):
        return _evenly(event.wall, period * interval, count, (low, now, high))
    if period < timedelta(hours=1):
        raise InputError("RRULE", event.rule, "repeats within an hour on conditions: give FREQ=HOURLY or a longer one")
    passed = 0 if count else max(0, (low - event.wall) // (period * interval))
    first = event.wall + passed * period * interval
    return _followed(event, first, parts, (interval, count), (low, high)), False


def _parts(rule: str) -> dict[str, str]:
    """Return the parts of a rule by their names; an InputError names one that is none."""
    parts: dict[str, str] = {}
    for part in filter(None, rule.upper().split(";")):
        name, _, value = part.partition("=")
        if name in parts or not _is_part(name, value):
            raise InputError("RRULE", rule, f"has {part!r}, which is no part of a rule, or stands twice: correct it")
        parts[name] = value
    if "FREQ" not in parts or {"COUNT", "UNTIL"} <= parts.keys():
        raise InputError("RRULE", rule, "has no FREQ, or both COUNT and UNTIL: correct it")
    if parts["FREQ"] in _PERIODS and re.search("[0-9]", parts.get("BYDAY", "")):
        raise InputError("RRULE", rule, "counts weekdays, which only MONTHLY and YEARLY can: correct it")
    return parts


def _is_part(name: str, value: str) -> bool:
    """Return whether a rule may have such a part."""
    if name in _WORDS:
        return _WORDS[name].fullmatch(value) is not None
    if name == "BYDAY":
        return all(_DAY.fullmatch(day) for day in value.split(","))
    if name in _ONE_NUMBER:
        return _within(value, *_ONE_NUMBER[name])
    if name in _NUMBERS:
        return all(_within(number, *_NUMBERS[name]) for number in value.split(","))
    return name in _SIGNED and all(_within(number.lstrip("+-"), 1, _SIGNED[name]) for number in value.split(","))


def _within(number: str, least: int, most: int) -> bool:
    """Return whether a text is a whole number in a range."""
    return re.fullmatch("[0-9]{1,9}", number) is not None and least <= int(number) <= most


def _evenly(
    first: datetime, step: timedelta, count: int, window: tuple[datetime, datetime, datetime]
) -> tuple[set[datetime], bool]:
    """Return the starts of a rule without conditions nearest to now, and whether some are left out."""
    low, now, high = window
    least, most = max(0, -((first - low) // step)), (high - first) // step
    most = min(most, count - 1) if count else most
    middle = min(max((now - first) // step, least), most)
    near = range(max(least, middle - MOST), min(most, middle + MOST) + 1)
    return {first + number * step for number in near}, len(near) < most - least + 1


def _followed(
    event: Event, first: datetime, parts: dict[str, str], steps: tuple[int, int], window: tuple[datetime, datetime]
) -> set[datetime]:
    """Return the starts in a window of a rule with conditions."""
    from dateutil.rrule import rrulestr

    (interval, count), (low, high) = steps, window
    text = ";".join(f"{name}={value}" for name, value in parts.items()) + f";INTERVAL={interval}"
    text += f";COUNT={count}" if count else ""
    starts = set[datetime]()
    try:
        rule = rrulestr(text, dtstart=first.replace(year=first.year + _CYCLE))
        for number, later in enumerate(itertools.islice(rule, _MOST_STEPS)):
            wall = later.replace(year=later.year - _CYCLE)
            if wall > high:
                return starts
            if number == _MOST_STEPS - 1:
                raise InputError("RRULE", event.rule, f"repeats over {_MOST_STEPS:,} times until then: end it earlier")
            if wall >= low:
                starts.add(wall)
    except (ValueError, OverflowError) as error:
        raise InputError("RRULE", event.rule, f"cannot be followed ({error}): correct it") from None
    return starts
