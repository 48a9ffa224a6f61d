"""The commands of whoever operates the ledger: a new calendar, a new policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gangplan.errors import StrandedError
from gangplan.reserve import codec
from gangplan.reserve.admission import Book, Document, admit, tell_leaving
from gangplan.reserve.commands.command import Command, Lookup
from gangplan.reserve.policy import Policy
from gangplan.reserve.space import check_calendar, steps_of
from gangplan.types import CapacityCalendar, ReservationState, require_text, require_type


@dataclass(frozen=True)
class Tick(Command):
    """Do what is due, which comes with every command."""

    name: ClassVar[str] = "tick"

    def run(self, book: Book, lookup: Lookup, now: int) -> None:
        """See `Command.run`."""


@dataclass(frozen=True)
class Publish(Command):
    """Let a calendar hold from now on; with `keep` only if it takes no nodes from those who hold or await them.

    Without, who holds what it has no more is given notice.
    """

    name: ClassVar[str] = "publish"
    calendar: CapacityCalendar
    keep: bool = False

    def __post_init__(self) -> None:
        require_type("calendar", self.calendar, CapacityCalendar, "a CapacityCalendar")
        check_calendar(self.calendar)

    def run(self, book: Book, lookup: Lookup, now: int) -> None:
        """See `Command.run`."""
        if self.keep:
            _check_kept(book, self.calendar, now)
        book.load(self.calendar, book.policy, book.nodes)
        for entry in book.granted():
            tell_leaving(book, entry, now)
        book.review()
        book.documents.append(Document("calendar", codec.calendar_text(self.calendar)))


def _check_kept(book: Book, calendar: CapacityCalendar, now: int) -> None:
    """Refuse a calendar that would strand a granted gang or an accepted window; the book stays as it is.

    This is checked inside the transaction that publishes the calendar, so that it sees a grant made a moment before. A
    window may come to other nodes or an earlier start, never to a later one. What is stranded already does not count.
    """
    names = sorted([*_stranded_gangs(book, calendar, now), *_stranded_windows(book, calendar, now)])
    if names:
        raise StrandedError(
            f"publish: plan {calendar.plan_id} would take nodes from {', '.join(names)}: nothing was changed; publish "
            "it again, or plan again, around what is reserved now"
        )


def _stranded_gangs(book: Book, calendar: CapacityCalendar, now: int) -> Iterator[str]:
    """Name the gangs whose nodes the calendar in force has until their walltime is over, and the new one has not.

    The nodes of a calendar with n nodes are numbered 0 to n - 1.
    """
    planned = {pool.name: steps_of(calendar, pool.name) for pool in calendar.pools}
    for entry in book.granted():
        board, steps = book.occupancy.boards.get(entry.pool or ""), planned.get(entry.pool or "")
        needed = max((slot.node for slot in entry.slots), default=-1) + 1
        if board is None or entry.hard_end is None or board.steps.first_below(needed, now) < entry.hard_end:
            continue
        if steps is None or steps.first_below(needed, now) < entry.hard_end:
            yield f"{entry.request.request_key} (on {entry.pool})"


def _stranded_windows(book: Book, calendar: CapacityCalendar, now: int) -> Iterator[str]:
    """Name the accepted windows that would start later or never, by an admission on a copy of the book."""
    starts = [(entry, entry.promise.start) for entry in book.promised.values() if entry.promise and entry.promise.firm]
    if not starts:
        return
    trial = book.copy()
    trial.load(calendar, trial.policy, trial.nodes)
    trial.review()
    admit(trial, now)
    for entry, start in starts:
        after = trial.live.get(entry.id)
        granted = after is not None and after.state is ReservationState.GRANTED
        promise = None if after is None else after.promise
        if not granted and (promise is None or promise.start > start):
            yield f"{entry.request.request_key} (window)"


@dataclass(frozen=True)
class SetPolicy(Command):
    """Let a policy hold from now on: running gangs keep their slots, promises beyond the new quotas are drawn again."""

    name: ClassVar[str] = "set_policy"
    policy: Policy
    by: str
    why: str

    def __post_init__(self) -> None:
        require_type("policy", self.policy, Policy, "a Policy")
        require_text("by", self.by, 1)
        require_text("why", self.why, 1)

    def run(self, book: Book, lookup: Lookup, now: int) -> None:
        """See `Command.run`."""
        book.documents.append(Document("policy", codec.policy_text(self.policy), self.by, self.why))
        book.load(book.calendar, self.policy, book.nodes)
        book.review()
