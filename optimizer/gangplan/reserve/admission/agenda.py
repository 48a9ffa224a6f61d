"""What the next admission has to look at, and when time alone makes one necessary."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from heapq import heappop, heappush
from typing import Self

from gangplan.reserve.admission.entry import Entry, Rank
from gangplan.types import ReservationId


class Agenda:
    """What has changed since the whole line was last served, and the moments at which something falls due."""

    def __init__(self) -> None:
        self.freed = False  # slots or quota became free
        self.unserved: set[ReservationId] = set()  # new, due, or without the promise that they had
        self.lost: set[ReservationId] = set()  # lost a promise, and keep its rank until they are served
        self.ranks: dict[ReservationId, Rank] = {}  # of promises, where it is better than when they were made
        self._dues: list[tuple[int, ReservationId]] = []  # a heap; moments that no longer hold are skipped

    def copy(self) -> Self:
        """Return an agenda with the same content that can change by itself."""
        other = copy(self)
        other.unserved, other.lost = set(self.unserved), set(self.lost)
        other.ranks, other._dues = dict(self.ranks), list(self._dues)
        return other

    def forget(self, id: ReservationId) -> None:
        """Drop what is known of an entry that was served, or has left the book."""
        self.unserved.discard(id)
        self.ranks.pop(id, None)

    def rank_of(self, entry: Entry) -> Rank:
        """Return the rank of an entry's promise, or of the one that it lost."""
        return self.ranks.get(entry.id) or entry.rank

    def push(self, entry: Entry) -> None:
        """Remember when time alone will change an entry."""
        for moment in entry.dues():
            heappush(self._dues, (moment, entry.id))

    def next_due(self, live: Mapping[ReservationId, Entry]) -> int | None:
        """Return the next moment at which time alone changes an entry."""
        while self._dues:
            moment, id = self._dues[0]
            entry = live.get(id)
            if entry is not None and moment and moment in entry.dues():
                return moment
            heappop(self._dues)
        return None

    def pop_due(self, live: Mapping[ReservationId, Entry], now: int) -> Entry | None:
        """Return an entry that something is due for by `now`, once for each of its moments."""
        due = self.next_due(live)
        return None if due is None or due > now else live[heappop(self._dues)[1]]
