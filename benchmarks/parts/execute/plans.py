"""Plans of a day: a curve with a quiet night and a peak in the afternoon, and jumps of an hour."""

from __future__ import annotations

import math
import random
from datetime import timedelta

from gangplan.types import Pool

HOUR = timedelta(hours=1)
_PEAK, _HALF_DAY = 15, 12
_SPIKES = 3


def curve(pool: Pool, hours: int, seed: int) -> list[int]:
    """Return a pool's nodes hour by hour: 35 to 90 % of its most over a day, with jumps up and down of an hour each."""
    draw = random.Random(f"{seed} {pool.name}")
    waves = [0.625 + 0.275 * math.cos(math.pi * (hour % 24 - _PEAK) / _HALF_DAY) for hour in range(hours)]
    for hour in draw.sample(range(1, hours), min(_SPIKES * hours // 24, hours - 1)):
        waves[hour] = draw.choice([0.1, 1.0])
    return [min(max(round(share * pool.max_nodes), pool.min_nodes), pool.max_nodes) for share in waves]
