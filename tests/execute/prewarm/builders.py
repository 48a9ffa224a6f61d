"""Builders for tests of serving: a plan by pool and hour, its forecast, and what servers have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from gangplan.execute.prewarm import Hpa, Replicas, Serving
from gangplan.tables import PLAN_SHORTAGE, conform
from gangplan.testing import NOW, a_forecast, a_plan, a_pool
from gangplan.types import SERIES, Forecast, Plan, Pool

HOUR = timedelta(hours=1)
CHAT = ("vision", "latency", "h100")
SPREAD = (0.5, 0.75, 1.0, 1.25, 1.5)
"""The quantile 0.9, at which servers are kept ready, is what tests name."""

POOL = a_pool(gpus_per_node=8, max_nodes=10, startup_minutes_p50=3.0, startup_minutes_p95=6.0, lead_time_hours=1)


def asked(medians: Mapping[tuple[str, str, str], Sequence[float]], start: datetime = NOW) -> Forecast:
    """Return a forecast whose quantile 0.9 is what is given, hour by hour."""
    return a_forecast(medians, start, SPREAD)


def planned(
    nodes: Mapping[str, Sequence[int]],
    forecast: Forecast,
    short: Mapping[tuple[str, str, str], Sequence[float]] = {},
    pools: Sequence[Pool] = (POOL,),
) -> Plan:
    """Return a plan with nodes by pool and hour, and with GPUs that are short at the worst 5 % by series and hour."""
    lacks = [
        {
            "hour": row["hour"],
            **{name: row[name] for name in SERIES},
            "expected_gpus": 0.0,
            "probability": 0.0,
            "p95_gpus": _short(short, row, forecast.issued_at),
        }
        for row in forecast.quantiles.iter_rows(named=True)
    ]
    shortage = conform("shortage", pl.DataFrame(lacks), PLAN_SHORTAGE)
    return a_plan(forecast.issued_at, nodes, pools, shortage=shortage)


def _short(short: Mapping[tuple[str, str, str], Sequence[float]], row: Mapping[str, Any], start: datetime) -> float:
    amounts = short.get((row["tenant"], row["workload_class"], row["accelerator"]))
    return amounts[round((row["hour"] - start) / HOUR)] if amounts else 0.0


def chat(name: str = "chat", **changes: Any) -> Serving:
    """Return a server of 2 GPUs a replica behind an HPA, with what is given changed."""
    plain: dict[str, Any] = {"accelerator": "h100", "gpus_per_replica": 2, "where": Hpa(namespace="web", name=name)}
    return Serving(**{**plain, **changes})


def has(entry: Serving, minimum: int | None = 1, **more: Any) -> Replicas:
    """Return what an entry has."""
    return Replicas(key=entry.key, kind=entry.where.kind, minimum=minimum, **more)
