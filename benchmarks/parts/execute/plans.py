"""Plans of a day: a curve with a quiet night and a peak in the afternoon, and jumps of an hour."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from gangplan.tables import PLAN_COST, PLAN_LIMITS, PLAN_NODES, PLAN_SHORTAGE, conform, empty
from gangplan.types import Fleet, Plan, PlanId, Pool

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


def plan(fleet: Fleet, start: datetime, nodes: Mapping[str, Sequence[int]], name: str = "bench") -> Plan:
    """Return the plan that has these nodes of each pool, hour by hour from `start`."""
    rows = [
        {"hour": start + hour * HOUR, "pool": pool, "nodes": count}
        for pool, counts in nodes.items()
        for hour, count in enumerate(counts)
    ]
    return Plan(
        plan_id=PlanId(name),
        issued_at=start,
        status="optimal",
        gap=0.0,
        total_cost=0.0,
        nodes=conform("nodes", pl.DataFrame(rows), PLAN_NODES),
        cost=empty(PLAN_COST),
        shortage=empty(PLAN_SHORTAGE),
        limits=empty(PLAN_LIMITS),
        explanation=(),
        seed=1,
        fleet=fleet,
        forecast_model="bench",
    )
