"""Nodes that go away and come back: the command that says so, and what time alone makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from gangplan.clock import FOREVER, or_none_us, require_utc, span_us
from gangplan.errors import InputError
from gangplan.reserve import codec
from gangplan.reserve.admission import Book, Document, Entry, tell_leaving
from gangplan.reserve.commands.command import Command, Lookup
from gangplan.reserve.space import Mark, Marks, changed_by
from gangplan.types import NodeState, require_text, require_type


@dataclass(frozen=True)
class MarkNode(Command):
    """Take a node out, or back in: a lost one interrupts its gangs at once, a draining one after notice."""

    name: ClassVar[str] = "mark_node"
    node: str
    state: NodeState
    why: str = ""
    begin: datetime | None = None
    back: datetime | None = None

    def __post_init__(self) -> None:
        require_text("node", self.node, 1)
        require_type("state", self.state, NodeState, "a NodeState")
        require_text("why", self.why)
        for name in ("begin", "back"):
            if getattr(self, name) is not None:
                require_utc(name, getattr(self, name))
        if self.begin is not None and self.state is not NodeState.DRAINING:
            raise InputError("begin", self.begin.isoformat(), "is for a node that will be drained: leave it out")
        if self.back is not None and self.state is NodeState.READY:
            raise InputError("back", self.back.isoformat(), "is for a node that goes: leave it out")

    def run(self, book: Book, lookup: Lookup, now: int) -> None:
        """See `Command.run`."""
        _check_node(book, self.node)
        before = book.nodes.get(self.node)
        after = self._mark(book, before, now)
        if after == before:
            return
        marks = {name: mark for name, mark in book.nodes.items() if name != self.node}
        _set_marks(book, marks if after is None else {**marks, self.node: after}, self.why)
        for entry in book.granted():
            if any(place.node == self.node for place in entry.placements):
                _tell(book, entry, self.state, now)
        book.review()

    def _mark(self, book: Book, before: Mark | None, now: int) -> Mark | None:
        """Return the node's new mark, none for one that is ready; said again, nothing is new."""
        if self.state is NodeState.READY:
            return None
        begin, back = or_none_us(self.begin) or 0, or_none_us(self.back)
        if back is not None and back <= max(begin, now):
            raise InputError("back", str(self.back), "must be later than now, and than begin: it ends what begins then")
        begin = begin if begin > now else 0
        again = before is not None and (before.state, before.begin) == (self.state, begin)
        if before is not None and again and back is None:
            return before
        if back is None and self.state is NodeState.LOST and book.policy.back_within:
            back = now + span_us(book.policy.back_within)
        return Mark(self.state, begin, FOREVER if back is None else back, self.why)


def _tell(book: Book, entry: Entry, state: NodeState, now: int) -> None:
    """Do to one gang what its node's new state means for it."""
    if state is NodeState.LOST:
        book.interrupt(entry)
    else:
        tell_leaving(book, entry, now)


def settle_nodes(book: Book, now: int) -> None:
    """Let drains begin and end that are due, and give up the lost nodes that are not back in time."""
    after = changed_by(book.nodes, now)
    if after != book.nodes:
        _set_marks(book, after, "as it was planned")
        book.review()


def _set_marks(book: Book, marks: Marks, why: str) -> None:
    """Let nodes have other marks, and keep that."""
    book.documents.append(Document("nodes", codec.nodes_text(marks), why=why))
    book.set_nodes(marks)


def _check_node(book: Book, node: str) -> None:
    """Refuse the name of a node that is in no pool."""
    pool, _, number = node.rpartition("-")
    board = book.occupancy.boards.get(pool)
    if board is None:
        known = ", ".join(book.occupancy.boards) or "none: publish a calendar first"
        raise InputError("node", node, f"is no <pool>-<number> of the pools there are: {known}")
    most = board.most_nodes
    if not number.isdigit() or str(int(number)) != number or int(number) >= most:
        raise InputError("node", node, f"is not there: {pool} has the numbers 0 to {most - 1}")
