"""The bytes of an iCalendar file -> its components with their lines; a broken one does not harm the others.

Source: RFC 5545, sections 3.1 (content lines, folded) and 3.4 to 3.6 (components).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gangplan.errors import InputError

EVENT, ZONE, CALENDAR = "VEVENT", "VTIMEZONE", "VCALENDAR"
_LINE_BREAK = re.compile(rb"\r\n|\n|\r")
_HEAD = re.compile(r'(?:[^":]|"[^"]*")*')


@dataclass(frozen=True, kw_only=True)
class Property:
    """A property of a component: its line, its name, what stands before its colon, and its value."""

    line: int
    name: str
    head: str
    value: str

    def parameter(self, name: str) -> str:
        """Return a parameter without its quotes, or "" without it."""
        found = re.search(rf';\s*{name}=(?:"([^"]*)"|([^;]*))', self.head, re.IGNORECASE)
        return plain(found[1] or found[2] or "") if found else ""


@dataclass(kw_only=True)
class Component:
    """A component: its name, the line of its BEGIN, the lines inside with their numbers, the VCALENDAR it stands in.

    Only a VTIMEZONE keeps the lines of the components inside. `ended`: whether it had its END.
    """

    name: str
    line: int
    calendar: int = 0
    content: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    ended: bool = False

    def text(self) -> str:
        """Return it as iCalendar text."""
        return "\r\n".join((f"BEGIN:{self.name}", *(line for _, line in self.content), f"END:{self.name}", ""))

    def properties(self) -> dict[str, list[Property]]:
        """Return the properties by their names; a line without a colon is a property without a value."""
        found: dict[str, list[Property]] = {}
        for number, line in self.content:
            head = (_HEAD.match(line) or [""])[0]
            name = head.partition(";")[0].strip().upper()
            if "TZID=" in head.upper():  # a zone's name may have a colon, and need not be quoted
                head = line.rpartition(":")[0]
            value = line[len(head) + 1 :].strip()
            found.setdefault(name, []).append(Property(line=number, name=name, head=head, value=value))
        return found


def read_components(raw: bytes) -> Iterator[Component]:
    """Yield the components of a file as they end; also one that another event or the end of the file cuts off."""
    opened: list[Component] = []
    calendars = 0
    for number, line in _unfolded(raw):
        word, _, what = (part.strip().upper() for part in line.partition(":"))
        if word == "BEGIN":
            while opened and (what == CALENDAR or (what == EVENT and opened[-1].name != CALENDAR)):
                yield opened.pop()
            calendars += what == CALENDAR
            opened.append(Component(name=what, line=number, calendar=calendars))
        elif word == "END":
            yield from _close(opened, what)
        elif opened:
            opened[-1].content.append((number, line))
    yield from reversed(opened)


def of_one(properties: Mapping[str, list[Property]], name: str) -> Property | None:
    """Return a property that may stand once, or none without it; an InputError if it stands twice."""
    found = properties.get(name, [])
    if len(found) > 1:
        raise InputError(name, found[1].value, "stands twice in one event: give it once")
    return found[0] if found else None


def plain(text: str) -> str:
    """Return a text without the escapes of iCalendar."""
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] in "nN" else found[1], text).strip()


def _close(opened: list[Component], name: str) -> Iterator[Component]:
    """Take the components off up to the one of that name, which has ended; an END without a BEGIN is passed over."""
    while any(component.name == name for component in opened):
        last = opened.pop()
        last.ended = last.name == name
        if opened and opened[-1].name == ZONE:
            begin, end = (last.line, f"BEGIN:{last.name}"), (last.line, f"END:{last.name}")
            opened[-1].content += [begin, *last.content, end]
        yield last
        if last.ended:
            return


def _unfolded(raw: bytes) -> Iterator[tuple[int, str]]:
    """Yield each content line with its number; lines are joined as bytes, since a fold may part a letter."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raw = raw.decode("utf-16", errors="replace").encode()
    begun, parts = 1, list[bytes]()
    for number, line in enumerate(_LINE_BREAK.split(raw.removeprefix(codecs.BOM_UTF8)), start=1):
        if line[:1] in (b" ", b"\t"):
            parts.append(line[1:])
            continue
        yield begun, b"".join(parts).decode(errors="replace").strip()
        begun, parts = number, [line]
    yield begun, b"".join(parts).decode(errors="replace").strip()
