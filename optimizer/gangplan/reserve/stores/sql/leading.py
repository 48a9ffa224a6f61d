"""Who leads: at most one process at a time, by the head row's holder, term and heartbeat.

No clocks of two machines are compared. The heartbeat is a number that the leader counts up; who has seen it stand still
for `DEAD_AFTER` seconds of its own monotonic time may raise the term and lead. Each of a leader's transactions checks,
under the database's write lock, that the term is still its own; one that stood still for too long finds another's, and
steps down.

Source: Gray and Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache Consistency", SOSP
1989; terms as in Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", USENIX ATC 2014.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from gangplan.errors import UnavailableError

DEAD_AFTER = 2.0
"""A leader whose heartbeat stood still for so many seconds is taken for dead."""

BEAT_EVERY = 0.5
"""A leader with nothing to do counts its heartbeat up so often, in seconds."""

LINGER = 1.0
"""A client goes on leading for so many seconds after the last command of another."""

FRESH = 0.25
"""What was seen of the leader holds for so many seconds; then it is looked at anew."""

Monotonic = Callable[[], float]


class LedElsewhere(UnavailableError):
    """Another process leads: commands go to it through the inbox."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a ledger stands: who leads it, what waits for the leader, and how many reservations are in each state."""

    leader: str | None
    leads: bool  # this process does
    term: int
    change: int
    inbox: int
    states: dict[str, int]


class Head(NamedTuple):
    """What the head row says of the leader."""

    term: int
    holder: str | None
    beat: int


def a_name() -> str:
    """Return a name for one open ledger: where it is, and a part that no other has."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Seat:
    """One process's view of who leads, and whether it does itself."""

    def __init__(self, monotonic: Monotonic) -> None:
        self.name = a_name()
        self.monotonic = monotonic
        self.term: int | None = None  # the one that it leads in
        self._seen: Head | None = None
        self._moved = 0.0  # when that was first seen to stand as it stands
        self._looked = 0.0
        self.beaten = 0.0  # when this leader last counted its heartbeat up
        self.asked = 0.0  # when it last had a command of another

    @property
    def leads(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self.term is not None

    def see(self, head: Head) -> None:
        """Take in what a look at the head row said, unless it was overtaken by what this process did."""
        if self._seen is None or (head.term, head.beat) >= (self._seen.term, self._seen.beat):
            self._watch(head)

    def _watch(self, head: Head) -> None:
        """Take in what the head row says now."""
        now = self.monotonic()
        if self._seen != head:
            self._seen, self._moved = head, now
        self._looked = now
        if self.term is not None and (head.term, head.holder) != (self.term, self.name):
            self.term = None  # deposed

    def is_led_elsewhere(self) -> bool:
        """Tell whether another leads and is alive, as was seen a moment ago."""
        seen = self._seen
        if seen is None or seen.holder in (None, self.name) or self.monotonic() - self._looked > FRESH:
            return False
        return not self.may_take(seen)

    def may_take(self, head: Head) -> bool:
        """Tell whether this process may lead: it does, nobody does, or who did has stood still for too long."""
        if head.holder is None or head.holder == self.name:
            return True
        return self._seen == head and self.monotonic() - self._moved >= DEAD_AFTER

    def enter(self, head: Head, *, lead: bool) -> Head:
        """Return what the head row is to say after a transaction of this process; refuse where another leads.

        With no leader, a transaction is as good as one of a leader: `lead` says whether to become one by it.
        """
        self._watch(head)
        if self.leads:
            return head._replace(beat=head.beat + 1)
        if not self.may_take(head):
            raise LedElsewhere(f"ledger: {head.holder} leads it: try again")
        if lead or head.holder is not None:
            return Head(head.term + 1, self.name, head.beat + 1)
        return head

    def entered(self, head: Head) -> bool:
        """Note that the transaction was committed; tell whether this process leads by it, and did not before."""
        now = self.monotonic()
        self._seen, self._moved, self._looked = head, now, now
        if head.holder != self.name:
            return False
        took = self.term != head.term
        if took:
            self.asked = now
        self.term, self.beaten = head.term, now
        return took

    def left(self) -> None:
        """Note that this process leads no more."""
        self.term = None
        self._seen = None
