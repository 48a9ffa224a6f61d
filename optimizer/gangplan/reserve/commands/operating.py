"""The commands of whoever operates the ledger: a new calendar, a new policy, a node's state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from gangplan.clock import span_us
from gangplan.errors import InputError, StrandedError
from gangplan.reserve import codec
from gangplan.reserve.admission import Book, Document, Entry, admit
from gangplan.reserve.commands.command import Command, Lookup
from gangplan.reserve.policy import Policy
from gangplan.reserve.space import check_calendar, steps_of
from gangplan.types import CapacityCalendar, NodeState, ReservationState, require_text, require_type


@dataclass(frozen=True)
class Tick(Command):
    """Do what is due, which comes with every command."""

    name: ClassVar[str] = "tick"

    def run(self, book: Book, lookup: Lookup, now: int) -> None:
        """See `Command.run`."""


@dataclass(frozen=True)
class Publish(Command):
    """Let a calendar hold from now on; with `keep` only if it takes no nodes from those who hold or await them."""

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
        book.publish(self.calendar)
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
        if board is None or entry.hard_end is None or board.steps.least(now, entry.hard_end) < needed:
            continue
        if steps is None or steps.least(now, entry.hard_end) < needed:
            yield f"{entry.request.request_key} (on {entry.pool})"


def _stranded_windows(book: Book, calendar: CapacityCalendar, now: int) -> Iterator[str]:
    """Name the accepted windows that would start later or never, by an admission on a copy of the book."""
    starts = [(entry, entry.promise.start) for entry in book.promised.values() if entry.promise and entry.promise.firm]
    if not starts:
        return
    trial = book.copy()
    trial.publish(calendar)
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


@dataclass(frozen=True)
class MarkNode(Command):
    """Take a node out, or back in: a lost one interrupts its gangs at once, a draining one after notice."""

    name: ClassVar[str] = "mark_node"
    node: str
    state: NodeState
    why: str = ""

    def __post_init__(self) -> None:
        require_text("node", self.node, 1)
        require_type("state", self.state, NodeState, "a NodeState")
        require_text("why", self.why)

    def run(self, book: Book, lookup: Lookup, now: int) -> None:
        """See `Command.run`."""
        pool, number = _node_of(book, self.node)
        nodes = {name: state for name, state in book.nodes.items() if name != self.node}
        if self.state is not NodeState.READY:
            nodes[self.node] = self.state
        if nodes == book.nodes:
            return
        book.documents.append(Document("nodes", codec.nodes_text(nodes), why=self.why))
        book.set_nodes(nodes)
        for entry in [entry for entry in book.granted() if entry.pool == pool and _is_on(entry, number)]:
            self._tell(book, entry, now)
        book.review()

    def _tell(self, book: Book, entry: Entry, now: int) -> None:
        """Do to one gang what its node's new state means for it."""
        leave = entry.leave
        if self.state is NodeState.LOST:
            book.interrupt(entry)
        elif self.state is NodeState.DRAINING and leave is None:
            until, why = now + span_us(book.policy.drain), f"node {self.node} is draining"
            book.give_notice(entry, until, why=why, state=ReservationState.INTERRUPTED)
        elif self.state is NodeState.READY and leave is not None and leave.state is ReservationState.INTERRUPTED:
            out = book.occupancy.boards[entry.pool or ""].out
            if not any(_is_on(entry, number) for number in out):
                book.take_notice_back(entry)


def _node_of(book: Book, node: str) -> tuple[str, int]:
    """Return a node's pool and number, or refuse its name."""
    pool, _, number = node.rpartition("-")
    board = book.occupancy.boards.get(pool)
    if board is None:
        known = ", ".join(book.occupancy.boards) or "none: publish a calendar first"
        raise InputError("node", node, f"is no <pool>-<number> of the pools there are: {known}")
    most = board.most_nodes
    if not number.isdigit() or str(int(number)) != number or int(number) >= most:
        raise InputError("node", node, f"is not there: {pool} has the numbers 0 to {most - 1}")
    return pool, int(number)


def _is_on(entry: Entry, number: int) -> bool:
    return any(slot.node == number for slot in entry.slots)
