"""Seeded capacity problems of named sizes, made as users make them: a forecast, a fleet and a policy, then a problem.

| size | pools | periods | workloads | paths |
|---|---|---|---|---|
| S | 4 | 24 x 1 h | 3 | 3 |
| M; M72; M48 | 10 | 168 x 1 h; 24 x 1 h + 48 x 3 h; 24 x 1 h + 24 x 6 h | 8 | 9 |
| L; L72; L48 | 30 | as M's | 20 | 20 |
| XL76 | 60 | 24 x 1 h + 52 x 6 h (two weeks) | 40 | 20 |

Demand: each workload has a mean of 150 to 600 GPUs, a daily and a weekly wave of its own phase, and quantiles as wide
as openb's demand lies around that of the same hour a day before (`_traces.day_ahead`). Workloads are latency,
throughput and cost-bound in turn, of their own tenant where there are enough; tenants have quotas and stand in cohorts.
Each asks for one accelerator and may use its neighbours at another speed. Fleet: each accelerator on demand and spot,
then owned, then in a second zone; all of it holds about 1.5 times the mean demand, so that peaks have to be bought,
deferred or left short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import polars as pl

from gangplan.config import Settings
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.problem.periods import Blocks
from gangplan.plan.problem.policy import PlanPolicy, QuotaShare, TenantQuota
from gangplan.plan.problem.problem import Problem
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.testing import a_forecast
from gangplan.types import ANY, Fleet, Forecast, Pool, PoolKind

START = datetime(2026, 3, 2, tzinfo=UTC)
HOURLY: Blocks = ((10**6, 1),)
THREES: Blocks = ((24, 1), (10**6, 3))
SIXES: Blocks = ((24, 1), (10**6, 6))
SPREAD = np.array([0.80, 1.00, 1.31, 1.39, 1.60])
"""The quantiles' multiples of the median, as `_traces.day_ahead` measures them on openb."""

CLASSES = ("latency", "throughput", "cost")
KINDS = (PoolKind.ON_DEMAND, PoolKind.SPOT, PoolKind.OWNED, PoolKind.ON_DEMAND)
FACTOR = {PoolKind.ON_DEMAND: 1.0, PoolKind.SPOT: 0.4, PoolKind.OWNED: 0.45}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large an instance is."""

    pools: int
    hours: int
    blocks: Blocks
    workloads: int
    paths: int
    accelerators: int
    tenants: int
    neighbours: int


SIZES = {
    "S": Size(pools=4, hours=24, blocks=HOURLY, workloads=3, paths=3, accelerators=2, tenants=3, neighbours=2),
    "M": Size(pools=10, hours=168, blocks=HOURLY, workloads=8, paths=9, accelerators=4, tenants=6, neighbours=3),
    "L": Size(pools=30, hours=168, blocks=HOURLY, workloads=20, paths=20, accelerators=8, tenants=12, neighbours=4),
    "XL76": Size(pools=60, hours=336, blocks=SIXES, workloads=40, paths=20, accelerators=16, tenants=24, neighbours=4),
}
for _name, _blocks in (("72", THREES), ("48", SIXES)):
    for _base in ("M", "L"):
        SIZES[_base + _name] = Size(**{**vars(SIZES[_base]), "blocks": _blocks})


def growth(pools: int) -> Size:
    """Sizes that grow in pools alone: 20 paths, 20 workloads, two weeks' worth of periods in 48."""
    return Size(pools=pools, hours=168, blocks=SIXES, workloads=20, paths=20, accelerators=8, tenants=12, neighbours=4)


def inputs(size: Size, seed: int = 1) -> tuple[Forecast, Fleet, PlanPolicy]:
    """Draw what an instance of that size is made of."""
    rng = np.random.default_rng([seed, size.pools, size.workloads])
    asked, forecast = _forecast(size, rng)
    fleet = _fleet(size, asked, rng)
    return forecast, fleet, _policy(size, forecast, rng)


def settings_of(size: Size, seed: int = 1, **changes: object) -> Settings:
    """The settings that an instance is solved with: one per cent, on one thread."""
    plain = {"horizon_hours": size.hours, "scenarios": size.paths, "seed": seed, "mip_gap": 0.01, "time_limit_s": 600}
    return Settings(**{**plain, **changes})  # type: ignore[arg-type]


