"""Slots that come and go in simulated time: those of one pool, or those that one tenant may hold of an accelerator."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import accumulate

_LOOKED = 64
"""How many changes of the calendar and the windows are tried for a gang that does not fit before them."""


class Flow:
    """Free slots for a line that is served in order, with a clock that goes from the end of one gang to the next.

    Parameters
    ----------
    there : how many slots exist, as (moment, change); the first moment is now
    ends : when slots that are held come free, as (moment, slots)
    """

    def __init__(self, there: list[tuple[int, int]], ends: Iterable[tuple[int, int]]) -> None:
        self._times = [at for at, _ in there]
        self._slots = list(accumulate(slots for _, slots in there))
        self._now, self._there = self._times[0], self._slots[0]
        self._coming = list(ends)  # a heap of (moment, slots that come free)
        self._held = sum(slots for _, slots in self._coming)
        self._coming.extend((at, 0) for at in self._times[1:])
        heapify(self._coming)
        self._taken: list[tuple[int, int]] = []  # what `look` took off the heap
        self._reached: tuple[int, int, int] | None = None  # clock, slots that exist and slots held where `look` ended
        self.widest = 0  # slots of the largest gang so far

    def look(self, slots: int, length: int, after: int) -> int | None:
        """Return when a gang can start from `after` on, to last up to `length`; None: never."""
        if self._taken:
            self.leave()
        now, there, held, coming = self._now, self._there, self._held, self._coming
        while there - held < slots:
            if not coming:
                return None
            now, freed = event = heappop(coming)
            self._taken.append(event)
            held -= freed
            if not freed:
                there = self._slots[bisect_right(self._times, now) - 1]
        self._reached = now, there, held
        return now if after <= now and len(self._times) == 1 else self._beyond(slots, length, max(after, now), held)

    def serve(self, slots: int, length: int, after: int, lasts: int) -> int | None:
        """Look for a start as `look` does, and take it at once."""
        if len(self._times) > 1 or after > self._now:
            start = self.look(slots, length, after)
            if start is None:
                self.leave()
            else:
                self.take(start, slots, lasts)
            return start
        if slots > self._there:
            return None
        coming, free = self._coming, self._there - self._held
        while free < slots:
            self._now, freed = heappop(coming)
            free += freed
        self._held = self._there - free + slots
        heappush(coming, (self._now + lasts, slots))
        if slots > self.widest:
            self.widest = slots
        return self._now

    def _beyond(self, slots: int, length: int, after: int, held: int) -> int | None:
        """Return the first moment from which the calendar and the windows leave the slots for `length`."""
        times, there = self._times, self._slots
        first = bisect_right(times, after) - 1
        for index in range(first, min(len(times), first + _LOOKED)):
            start = max(after, times[index])
            if min(there[index : bisect_left(times, start + length, index + 1)]) - held >= slots:
                return start
        return None

    def leave(self) -> None:
        """Forget what `look` found."""
        for event in self._taken:
            heappush(self._coming, event)
        self._taken.clear()
        self._reached = None

    def take(self, start: int, slots: int, lasts: int) -> None:
        """Let the gang that `look` was last asked for start, and last for `lasts`.

        Where it starts later than it has the slots (its window, the calendar), those behind it do not wait for it.
        """
        if self._reached is not None and start == self._reached[0]:
            self._now, self._there, self._held = self._reached
            self._held += slots
            self._taken.clear()
            self._reached = None
        else:
            self.leave()
            heappush(self._coming, (start, -slots))
        heappush(self._coming, (start + lasts, slots))
        if slots > self.widest:
            self.widest = slots
