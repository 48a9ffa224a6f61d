"""A time in which a node takes no gang."""

from __future__ import annotations

from typing import NamedTuple

from gangplan.clock import FOREVER


class Outage(NamedTuple):
    """From when (0: already) to when a node takes no gang; where it may be back any time, its promises are kept."""

    begin: int = 0
    back: int = FOREVER
    keeps: bool = False

    def covers(self, start: int, end: int) -> bool:
        """Tell whether the node is out at any time from `start` up to `end`."""
        return start < self.back and end > self.begin
