"""A VEVENT -> an event by the wall clock of its zone; a fault is an InputError that names the property."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from gangplan.errors import InputError
from gangplan.tables import ANNOUNCED
from gangplan.telemetry.calendars.content import Component, Property, of_one, plain
from gangplan.telemetry.calendars.times import YEARS, at_time, by_wall, read_length, read_moment, read_zoned, zoned
from gangplan.telemetry.calendars.zones import Zones

CANCELLED, TENTATIVE = "cancelled", "tentative"
_STATUS = {"": "", "CONFIRMED": "", "TENTATIVE": TENTATIVE, "CANCELLED": CANCELLED, "CANCELED": CANCELLED}
_OWN = "X-GANGPLAN-"
_COLUMNS = [column for column in ANNOUNCED if column not in ("start", "end", "status")]
_LONGEST = timedelta(days=36525)

Found = Mapping[str, list[Property]]


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event: when it begins by the wall clock of its zone, how long it lasts, and what it says.

    `added` holds more starts by the same clock, `left_out` starts or days that are none. `changes` is the start (with
    its zone, or a day) of the occurrence of the series `uid` that this event changes; with `and_future`, it changes all
    those after it, too. `remarks` say what was assumed.
    """

    uid: str
    line: int
    wall: datetime
    zone: tzinfo
    length: timedelta
    whole_days: bool
    sequence: int = 0
    status: str = ""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    rule: str = ""
    added: frozenset[datetime] = frozenset()
    left_out: frozenset[date] = frozenset()
    changes: date | None = None
    and_future: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def start(self) -> datetime:
        """When it begins, in UTC."""
        return self.wall.replace(tzinfo=self.zone).astimezone(UTC)

    @property
    def end(self) -> datetime:
        """When it ends, in UTC: days end by the wall clock, hours are counted."""
        return self.at(self.wall + self.length).start if self.whole_days else self.start + self.length

    def at(self, wall: datetime) -> Event:
        """Return the same event at another time."""
        return replace(self, wall=wall)


def read_event(component: Component, zones: Zones) -> Event:
    """Read an event.

    Raises
    ------
    InputError
        When a property is missing, stands twice, cannot be read, or is in a zone that is not known.
    """
    found = component.properties()
    uid, start, rule = (of_one(found, name) for name in ("UID", "DTSTART", "RRULE"))
    if not component.ended:
        raise InputError("END:VEVENT", uid.value if uid else "", "is missing, the event is cut off: export it again")
    if start is None:
        raise InputError.missing("DTSTART")
    if "EXRULE" in found:
        raise InputError("EXRULE", found["EXRULE"][0].value, "is no part of iCalendar any more: list days in EXDATE")
    moment = read_zoned(start, start.value, zones)
    if isinstance(moment, datetime) and moment.tzinfo is None and not zones.given:
        raise InputError(
            "DTSTART", start.value, "has no time zone, nor has the calendar: name it, --zone Europe/Berlin"
        )
    begun = zoned(moment, zones.own())
    zone, whole_days = begun.tzinfo or UTC, not isinstance(moment, datetime)
    length = _length(found, begun, zones, whole_days=whole_days)
    changed = of_one(found, "RECURRENCE-ID")
    return Event(
        uid=uid.value if uid and uid.value else f"line {component.line}",
        line=component.line,
        wall=begun.replace(tzinfo=None),
        zone=zone,
        length=length,
        whole_days=whole_days,
        sequence=_sequence(found),
        status=_status(found),
        columns=_columns(found),
        rule=rule.value if rule else "",
        added=frozenset(at_time(day, begun) for day in _days(found, "RDATE", zone, zones)),
        left_out=frozenset(
            day.date() if whole_days and isinstance(day, datetime) else day
            for day in _days(found, "EXDATE", zone, zones)
        ),
        changes=_with_zone(read_zoned(changed, changed.value, zones), zone) if changed else None,
        and_future=changed is not None and changed.parameter("RANGE").upper() == "THISANDFUTURE",
        remarks=tuple(_remarks(found, moment, length, zones)),
    )


def until(event: Event, value: str) -> datetime:
    """Return the last start that an UNTIL allows, by the wall clock of the event; a day is meant as a whole."""
    moment = read_moment("RRULE", value)
    if moment.year not in YEARS:  # some programs write 9999 for ever
        moment = moment.replace(year=YEARS[-1])
    wall = by_wall(moment, event.zone)
    return datetime.combine(wall, time.max) if event.whole_days or not isinstance(wall, datetime) else wall


