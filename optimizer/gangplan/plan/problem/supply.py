"""What may happen to capacity, as paths: a drought of spot nodes, the loss of a zone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gangplan.plan.problem.periods import Periods
from gangplan.plan.problem.policy import PlanPolicy, SupplyRisk
from gangplan.types import Pool, PoolKind

Array = NDArray[np.float64]


def draw_supply(pools: Sequence[Pool], policy: PlanPolicy, periods: Periods, count: int, seed: int) -> Array:
    """Draw the share of each pool's nodes that works, shape (count, pools, periods).

    A drought takes the spot nodes of one accelerator and region together; a lost zone takes all its pools.
    """
    supply = np.ones((count, len(pools), len(periods)))
    generator = np.random.default_rng([seed, 1])
    spot = [(p, (pool.region, pool.accelerator)) for p, pool in enumerate(pools) if pool.kind == PoolKind.SPOT]
    zones = [(p, (pool.region, pool.zone)) for p, pool in enumerate(pools)]
    _strike(supply, spot, policy.spot_drought, periods, generator)
    if len({place for _, place in zones}) > 1:
        _strike(supply, zones, policy.lost_zone, periods, generator)
    return supply


def _strike(
    supply: Array, members: list[tuple[int, Any]], risk: SupplyRisk, periods: Periods, generator: np.random.Generator
) -> None:
    """Let one place fail on as many paths as the risk says, each for its hours."""
    places = sorted({place for _, place in members})
    struck = generator.permutation(len(supply))[: round(risk.share_of_paths * len(supply))]
    for path in struck if places else ():
        place = places[int(generator.integers(len(places)))]
        begin = int(generator.integers(periods.hours))
        ends = periods.starts + np.array(periods.lengths)
        during = (periods.starts < begin + risk.hours) & (ends > begin)
        for p in (p for p, home in members if home == place):
            supply[path, p, during] *= risk.left