def instance(size: Size | str, seed: int = 1, *, demand: float = 1.0, **changes: object) -> Problem:
    """Draw an instance; `demand` multiplies its forecast."""
    chosen = SIZES[size] if isinstance(size, str) else size
    forecast, fleet, policy = inputs(chosen, seed)
    scaled = forecast.quantiles.with_columns(pl.col(column) * demand for column in QUANTILE_COLUMNS)
    again = Forecast(issued_at=forecast.issued_at, model=forecast.model, quantiles=scaled)
    return build_problem(again, fleet, settings_of(chosen, seed, **changes), policy=policy, blocks=chosen.blocks)


def _forecast(size: Size, rng: np.random.Generator) -> tuple[np.ndarray, Forecast]:
    """Draw each workload's waves; give the mean GPUs by accelerator too."""
    hour = np.arange(size.hours)
    asked = np.zeros(size.accelerators)
    frames: list[pl.DataFrame] = []
    for w in range(size.workloads):
        mean, swing, phase = rng.uniform(150, 600), rng.uniform(0.15, 0.55), rng.uniform(0, 24)
        week = 1 - 0.25 * (hour // 24 % 7 >= 5)
        median = mean * week * (1 + swing * np.cos((hour - phase) * math.tau / 24))
        asked[w % size.accelerators] += mean
        values = median[:, None] * (1 + (SPREAD - 1) * rng.uniform(0.7, 1.3))
        names = dict(zip(QUANTILE_COLUMNS, values.T, strict=True))
        key = {
            "tenant": f"t{w % size.tenants}",
            "workload_class": CLASSES[w % 3],
            "accelerator": f"a{w % size.accelerators}",
        }
        hours = [START + timedelta(hours=int(h)) for h in hour]
        frames.append(pl.DataFrame({"hour": hours, **names}).with_columns(**{k: pl.lit(v) for k, v in key.items()}))
    return asked, Forecast(issued_at=START, model="drawn", quantiles=pl.concat(frames))


def _fleet(size: Size, asked: np.ndarray, rng: np.random.Generator) -> Fleet:
    """Draw the pools, one round of kinds after the other over the accelerators."""
    rounds = size.pools / size.accelerators
    pools: list[Pool] = []
    nodes: dict[str, int] = {}
    worth = 1.5 + 2.5 * np.arange(size.accelerators) / size.accelerators
    for i in range(size.pools):
        a, kind = i % size.accelerators, KINDS[i // size.accelerators % len(KINDS)]
        gpus = int(rng.choice([4, 8]))
        most = max(2, math.ceil(1.5 * max(asked[a], 300.0) / rounds / gpus))
        name, second = f"a{a}-{i // size.accelerators}", i // size.accelerators % 4 == 3
        owned = kind is PoolKind.OWNED
        pools.append(
            Pool(
                name=name,
                accelerator=f"a{a}",
                gpus_per_node=gpus,
                kind=kind,
                price_per_node_hour=round(float(worth[a] * gpus * FACTOR[kind] * rng.uniform(0.9, 1.1)), 2),
                min_nodes=most // 2 if owned else 0,
                max_nodes=most,
                lead_time_hours=0 if owned else int(rng.integers(1, 3)),
                interruption_per_hour=0.05 if kind is PoolKind.SPOT else 0.0,
                minimum_up_hours=3 if second else 0,
                zone="b" if second else "a",
            )
        )
        nodes[name] = most // 2
    return Fleet(pools=tuple(pools), nodes=nodes)


def _policy(size: Size, forecast: Forecast, rng: np.random.Generator) -> PlanPolicy:
    """Draw speeds of neighbouring accelerators, and quotas a little above the tenants' mean demand."""
    speeds: dict[str, dict[str, float]] = {}
    for a, step in product(range(size.accelerators), range(1, size.neighbours)):
        other = (a + step) % size.accelerators
        speeds.setdefault(f"a{a}", {})[f"a{other}"] = round(float(rng.uniform(0.6, 1.4)), 2)
    means = dict(
        forecast.quantiles.group_by("tenant").agg(pl.col("q0.5").sum() / size.hours).sort("tenant").iter_rows()
    )
    quotas = {
        tenant: TenantQuota(
            shares={ANY: QuotaShare(nominal=round(1.25 * mean, 1), borrow=round(0.35 * mean, 1))}, cohort=f"c{i % 2}"
        )
        for i, (tenant, mean) in enumerate(means.items())
    }
    return PlanPolicy(speeds=speeds, quotas=quotas)


def small(hours: int, seed: int, **changes: object) -> tuple[Forecast, Fleet, Settings]:
    """Draw a small fleet: three series, three pools, nine paths; a node or a few serve each hour.

    By turns, all series ask for one accelerator (an owned, an on-demand and a spot pool), each for its own (a pool
    each), or for any.
    """
    rng = np.random.default_rng([seed, 77])
    shape, hour = ("one", "each", "any")[seed % 3], np.arange(hours)
    asked = float(np.exp(rng.uniform(math.log(4), math.log(60)))) * rng.uniform(0.3, 1.5, 3)
    week = 1 - 0.25 * (hour // 24 % 7 >= 5)
    medians: dict[tuple[str, str, str], list[float]] = {}
    for i, kind in enumerate(CLASSES):
        wave = 1 + rng.uniform(0.1, 0.6) * np.cos((hour - rng.uniform(0, 24)) * math.tau / 24)
        name = {"one": "a0", "each": f"a{i}", "any": ANY}[shape]
        medians[f"t{i}", kind, name] = (asked[i] * week * wave * np.exp(rng.normal(0, 0.1, hours))).tolist()
    pools = _pool_each(asked, rng) if shape == "each" else _three_kinds(float(asked.sum()), rng)
    fleet = Fleet(pools=tuple(pools), nodes={pool.name: pool.min_nodes or 1 for pool in pools})
    plain = {"horizon_hours": hours, "scenarios": 9, "seed": seed, "mip_gap": 0.01}
    return a_forecast(medians, START), fleet, Settings(**{**plain, **changes})  # type: ignore[arg-type]


def _pool_each(asked: np.ndarray, rng: np.random.Generator) -> list[Pool]:
    """Draw a pool for each accelerator, the last one of spot nodes."""
    kinds = (PoolKind.ON_DEMAND, PoolKind.ON_DEMAND, PoolKind.SPOT)
    return [
        Pool(
            name=f"a{i}-0",
            accelerator=f"a{i}",
            gpus_per_node=int(rng.choice([4, 8])),
            kind=kind,
            price_per_node_hour=float(rng.uniform(8, 40)),
            max_nodes=max(2, math.ceil(asked[i] / 4)),
            lead_time_hours=int(rng.integers(0, 3)),
            interruption_per_hour=0.05 if kind is PoolKind.SPOT else 0.0,
        )
        for i, kind in enumerate(kinds)
    ]


def _three_kinds(asked: float, rng: np.random.Generator) -> list[Pool]:
    """Draw an owned pool for half of the demand, and an on-demand and a spot pool for its peaks."""
    price, lead, owned = float(rng.uniform(20, 35)), int(rng.integers(0, 3)), max(1, round(asked / 16))
    plain = {"accelerator": "a0", "gpus_per_node": 8}
    by_the_hour = {**plain, "lead_time_hours": lead}
    return [
        Pool(
            name="owned",
            kind=PoolKind.OWNED,
            price_per_node_hour=0.5 * price,
            min_nodes=owned,
            max_nodes=owned,
            **plain,
        ),
        Pool(
            name="on-demand",
            kind=PoolKind.ON_DEMAND,
            price_per_node_hour=price,
            max_nodes=max(2, math.ceil(1.5 * asked / 8)),
            minimum_up_hours=int(rng.choice([0, 0, 3])),
            **by_the_hour,
        ),
        Pool(
            name="spot",
            kind=PoolKind.SPOT,
            price_per_node_hour=0.4 * price,
            max_nodes=max(1, math.ceil(0.7 * asked / 8)),
            interruption_per_hour=0.05,
            **by_the_hour,
        ),
    ]  # type: ignore[arg-type]
