"""What the plan's tests build with: waves of demand, pools of 8-GPU nodes, settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gangplan.config import Settings
from gangplan.types import Pool, PoolKind


def wave(mean: float, swing: float, hours: int, phase: int = 14) -> list[float]:
    """A daily wave around `mean`, highest at `phase`."""
    return [mean * (1 + swing * math.cos((hour + 9 - phase) * math.tau / 24)) for hour in range(hours)]


SAMPLE: dict[tuple[str, str, str], tuple[float, float]] = {
    ("vision", "latency", "l4"): (24, 0.5),
    ("search", "latency", "l4"): (30, 0.6),
    ("language", "latency", "h100"): (20, 0.4),
    ("language", "throughput", "h100"): (48, 0.1),
    ("vision", "throughput", "a100"): (56, 0.2),
    ("risk", "throughput", "a100"): (24, 0.3),
    ("risk", "cost", "a100"): (16, 0.5),
    ("search", "cost", "a100"): (20, 0.2),
    ("search", "throughput", "h100"): (16, 0.2),
    ("language", "cost", "l4"): (10, 0.3),
}


def pool_of(name: str, accelerator: str, kind: str = "on_demand", **fields: Any) -> Pool:
    """A pool of 8-GPU nodes with what a test does not care about filled in."""
    given = {"gpus_per_node": 8, "price_per_node_hour": 20.0, "max_nodes": 10, **fields}
    return Pool(name=name, accelerator=accelerator, kind=PoolKind(kind), **given)


def settings_of(**fields: Any) -> Settings:
    """Settings of a small problem that is solved to a tenth of a per cent, however slow the machine is."""
    given = {"home": Path("/nonexistent"), "horizon_hours": 24, "mip_gap": 1e-3, "time_limit_s": 600, **fields}
    return Settings(**given)
