"""The days, times and lengths of an iCalendar file, as they are written."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from gangplan.errors import InputError
from gangplan.telemetry.calendars.content import Property
from gangplan.telemetry.calendars.zones import Zones

YEARS = range(1000, 2400)
"""The years of starts; the recurring events of some programs begin in 1601 or 1604."""

_TIME = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?", re.IGNORECASE)


def read_moment(name: str, text: str) -> date:
    """Read a property's day or time: in UTC with a Z, without a zone otherwise."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise _no_moment(name, text)
    day, hours, utc = found.groups()
    try:
        moment = datetime.strptime(day + (hours or "000000"), "%Y%m%d%H%M%S")  # noqa: DTZ007 - a wall clock's
    except ValueError:
        raise _no_moment(name, text) from None
    return (moment.replace(tzinfo=UTC) if utc else moment) if hours else moment.date()


def read_zoned(prop: Property, text: str, zones: Zones) -> date:
    """Read a property's day or time: with its zone where one is written, without one otherwise."""
    moment, zone = read_moment(prop.name, text), prop.parameter("TZID")
    if moment.year not in YEARS:
        raise InputError(prop.name, text, f"lies outside the years {YEARS[0]} to {YEARS[-1]}: correct it")
    if not isinstance(moment, datetime) or not zone:
        return moment
    if moment.tzinfo and zone.upper() != "UTC":
        raise InputError(prop.name, text, f"is in UTC (Z) and in {zone}: give one of them")
    return moment.replace(tzinfo=zones.named(zone))


def read_length(prop: Property) -> timedelta:
    """Read a property's duration."""
    from icalendar.prop import vDuration

    try:
        return vDuration.from_ical(prop.value)  # pyright: ignore[reportUnknownMemberType]
    except ValueError:
        raise InputError(prop.name, prop.value, "is no duration: give it like PT8H") from None


def zoned(moment: date, zone: tzinfo) -> datetime:
    """Return a time with its zone, else with the one given; a day begins at midnight there."""
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time(), zone)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def by_wall(moment: date, zone: tzinfo) -> date:
    """Return a time by the wall clock of a zone, without the zone; a day stays a day."""
    return zoned(moment, zone).astimezone(zone).replace(tzinfo=None) if isinstance(moment, datetime) else moment


def at_time(day: date, like: datetime) -> datetime:
    """Return a time as it is, and a day at the time of day of another time."""
    return day if isinstance(day, datetime) else datetime.combine(day, like.time())


def _no_moment(name: str, text: str) -> InputError:
    """Return the error about a text that is no day or time."""
    return InputError(name, text, "is no day or time that there is: give it like 20260301T120000Z")
