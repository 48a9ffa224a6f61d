"""The plan's periods: single hours first, then longer blocks, for which the forecast is less exact anyway."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

Blocks = tuple[tuple[int, int], ...]

BLOCKS: Blocks = ((24, 1), (168, 3), (336, 6), (24 * 366, 24))
"""Pairs (until, length): up to hour `until` a period has `length` hours. Longer ones make plans faster and coarser."""


@dataclass(frozen=True, kw_only=True)
class Periods:
    """Consecutive periods from hour 0; `lengths` has the hours of each."""

    lengths: tuple[int, ...]

    @classmethod
    def from_horizon(cls, hours: int, blocks: Blocks = BLOCKS) -> Periods:
        """Cut a horizon into periods: 168 hours give 24 single hours and 48 blocks of three hours."""
        lengths: list[int] = []
        start = 0
        while start < hours:
            block = next(length for until, length in blocks if start < until or until == blocks[-1][0])
            lengths.append(min(block, hours - start))
            start += lengths[-1]
        return cls(lengths=tuple(lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> Counts:
        """The first hour of each period."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    @property
    def hours(self) -> int:
        """The hours of all periods together."""
        return sum(self.lengths)

    def means(self, hourly: Array) -> Array:
        """Average hourly values (last axis) over each period."""
        return np.add.reduceat(hourly, self.starts, axis=-1) / np.array(self.lengths)

    def hourly(self, values: Array) -> Array:
        """Repeat each period's value (last axis) for each of its hours."""
        return np.repeat(values, self.lengths, axis=-1)

    def first_after(self, hours: int) -> int:
        """Return the first period that starts at or after that many hours."""
        return int(np.searchsorted(self.starts, hours, side="left"))

    def window_sums(self, amounts: Array, window: int) -> Array:
        """Sum `amounts` (last axis, per period) over the periods that end within the last `window` hours of each."""
        ends = self.starts + np.array(self.lengths)
        first = np.searchsorted(self.starts, ends - window, side="left")
        total = np.concatenate([np.zeros((*amounts.shape[:-1], 1)), np.cumsum(amounts, axis=-1)], axis=-1)
        upto = np.arange(1, len(self) + 1)
        return total[..., upto] - total[..., np.minimum(first, upto)]
