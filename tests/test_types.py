"""The values that stages hand over refuse what is wrong, by field, and identify a request by its body."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, strategies as st

from gangplan.errors import InputError, MissingExtraError
from gangplan.types import CapacityCalendar, CapacityInterval, Fleet, GangRequest, PlanId, PodSet, Pool, PoolKind

HOUR = timedelta(hours=1)


def request(**changed: Any) -> GangRequest:
    """Make a good request, with some fields changed."""
    fields: dict[str, Any] = {
        "request_key": "k",
        "tenant": "vision",
        "pod_sets": (PodSet(count=2, gpus_per_pod=4),),
        "accelerators": ("h100",),
        "duration": HOUR,
    }
    return GangRequest(**{**fields, **changed})


def pool(**changed: Any) -> Pool:
    """Make a good pool, with some fields changed."""
    fields: dict[str, Any] = {
        "name": "p",
        "accelerator": "h100",
        "gpus_per_node": 8,
        "kind": PoolKind.OWNED,
        "price_per_node_hour": 1.0,
        "max_nodes": 4,
    }
    return Pool(**{**fields, **changed})


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("request_key", {"request_key": ""}),
        ("request_key", {"request_key": "x" * 513}),
        ("tenant", {"tenant": "two words"}),
        ("tenant", {"tenant": "../etc"}),
        ("pod_sets", {"pod_sets": ()}),
        ("accelerators", {"accelerators": ()}),
        ("accelerators", {"accelerators": ("h100", "")}),
        ("duration", {"duration": timedelta(0)}),
        ("duration", {"duration": -HOUR}),
        ("walltime", {"walltime": HOUR / 2}),
        ("earliest_start", {"earliest_start": datetime(2026, 1, 1)}),  # noqa: DTZ001 - the naive time is the case
        ("latest_start", {"latest_start": datetime(2026, 1, 1, tzinfo=timezone(HOUR))}),
    ],
)
def test_request_names_the_wrong_field(field: str, changed: dict[str, Any]) -> None:
    """A wrong field of a request is refused by its name."""
    with pytest.raises(InputError) as caught:
        request(**changed)
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("pools[p].price_per_node_hour", {"price_per_node_hour": -1.0}),
        ("pools[p].price_per_node_hour", {"price_per_node_hour": float("nan")}),
        ("pools[p].gpus_per_node", {"gpus_per_node": 0}),
        ("pools[p].min_nodes", {"min_nodes": -1}),
        ("pools[p].max_nodes", {"min_nodes": 5}),
        ("pools[p].lead_time_hours", {"lead_time_hours": -1}),
        ("pools[p].interruption_per_hour", {"interruption_per_hour": 1.5}),
        ("pools.name", {"name": "a b"}),
    ],
)
def test_pool_names_the_wrong_field(field: str, changed: dict[str, Any]) -> None:
    """A wrong field of a pool is refused by its name."""
    with pytest.raises(InputError) as caught:
        pool(**changed)
    assert caught.value.field == field


@pytest.mark.parametrize(("count", "gpus"), [(0, 1), (-1, 1), (1, 0), (1, -8)])
def test_pod_set_needs_pods_and_gpus(count: int, gpus: int) -> None:
    """A pod set without pods, or pods without GPUs, are refused."""
    with pytest.raises(InputError, match="at least 1"):
        PodSet(count=count, gpus_per_pod=gpus)


def test_fleet_refuses_twins_and_strangers() -> None:
    """Two pools of one name, an empty fleet, and nodes of an unknown pool are refused."""
    with pytest.raises(InputError, match="stands twice"):
        Fleet(pools=(pool(), pool()))
    with pytest.raises(InputError, match="is empty"):
        Fleet(pools=())
    with pytest.raises(InputError, match="'q' is not in the fleet: use one of p"):
        Fleet(pools=(pool(),), nodes={"q": 1})


def test_calendar_refuses_unknown_pools_and_backward_time(now: datetime) -> None:
    """An interval must name a pool of the calendar and end after it starts."""
    interval = CapacityInterval(pool="q", start=now, end=now + HOUR, nodes=1)
    with pytest.raises(InputError, match="is not in the calendar's pools"):
        CapacityCalendar(plan_id=PlanId("x"), pools=(pool(),), intervals=(interval,))
    with pytest.raises(InputError, match="must be later than start"):
        CapacityInterval(pool="p", start=now, end=now, nodes=1)


@given(st.floats(allow_nan=True, allow_infinity=True).filter(lambda value: not 0 <= value < 1))
def test_interruption_is_a_probability(value: float) -> None:
    """Whatever is not from 0 to below 1 is no interruption rate."""
    with pytest.raises(InputError, match="interruption_per_hour"):
        pool(interruption_per_hour=value)


@pytest.mark.parametrize("error", [InputError("a", 1, "is wrong"), MissingExtraError("lightgbm", "forecast")])
def test_errors_cross_processes(error: InputError) -> None:
    """An error keeps its parts when Airflow or KFP carries it to another process."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), again.field, again.value, again.remedy) == (
        type(error),
        error.field,
        error.value,
        error.remedy,
    )


def test_values_are_frozen() -> None:
    """A value cannot be changed once it was handed over."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        request().tenant = "other"  # type: ignore[misc]
