"""An iCalendar file -> announcements as text, what is wrong in it, and what was left out or assumed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta, tzinfo
from pathlib import Path

from gangplan.errors import InputError
from gangplan.telemetry.calendars.content import CALENDAR, EVENT, ZONE, Component, plain, read_components
from gangplan.telemetry.calendars.events import CANCELLED, TENTATIVE, Event, read_event
from gangplan.telemetry.calendars.recurrence import Series, Window, occurrences
from gangplan.telemetry.calendars.rules import MOST
from gangplan.telemetry.calendars.zones import Zones, defined_zone
from gangplan.telemetry.values import BadRow

_Wrong = tuple[Event, InputError]


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """The events of a calendar near now with their lines, the wrong ones, and notes."""

    events: tuple[Event, ...]
    rejected: tuple[BadRow, ...]
    notes: tuple[str, ...]


def read_calendar(path: Path, window: Window, *, zone: str = "") -> Calendar:
    """Read the events of an iCalendar file in a window, recurring ones one by one, without those that are cancelled.

    `zone` names the zone of a calendar that names none.

    Raises
    ------
    InputError
        When the file cannot be read, or is no calendar.
    """
    try:
        components = list(read_components(path.read_bytes()))
    except OSError as error:
        raise InputError("source", path, f"cannot be read ({error.strerror}): check the path") from None
    if not any(component.name == CALENDAR for component in components):
        raise InputError("source", path, "is no iCalendar file (BEGIN:VCALENDAR is missing): export it again")
    notes = Counter[str]()
    told, rejected = _read_events(components, path.name, notes, zone)
    taken: list[Event] = []
    for series in _by_uid(told):
        found, wrong = _expand(series, window, notes)
        taken += found
        rejected += [_bad_row(path.name, event.line, fault) for event, fault in wrong]
    near = _nearest(_sure(taken, notes), window, notes)
    return Calendar(
        events=tuple(near),
        rejected=tuple(sorted(rejected, key=lambda row: row.line)),
        notes=tuple(f"{count} event{'s' * (count > 1)}: {note}" for note, count in notes.items() if count),
    )


def _read_events(
    components: Sequence[Component], place: str, notes: Counter[str], zone: str
) -> tuple[list[Event], list[BadRow]]:
    """Read each event in the zones of its VCALENDAR, and name the wrong ones."""
    zones, rejected = _zones(components, place, zone)
    cancels = {one.calendar for one in components if one.name == CALENDAR and _said(one, "METHOD").upper() == "CANCEL"}
    told: list[Event] = []
    for component in components:
        if component.name == CALENDAR and not component.ended:
            notes["the file has no END:VCALENDAR after them, so more may be cut off: export it again"] += 1
        if component.name in ("VTODO", "VJOURNAL"):
            notes[f"a {component.name} is none: left out"] += 1
        if component.name != EVENT:
            continue
        try:
            event = read_event(component, zones.get(component.calendar, Zones(defined={}, given=zone)))
            told.append(replace(event, status=CANCELLED) if component.calendar in cancels else event)
        except InputError as fault:
            rejected.append(_bad_row(place, component.line, fault))
    return told, rejected


def _zones(components: Sequence[Component], place: str, zone: str) -> tuple[dict[int, Zones], list[BadRow]]:
    """Return the zones of each VCALENDAR, and the definitions that cannot be read."""
    defined: dict[int, dict[str, tzinfo]] = defaultdict(dict)
    rejected: list[BadRow] = []
    for component in components:
        if component.name == ZONE:
            name = _said(component, "TZID")
            try:
                defined[component.calendar][name] = defined_zone(component)
            except ValueError as error:
                fault = InputError(
                    ZONE, name, f"cannot be read ({error}): correct it, or use a zone like Europe/Berlin"
                )
                rejected.append(_bad_row(place, component.line, fault))
    named = {one.calendar: _said(one, "X-WR-TIMEZONE") or zone for one in components if one.name == CALENDAR}
    return {number: Zones(defined=defined[number], given=given) for number, given in named.items()}, rejected


def _said(component: Component, name: str) -> str:
    """Return the first value of a property, "" without one."""
    return plain(next((prop.value for prop in component.properties().get(name, [])), ""))


def _by_uid(told: Sequence[Event]) -> Iterable[list[Event]]:
    """Return the events of each series together, the last revision last."""
    series: dict[str, list[Event]] = defaultdict(list)
    for event in sorted(told, key=lambda event: event.sequence):
        series[event.uid].append(event)
    return series.values()


def _expand(series: list[Event], window: Window, notes: Counter[str]) -> tuple[list[Event], list[_Wrong]]:
    """Return the occurrences of a series in the window, cancelled ones too, and what is wrong in it."""
    changes = list({one.changes: one for one in series if one.changes is not None}.values())
    revisions = [one for one in series if one.changes is None]
    if not revisions:
        return [one for one in changes if window.holds(one)], []
    event, wrong = revisions[-1], list(_repeated(revisions))
    notes["an older revision: the newest counts"] += sum(one.sequence < event.sequence for one in revisions)
    if event.status == CANCELLED:
        changes = [one if one.sequence > event.sequence else replace(one, status=CANCELLED) for one in changes]
    try:
        found = occurrences(event, changes, window)
    except InputError as fault:
        return [one for one in changes if window.holds(one)], [*wrong, (event, fault)]
    notes.update(_cut(event, found, window))
    no_start = "names no start of its series, so nothing was cancelled: correct it"
    wrong += [(one, InputError("RECURRENCE-ID", one.changes, no_start)) for one in found.missed]
    return found.occurrences, wrong


def _repeated(revisions: Sequence[Event]) -> Iterator[_Wrong]:
    """Yield the events that another one replaces without being a later revision, unless both say the same."""
    newest = revisions[-1]
    for one in revisions[:-1]:
        if one.sequence == newest.sequence and replace(one, line=newest.line) != newest:
            remedy = f"stands twice: the event of line {newest.line} counts; give each event its own"
            yield one, InputError("UID", one.uid, remedy)


def _cut(event: Event, found: Series, window: Window) -> Iterator[str]:
    """Yield what of a series was left out."""
    if found.cut:
        yield f"only the {MOST:,} starts nearest to now are read of line {event.line}"
    if found.idle:
        yield "EXDATE names a time at which the series has no start"
    if not found.occurrences and not found.missed:
        yield f"outside {window.first:%Y-%m-%d} to {window.last:%Y-%m-%d}: left out"


def _sure(taken: Sequence[Event], notes: Counter[str]) -> list[Event]:
    """Return the events that are not cancelled, and note how many are, how many are tentative, what was assumed."""
    sure = [event for event in taken if event.status != CANCELLED]
    for remark, _ in {(remark, event.line): None for event in sure for remark in event.remarks}:
        notes[remark] += 1
    notes["cancelled: left out"] = len(taken) - len(sure)
    notes["tentative: they count like others (column status)"] = sum(event.status == TENTATIVE for event in sure)
    return sure


def _nearest(events: Sequence[Event], window: Window, notes: Counter[str]) -> list[Event]:
    """Return the events nearest to now, of each kind alike, and in a kind of each series: none pushes another out."""

    def rank(ordered: Iterable[Event], group: Callable[[Event], str]) -> list[Event]:
        seen = Counter[str]()
        ranked: list[tuple[int, timedelta, Event]] = []
        for event in ordered:
            seen[group(event)] += 1
            ranked.append((seen[group(event)], abs(event.start - window.now), event))
        return [event for *_, event in sorted(ranked, key=lambda one: one[:2])]

    near = sorted(events, key=lambda event: abs(event.start - window.now))
    by_series = rank(near, lambda event: event.uid)
    kept = rank(by_series, lambda event: event.columns["kind"])[:MOST]
    cut = f"left out of {len(events):,}: the {MOST:,} nearest to now are kept, of each kind alike"
    notes[cut] = len(events) - len(kept)
    return kept


def _bad_row(place: str, line: int, fault: InputError) -> BadRow:
    """Return a fault as a rejected row."""
    return BadRow(place=place, line=line, field=fault.field, value=str(fault.value)[:200], remedy=fault.remedy)
