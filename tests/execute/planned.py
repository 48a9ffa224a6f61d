"""Builders of plans, and of what engines have of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import polars as pl

from gangplan.tables import PLAN_COST, PLAN_LIMITS, PLAN_NODES, PLAN_SHORTAGE, conform, empty
from gangplan.testing import a_pool
from gangplan.types import Fleet, Observation, Plan, PlanId, Pool, PoolNode, PoolNodes


def a_plan(start: datetime, nodes: Mapping[str, list[int]], pools: Iterable[Pool] = ()) -> Plan:
    """A plan with those nodes by pool and hour; its pools have nodes of 8 GPUs, unless they are given."""
    rows = [
        {"hour": start + timedelta(hours=hour), "pool": name, "nodes": count}
        for name, counts in nodes.items()
        for hour, count in enumerate(counts)
    ]
    return Plan(
        plan_id=PlanId("plan-1"),
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
        fleet=Fleet(pools=tuple(pools) or tuple(a_pool(name, gpus_per_node=8) for name in nodes)),
        forecast_model="seasonal",
    )


def observed(**nodes: int | tuple[PoolNode, ...]) -> Observation:
    """What engines have of each pool: so many usable nodes, or these."""
    return Observation(
        nodes=tuple(
            PoolNodes(pool=pool, ordered=len(members), nodes=members)
            for pool, members in (
                (pool, tuple(PoolNode(name=f"{pool}-{i}") for i in range(have)) if isinstance(have, int) else have)
                for pool, have in nodes.items()
            )
        )
    )
