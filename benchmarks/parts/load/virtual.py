"""The ledger's own admission on a load in virtual time: what it would come to if no call, commit or message took time.

What remains of the waits against the floor's is then the order of admission; what a real run adds to it is latency. How
much of that a load bears is seen by letting each end be noticed late.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from random import Random
from statistics import fmean

from benchmarks.parts.load.clients import policy_of, pool_of, request_of
from benchmarks.parts.load.floor import SECOND, Course
from benchmarks.parts.load.kueue_load import SEED, Gang, Load
from gangplan.clock import to_us
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry
from gangplan.reserve.codec import id_of
from gangplan.reserve.commands import Command, Publish, Release, SetPolicy, Submit, run_batch
from gangplan.testing import a_calendar
from gangplan.types import ReservationId, ReservationState

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


class Desk:
    """A book and what is final beside it: each batch of commands at one moment."""

    def __init__(self, load: Load) -> None:
        self._book = Book()
        self._rows: dict[ReservationId, Entry] = {}
        self._granted: set[ReservationId] = set()
        calendar = a_calendar([pool_of(load)], start=START - timedelta(hours=1))
        self.serve([Publish(calendar), SetPolicy(policy_of(load), "benchmark", load.name)], 0)

    def serve(self, batch: list[Command], at: int) -> list[Entry]:
        """Run a batch; return what was granted by it."""
        run_batch(self._book, self._rows.get, batch, to_us(START) + at)
        self._rows.update(self._book.changed)
        fresh = [
            entry
            for entry in self._book.changed.values()
            if entry.state is ReservationState.GRANTED and entry.id not in self._granted
        ]
        self._granted.update(entry.id for entry in fresh)
        self._book.changed.clear()
        self._book.documents.clear()
        return fresh


def virtual_course(load: Load, gangs: Sequence[Gang], *, late: int = 0) -> Course:
    """Return the course of a load whose ends are noticed up to `late` microseconds late, each by a draw of its own."""
    desk, dice = Desk(load), Random(SEED)
    by_id = {id_of(gang.key): gang for gang in gangs}
    waits: dict[str, list[float]] = {}
    events = [(gang.arrival, number, Submit(request_of(gang))) for number, gang in enumerate(gangs)]
    heapify(events)
    now = 0
    while events:
        now, batch = events[0][0], list[Command]()
        while events and events[0][0] == now:
            batch.append(heappop(events)[2])
        for entry in desk.serve(batch, now):
            gang = by_id[entry.id]
            waits.setdefault(gang.size, []).append((now - gang.arrival) / SECOND)
            assert entry.token is not None
            release = Release(entry.id, entry.token)
            heappush(events, (now + gang.run + dice.randint(0, late), len(by_id) + (entry.token or 0), release))
    return Course(makespan=now / SECOND, waits={size: fmean(each) for size, each in waits.items()})
