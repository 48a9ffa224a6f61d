"""Plan to changes to fleet file."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan import execute
from gangplan.config import read_fleet, write_fleet
from gangplan.errors import InputError
from gangplan.tables import PLAN_COST, PLAN_LIMITS, PLAN_NODES, PLAN_SHORTAGE, conform, empty
from gangplan.types import Fleet, NodeChange, Plan, PlanId, Pool, PoolKind


def pool(name: str) -> Pool:
    """A pool of at most five nodes."""
    return Pool(
        name=name, accelerator="h100", gpus_per_node=8, kind=PoolKind.ON_DEMAND, price_per_node_hour=1, max_nodes=5
    )


FLEET = Fleet(pools=(pool("a"), pool("b"), pool("c")), nodes={"a": 1, "b": 2})


def plan_of(start: datetime, nodes: dict[str, list[int]]) -> Plan:
    """A plan with those nodes by pool and hour."""
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
        fleet=FLEET,
        forecast_model="seasonal",
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The fleet's file."""
    path = tmp_path / "fleet.yaml"
    write_fleet(path, FLEET)
    return path


def test_diff_takes_the_present_hour_and_only_what_differs(now: datetime) -> None:
    """Within an hour that hour's nodes count; pools that are right already are left out; a missing count is zero."""
    planned = plan_of(now, {"a": [9, 4], "b": [9, 2], "c": [9, 1]})
    changes = execute.diff(planned, FLEET, at=now + timedelta(minutes=90))
    assert changes == (
        NodeChange(pool="a", current=1, target=4, at=now + timedelta(hours=1)),
        NodeChange(pool="c", current=0, target=1, at=now + timedelta(hours=1)),
    )


@pytest.mark.parametrize("hours", [-1, 2])
def test_a_moment_outside_the_plan_is_refused(hours: int, now: datetime) -> None:
    """An old plan, and one that begins later, say what they cover."""
    with pytest.raises(InputError, match=r"outside the plan, which covers 2026-03-02T09:00Z to 2026-03-02T10:00Z"):
        execute.diff(plan_of(now, {"a": [1, 1]}), FLEET, at=now + timedelta(hours=hours))


def test_a_pool_that_the_fleet_has_not_is_refused_before_anything_is_written(now: datetime, file: Path) -> None:
    """An unknown pool, in the plan or among the changes, changes nothing."""
    with pytest.raises(InputError, match="'x' is not in the fleet"):
        execute.diff(plan_of(now, {"x": [1]}), FLEET, at=now)
    good, bad = (NodeChange(pool=name, current=0, target=3, at=now) for name in ("a", "x"))
    with pytest.raises(InputError, match="'x' is not in the fleet"):
        execute.apply_to_file((good, bad), file)
    too_many = NodeChange(pool="a", current=0, target=6, at=now)
    with pytest.raises(InputError, match=r"target\[a\]: 6"):
        execute.apply_to_file((too_many,), file)
    assert read_fleet(file) == FLEET


def test_applying_twice_changes_nothing_the_second_time(now: datetime, file: Path) -> None:
    """The first apply makes the steps; the second makes none and does not touch the file."""
    changes = execute.diff(plan_of(now, {"a": [4], "b": [2], "c": [1]}), FLEET, at=now)
    assert execute.apply_to_file(changes, file) == changes
    after = read_fleet(file)
    assert after == replace(FLEET, nodes={"a": 4, "b": 2, "c": 1})
    before = file.stat()
    assert execute.apply_to_file(changes, file) == ()
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert execute.diff(plan_of(now, {"a": [4], "b": [2], "c": [1]}), after, at=now) == ()


def test_the_step_that_is_reported_is_the_one_that_was_made(now: datetime, file: Path) -> None:
    """When the file has moved on since the diff, the step starts from what it really had."""
    write_fleet(file, replace(FLEET, nodes={"a": 3}))
    made = execute.apply_to_file((NodeChange(pool="a", current=1, target=4, at=now),), file)
    assert made == (NodeChange(pool="a", current=3, target=4, at=now),)


def test_a_missing_file_is_refused(now: datetime, tmp_path: Path) -> None:
    """Nothing is made up where there is no fleet."""
    with pytest.raises(InputError, match="gangplan init"):
        execute.apply_to_file((NodeChange(pool="a", current=1, target=4, at=now),), tmp_path / "none.yaml")
    assert list(tmp_path.iterdir()) == []