def _with_zone(moment: date, zone: tzinfo) -> date:
    """Return a time with a zone, its own or the one given; a day stays a day."""
    return zoned(moment, zone) if isinstance(moment, datetime) else moment


def _days(found: Found, name: str, zone: tzinfo, zones: Zones) -> Iterator[date]:
    """Yield the days and times of a property that lists them, by the wall clock of a zone."""
    for prop in found.get(name, []):
        for text in filter(None, prop.value.split(",")):
            yield by_wall(read_zoned(prop, text, zones), zone)


def _length(found: Found, begun: datetime, zones: Zones, *, whole_days: bool) -> timedelta:
    """Return how long an event lasts; where nothing is said, a whole-day event lasts a day, another no time."""
    end, duration = of_one(found, "DTEND"), of_one(found, "DURATION")
    if end and duration:
        raise InputError("DURATION", duration.value, "stands beside DTEND: give one of them")
    said = end or duration
    if said is None:
        return timedelta(days=whole_days)
    if duration:
        length = read_length(duration)
    else:
        ended = zoned(read_zoned(said, said.value, zones), begun.tzinfo or UTC)
        length = ended.astimezone(UTC) - begun.astimezone(UTC)
        if whole_days:
            length = ended.astimezone(begun.tzinfo).replace(tzinfo=None) - begun.replace(tzinfo=None)
    if not timedelta() <= length <= _LONGEST:
        raise InputError(said.name, said.value, "lies before DTSTART, or a century after it: correct it")
    return length or timedelta(days=whole_days)


def _sequence(found: Found) -> int:
    """Return how often the event was revised."""
    prop = of_one(found, "SEQUENCE")
    if prop and not re.fullmatch("[0-9]{1,9}", prop.value):
        raise InputError("SEQUENCE", prop.value, "is no whole number: give it like 0")
    return int(prop.value) if prop else 0


def _status(found: Found) -> str:
    """Return the status, "" where the event is certain."""
    prop = of_one(found, "STATUS")
    said = prop.value if prop else ""
    if said.upper() not in _STATUS:
        raise InputError("STATUS", said, "is unknown: use CONFIRMED, TENTATIVE or CANCELLED")
    return _STATUS[said.upper()]


def _columns(found: Found) -> dict[str, str]:
    """Return the columns of an announcement: the kind from CATEGORIES, and our own properties."""
    columns = {"kind": _slug(_category(found)) or "event"}
    for name, props in found.items():
        if name.startswith(_OWN):
            column = name.removeprefix(_OWN).lower().replace("-", "_")
            if column not in _COLUMNS:
                known = [f"{_OWN}{column.upper().replace('_', '-')}" for column in _COLUMNS]
                raise InputError.unknown("X-GANGPLAN", name, "no property of ours", known)
            columns[column] = plain(props[0].value)
    return columns


def _category(found: Found) -> str:
    """Return the first category of an event: there may be several lines, and each may be a list."""
    lists = (re.split(r"(?<!\\),", prop.value) for prop in found.get("CATEGORIES", []))
    return next((plain(word) for words in lists for word in words if word.strip()), "")


def _slug(words: str) -> str:
    """Turn the words of a category into a kind; "" if they have no letter from a to z."""
    letters = unicodedata.normalize("NFKD", words.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:63].strip("-")


def _remarks(found: Found, moment: date, length: timedelta, zones: Zones) -> Iterator[str]:
    """Yield what was assumed about an event."""
    named, category = found["DTSTART"][0].parameter("TZID"), _category(found)
    counts = zones.given or "UTC: the calendar names no zone (X-WR-TIMEZONE)"
    if not isinstance(moment, datetime):
        yield f"whole days count in {counts}"
    elif moment.tzinfo is None:
        yield f"times without a zone count in {counts}"
    elif zones.differs(named, moment):
        yield f"{named}: the file defines it otherwise than the tz database, which counts"
    elif named and isinstance(moment.tzinfo, timezone):
        yield f"{named} counts as {moment:UTC%z} all the year"
    if not length:
        yield "begin and end at once: they move nothing"
    if category and not _slug(category) and f"{_OWN}KIND" not in found:
        yield f"category {category!r} has no letter from a to z: counts as event"
