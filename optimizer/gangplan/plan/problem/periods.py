"""The plan's periods: single hours first, longer blocks further out, where the forecast is blurred anyway."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Blocks = tuple[tuple[int, int], ...]

BLOCKS: Blocks = ((24, 1), (168, 3), (336, 6), (24 * 366, 24))
"""Up to which hour periods last how many hours."""


@dataclass(frozen=True, kw_only=True)
class Periods:
    """Consecutive periods from hour 0; `lengths` are their hours."""

    lengths: tuple[int, ...]

    @classmethod
    def from_horizon(cls, hours: int, blocks: Blocks = BLOCKS) -> Periods:
        """Cut a horizon into periods: 168 hours give 24 single hours and 48 blocks of three."""
        lengths: list[int] = []
        at = 0
        while at < hours:
            block = next(length for until, length in blocks if at < until or until == blocks[-1][0])
            lengths.append(min(block, hours - at))
            at += lengths[-1]
        return cls(lengths=tuple(lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first hour of each period."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    @property
    def hours(self) -> int:
        """All hours together."""
        return sum(self.lengths)

    def means(self, hourly: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average hourly values (last axis) over each period."""
        return np.add.reduceat(hourly, self.starts, axis=-1) / np.array(self.lengths)

    def hourly(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Repeat each period's value (last axis) for each of its hours."""
        return np.repeat(values, self.lengths, axis=-1)

    def first_after(self, hours: int) -> int:
        """Return the first period that starts at or after that many hours."""
        return int(np.searchsorted(self.starts, hours, side="left"))

    def window_sums(self, amounts: NDArray[np.float64], window: int) -> NDArray[np.float64]:
        """Sum `amounts` (last axis, per period) over the periods that end within the last `window` hours of each."""
        ends = self.starts + np.array(self.lengths)
        first = np.searchsorted(self.starts, ends - window, side="left")
        total = np.concatenate([np.zeros((*amounts.shape[:-1], 1)), np.cumsum(amounts, axis=-1)], axis=-1)
        upto = np.arange(1, len(self) + 1)
        return total[..., upto] - total[..., np.minimum(first, upto)]
