"""The first fleet, from telemetry alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl
import pytest

from gangplan import plan
from gangplan.config import read_fleet, write_fleet
from gangplan.errors import InputError
from gangplan.tables import DEMAND, EVENTS, JOBS, NODES, QUEUE, REQUESTS, conform, empty
from gangplan.types import PoolKind, Usage


def usage_of(loads: Mapping[tuple[str, str, str], list[float]], start: datetime) -> Usage:
    """Telemetry with that hourly demand."""
    rows = [
        {
            "hour": start + timedelta(hours=hour),
            "tenant": tenant,
            "workload_class": kind,
            "accelerator": name,
            "gpus": gpus,
        }
        for (tenant, kind, name), values in loads.items()
        for hour, gpus in enumerate(values)
    ]
    frame = (
        conform("demand", pl.DataFrame(rows, schema_overrides={"gpus": pl.Float64}), DEMAND) if rows else empty(DEMAND)
    )
    return Usage(
        source="test",
        sha256="0",
        start=start,
        end=start + timedelta(hours=48),
        demand=frame,
        jobs=empty(JOBS),
        nodes=empty(NODES),
        queue=empty(QUEUE),
        requests=empty(REQUESTS),
        events=empty(EVENTS),
    )


def test_each_accelerator_gets_pools_of_its_size(now: datetime, tmp_path: object) -> None:
    """Owned at the 60th percentile, on demand to 1.5 times the peak, spot where cost-bound work is, and the lab."""
    ramp = [float(hour) for hour in range(101)]
    fleet = plan.draft_fleet(usage_of({("ann", "throughput", "h100"): ramp, ("bob", "cost", "l4"): [20.0] * 101}, now))
    sizes = {pool.name: (pool.kind, pool.min_nodes, pool.max_nodes, pool.gpus_per_node) for pool in fleet.pools}
    assert sizes == {
        "h100-owned": (PoolKind.OWNED, 8, 8, 8),  # 60 GPUs
        "h100-on-demand": (PoolKind.ON_DEMAND, 0, 19, 8),  # 150 GPUs
        "l4-owned": (PoolKind.OWNED, 5, 5, 4),
        "l4-on-demand": (PoolKind.ON_DEMAND, 0, 8, 4),
        "l4-spot": (PoolKind.SPOT, 0, 3, 4),
        "h100-lab": (PoolKind.OWNED, 2, 2, 4),
    }
    assert fleet.nodes["h100-owned"] == 8
    assert fleet.nodes["h100-lab"] == 2
    prices = {pool.name: pool.price_per_node_hour / pool.gpus_per_node for pool in fleet.pools}
    assert prices["l4-spot"] < prices["l4-owned"] < prices["l4-on-demand"] < prices["h100-on-demand"]


def test_a_drafted_fleet_is_a_fleet_file(now: datetime, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is drafted can be written, read back the same, and has the lab even when telemetry names it."""
    fleet = plan.draft_fleet(usage_of({("a", "cost", "V100M16"): [3.0] * 5, ("b", "cost", "h100-lab"): [8.0] * 5}, now))
    path = tmp_path_factory.mktemp("fleet") / "fleet.yaml"
    write_fleet(path, fleet)
    assert read_fleet(path) == fleet
    assert [pool.name for pool in fleet.pools] == ["V100M16-owned", "V100M16-on-demand", "V100M16-spot", "h100-lab"]


def test_work_for_any_accelerator_counts_with_the_largest(now: datetime) -> None:
    """Series that take any accelerator enlarge the one most asked for; with no name at all there is a plain one."""
    named = plan.draft_fleet(usage_of({("a", "cost", "any"): [64.0] * 5, ("b", "latency", "a100"): [16.0] * 5}, now))
    assert named.pool("a100-owned").max_nodes == 10
    plain = plan.draft_fleet(usage_of({("a", "throughput", "any"): [16.0] * 5}, now))
    assert plain.pool("gpu-on-demand").max_nodes == 3


def test_telemetry_without_demand_is_refused(now: datetime) -> None:
    """There is nothing to draft a fleet for."""
    with pytest.raises(InputError, match="asks for no GPU"):
        plan.draft_fleet(usage_of({}, now))
    with pytest.raises(InputError, match="asks for no GPU"):
        plan.draft_fleet(usage_of({("a", "cost", "any"): [0.0] * 5}, now))
