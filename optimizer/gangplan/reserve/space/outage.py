"""Nodes that take no gang: what operators have said of them, from when, and when they are expected back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gangplan.clock import FOREVER, from_us
from gangplan.types import NodeState, Outage


class Span(NamedTuple):
    """From when (0: already) to when a node takes no gang; where it may be back any time, its promises are kept."""

    begin: int = 0
    back: int = FOREVER
    keeps: bool = False

    def covers(self, start: int, end: int) -> bool:
        """Tell whether the node is out at any time from `start` up to `end`."""
        return start < self.back and end > self.begin


class Mark(NamedTuple):
    """A node's state from `begin` (0: already) until `back`, in microseconds."""

    state: NodeState
    begin: int = 0
    back: int = FOREVER
    why: str = ""

    def outage(self) -> Outage:
        """Return it as it is told."""
        begin = from_us(self.begin) if self.begin else None
        back = from_us(self.back) if self.back < FOREVER else None
        return Outage(state=self.state, begin=begin, back=back, why=self.why)


Marks = Mapping[str, Mark]
"""By name, the nodes that are, or will be, not ready."""


def spans_of(marks: Marks, pool: str) -> dict[int, Span]:
    """Return by number when a pool's nodes take no gang; a node's name is its pool's, a dash and its number."""
    parts = [(*name.rpartition("-"), mark) for name, mark in marks.items()]
    return {
        int(number): Span(mark.begin, mark.back, keeps=mark.state is NodeState.LOST)
        for prefix, _, number, mark in parts
        if prefix == pool
    }


def next_change(marks: Marks) -> int | None:
    """Return the next moment at which time alone changes a mark."""
    return min((at for mark in marks.values() for at in (mark.begin, mark.back) if 0 < at < FOREVER), default=None)


def changed_by(marks: Marks, now: int) -> dict[str, Mark]:
    """Return the marks as they are at a moment.

    A drain begins when it was planned to, and is over at its end. A lost node that is not back by then is given up.
    """
    after: dict[str, Mark] = {}
    for name, mark in marks.items():
        over = mark.back <= now
        if over and mark.state is NodeState.LOST:
            after[name] = mark._replace(back=FOREVER)
        elif not over:
            after[name] = mark._replace(begin=0) if mark.begin <= now else mark
    return after
