"""Names of time zones, as calendar programs write them -> zones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from gangplan.errors import InputError
from gangplan.telemetry.calendars.content import Component

_OFFSET = re.compile(r"(?:GMT|UTC)([+-])([0-9]{1,2}):?([0-9]{2})?")
_YEARLY = re.compile(r"FREQ=YEARLY|INTERVAL=1|COUNT=[0-9]+|UNTIL=\w+|WKST=\w\w|BY(MONTH|DAY|MONTHDAY)=[\w,+-]+|")


@dataclass(frozen=True, kw_only=True)
class Zones:
    """What the times of one VCALENDAR are in.

    `defined` holds the zones of its VTIMEZONEs, `given` the name of its own zone: X-WR-TIMEZONE, else what the user
    said ("": neither).
    """

    defined: Mapping[str, tzinfo]
    given: str = ""

    def named(self, name: str, prop: str = "TZID") -> tzinfo:
        """Return the zone of that name; an unknown one is an InputError."""
        zone = _zone_named(name, self.defined)
        if zone is None:
            raise InputError(prop, name, "is no time zone that is known: name one like Europe/Berlin, or define it")
        return zone

    def own(self) -> tzinfo:
        """Return the calendar's own zone: UTC where it names none."""
        return self.named(self.given, "X-WR-TIMEZONE") if self.given else UTC

    def differs(self, name: str, moment: datetime) -> bool:
        """Return whether the file defines a zone of the tz database otherwise than that does, at a moment in it."""
        defined = self.defined.get(name)
        return defined is not None and moment.replace(tzinfo=defined).utcoffset() != moment.utcoffset()


def defined_zone(component: Component) -> tzinfo:
    """Return the zone that a VTIMEZONE defines.

    Raises
    ------
    ValueError
        When the definition cannot be read, or changes the clock otherwise than on one day of a year.
    """
    from icalendar import Timezone

    for rule in component.properties().get("RRULE", []):
        if not all(_YEARLY.fullmatch(part) for part in rule.value.upper().split(";")):
            raise ValueError(f"line {rule.line}: {rule.value} is no yearly change of the clock")
    try:
        parsed: Any = Timezone.from_ical(component.text())
        zone: tzinfo = parsed.to_tz(lookup_tzid=False)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
    return zone


def _zone_named(name: str, defined: Mapping[str, tzinfo]) -> tzinfo | None:
    """Return the zone of a name: of the tz database, of the file, of Windows, an offset, or a global identifier."""
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

    known = _known()
    if name.casefold() in known:
        return ZoneInfo(known[name.casefold()])
    if name in defined:
        return defined[name]
    if name in WINDOWS_TO_OLSON:
        return ZoneInfo(WINDOWS_TO_OLSON[name])
    if offset := _OFFSET.fullmatch(name):
        sign, hours, minutes = offset.groups(default="0")
        ahead = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(ahead if sign == "+" else -ahead) if ahead < timedelta(days=1) else None
    parts = name.split("/") if name.startswith(("/", "tzone:")) else []  # /example.org/Europe/Berlin
    ends = ("/".join(parts[first:]).casefold() for first in range(1, len(parts)))
    return next((ZoneInfo(known[end]) for end in ends if end in known), None)


@cache
def _known() -> dict[str, str]:
    """Return the names of the tz database by their lower-case form, without those that mean this machine."""
    return {name.casefold(): name for name in available_timezones() - {"localtime", "posixrules", "Factory"}}
