"""A series of events -> its occurrences near now: by rule, with days left out, added, changed or cancelled.

Source: RFC 5545, sections 3.8.4.4 (RECURRENCE-ID) and 3.8.5 (EXDATE, RDATE).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from gangplan.telemetry.calendars.events import CANCELLED, Event
from gangplan.telemetry.calendars.rules import MOST, starts_by_rule
from gangplan.telemetry.calendars.times import at_time, by_wall


@dataclass(frozen=True, kw_only=True)
class Window:
    """The time in which occurrences are read, around now (UTC)."""

    first: datetime
    now: datetime
    last: datetime

    def holds(self, event: Event) -> bool:
        """Return whether an event lies in it, at least in part."""
        return event.start <= self.last and event.end >= self.first


@dataclass(frozen=True, kw_only=True)
class Series:
    """The occurrences of a series in the window, cancelled ones too.

    `cut`: there are more, further from now. `missed`: the changes that cancel an occurrence that there is not.
    `idle`: a day is left out on which there is none.
    """

    occurrences: list[Event]
    missed: list[Event]
    cut: bool
    idle: bool


def occurrences(event: Event, changes: Sequence[Event], window: Window) -> Series:
    """Return an event once for each time at which it takes place in the window, as its changes make it."""
    walls, cut = _walls(event, window)
    left = [wall for wall in walls if not event.left_out & {wall, wall.date()}]
    there = _names(left)
    changed = {_name_of(change, event): change for change in changes}
    missed = [one for at, one in changed.items() if one.status == CANCELLED and at not in there and window.holds(one)]
    lasting = sorted(
        (at_time(at, event.wall), change.line, change) for at, change in changed.items() if change.and_future
    )
    kept = [_as_changed(wall, event, lasting) for wall in left if not changed.keys() & {wall, wall.date()}]
    taken = [*kept, *(change for change in changes if change not in missed)]
    idle = not cut and any(window.holds(event.at(at_time(day, event.wall))) for day in event.left_out - _names(walls))
    return Series(occurrences=[one for one in taken if window.holds(one)], missed=missed, cut=cut, idle=idle)


def _walls(event: Event, window: Window) -> tuple[list[datetime], bool]:
    """Return the starts of an event in the window by its wall clock, those nearest to now, and whether some are cut."""
    moments = (window.first - event.length, window.now, window.last)
    low, now, high = (moment.astimezone(event.zone).replace(tzinfo=None) for moment in moments)
    by_rule, cut = starts_by_rule(event, low, now, high) if event.rule else (set[datetime](), False)
    inside = [wall for wall in {event.wall, *event.added, *by_rule} if low <= wall <= high]
    near = sorted(inside, key=lambda wall: abs(wall - now))[:MOST]
    return sorted(near), cut or len(near) < len(inside)


def _names(walls: Sequence[datetime]) -> set[date]:
    """Return by what occurrences can be named: by their starts, or by their days."""
    return {*walls, *(wall.date() for wall in walls)}


def _name_of(change: Event, event: Event) -> date:
    """Return the occurrence that a change names: its start by the wall clock of the series, or its day."""
    named = by_wall(change.changes or change.wall, event.zone)
    return named.date() if event.whole_days and isinstance(named, datetime) else named


def _as_changed(wall: datetime, event: Event, lasting: Sequence[tuple[datetime, int, Event]]) -> Event:
    """Return an occurrence as the last of the changes makes it that hold from an earlier one on."""
    for since, _, change in reversed(lasting):
        if since <= wall:
            moved = change.start.astimezone(event.zone).replace(tzinfo=None) - since
            return replace(change, zone=event.zone, wall=wall + moved)
    return event.at(wall)
