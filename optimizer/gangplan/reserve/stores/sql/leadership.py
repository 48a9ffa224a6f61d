"""Which process leads: at most one at a time, by the holder, the term and the heartbeat in the head row.

No clocks of two machines are compared. The heartbeat is a number that the leader increases; a process that has seen no
increase for `DEAD_AFTER` seconds of its own monotonic time may raise the term and lead. Each transaction of a leader
checks, under the database's write lock, that the term is still its own; a leader that was paused for too long finds
another term and steps down.

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
"""Seconds without a heartbeat after which a leader is taken for dead. Raised, a dead leader is replaced later."""

BEAT_EVERY = 0.5
"""Seconds between two heartbeats of a leader that has nothing else to write."""

LINGER = 1.0
"""Seconds for which a client goes on leading after the last command of another process."""

FRESH = 0.25
"""Seconds for which what was read of the leader is used before it is read again."""

Monotonic = Callable[[], float]


class LedElsewhere(UnavailableError):
    """Another process leads: commands go to it through the queue."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of a ledger: its leader, the commands that wait for it, and the reservations in each state."""

    leader: str | None
    leads: bool  # this process does
    term: int
    change: int
    inbox: int
    states: dict[str, int]


class Leader(NamedTuple):
    """What the head row says of the leader."""

    term: int
    holder: str | None
    beat: int


class Leadership:
    """One process's view of who leads, and whether it leads itself."""

    def __init__(self, monotonic: Monotonic) -> None:
        self.name = f"{socket.gethostname()[:100]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"  # of this open ledger
        self.monotonic = monotonic
        self.term: int | None = None  # the one that it leads in
        self._seen: Leader | None = None
        self._changed_at = 0.0  # when that was first seen
        self._seen_at = 0.0
        self.last_beat = 0.0  # when this leader last counted its heartbeat up
        self.last_asked = 0.0  # when it last had a command of another

    @property
    def leads(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self.term is not None

    def see(self, leader: Leader) -> None:
        """Note what the head row said, unless this process has written a later one meanwhile."""
        if self._seen is None or (leader.term, leader.beat) >= (self._seen.term, self._seen.beat):
            self._watch(leader)

    def _watch(self, leader: Leader) -> None:
        """Note what the head row says now."""
        now = self.monotonic()
        if self._seen != leader:
            self._seen, self._changed_at = leader, now
        self._seen_at = now
        if self.term is not None and (leader.term, leader.holder) != (self.term, self.name):
            self.term = None  # deposed

    def is_led_elsewhere(self) -> bool:
        """Tell whether another process leads and is alive, as was seen a moment ago."""
        seen = self._seen
        if seen is None or seen.holder in (None, self.name) or self.monotonic() - self._seen_at > FRESH:
            return False
        return not self.may_take(seen)

    def may_take(self, leader: Leader) -> bool:
        """Tell whether this process may lead: it leads, nobody leads, or the leader's heartbeat has stopped."""
        if leader.holder is None or leader.holder == self.name:
            return True
        return self._seen == leader and self.monotonic() - self._changed_at >= DEAD_AFTER

    def enter(self, leader: Leader, *, lead: bool) -> Leader:
        """Return what the head row is to say after a transaction of this process; refuse where another process leads.

        Without a leader any process may commit; `lead` says whether it becomes the leader by that.
        """
        self._watch(leader)
        if self.leads:
            return leader._replace(beat=leader.beat + 1)
        if not self.may_take(leader):
            raise LedElsewhere(f"ledger: {leader.holder} leads it: try again")
        if lead or leader.holder is not None:
            return Leader(leader.term + 1, self.name, leader.beat + 1)
        return leader

    def entered(self, leader: Leader) -> bool:
        """Note that the transaction was committed; tell whether this process leads by it, and did not before."""
        now = self.monotonic()
        self._seen, self._changed_at, self._seen_at = leader, now, now
        if leader.holder != self.name:
            return False
        took = self.term != leader.term
        if took:
            self.last_asked = now
        self.term, self.last_beat = leader.term, now
        return took

    def left(self) -> None:
        """Note that this process leads no more."""
        self.term = None
        self._seen = None
