"""Start-up times as a distribution, orders in words, and data that costs where it moves."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.errors import InputError
from gangplan.plan.answer.schedule import order_text, orders
from gangplan.plan.make import decide
from gangplan.plan.problem.builder import build_problem, nodes_of
from gangplan.plan.problem.periods import Periods
from gangplan.plan.problem.policy import CLASS_POLICY, PlanPolicy
from gangplan.plan.problem.scenarios import arrivals, early_hours, startup_minutes
from gangplan.plan.questions.alternatives import PLAN, compare
from gangplan.plan.solver import Search
from gangplan.testing import a_forecast
from gangplan.types import Fleet, Pool, WorkloadClass

CERTAIN = (1.0,) * 5


@pytest.fixture
def slow() -> Pool:
    """Half of its starts take 15 minutes, 95 of 100 up to 40."""
    return pool_of("slow", "h100", lead_time_hours=1, startup_minutes_p50=15, startup_minutes_p95=40)


def test_the_distribution_goes_through_its_quantiles(slow: Pool) -> None:
    """Drawn times have the median and the 95 % quantile of the fleet file; early nodes wait what those say."""
    drawn = startup_minutes(slow, np.random.default_rng(1).standard_normal(100_000))
    assert np.quantile(drawn, [0.5, 0.95]) == pytest.approx([15, 40], rel=0.02)
    assert early_hours(slow) == pytest.approx(np.maximum(0, 40 - drawn).mean() / 60, rel=0.02)


def test_late_nodes_are_missing_and_early_ones_are_paid(slow: Pool) -> None:
    """Missing node-hours are those of the late starts, money that of the early ones; other pools are not touched."""
    periods = Periods.from_horizon(30)  # 24 single hours, two blocks of three
    nodes = np.zeros((2000, 2, len(periods)), dtype=np.int64)
    nodes[:, 0, 10:20] = 4
    nodes[:, 1] = 3
    prices = np.full((2, len(periods)), 20.0)
    there, paid = arrivals([slow, pool_of("at-once", "h100")], [0, 3], nodes, periods, prices, seed=3)
    assert (there[:, 1] == 3).all()
    assert (there[:, 0, :10] == 0).all()
    assert (there <= nodes).all()
    late = (nodes - there)[:, 0].sum(axis=1)
    assert (late > 0).mean() == pytest.approx(0.05, abs=0.02)
    drawn = startup_minutes(slow, np.random.default_rng(1).standard_normal(100_000))
    assert late.mean() == pytest.approx(4 * np.maximum(0, drawn - 40).mean() / 60, rel=0.4)
    assert paid.mean() == pytest.approx(4 * 20 * early_hours(slow), rel=0.05)


def test_fresh_paths_draw_start_up_times(slow: Pool, now: datetime) -> None:
    """A plan that starts nodes costs more on fresh paths than the same plan on nodes that come in time."""
    load = {("ann", "latency", "h100"): ([8.0] * 4 + [30.0] * 4) * 3}
    punctual = replace(slow, startup_minutes_p50=0.0, startup_minutes_p95=0.0)
    asked = a_forecast(load, now, CERTAIN)
    problems = [
        build_problem(asked, Fleet(pools=(pool,), nodes={"slow": 1}), settings_of(scenarios=2))
        for pool in (punctual, slow)
    ]
    nodes = decide(Search(problems[0]))[0].nodes
    costs = [next(one.mean for one in compare(problem, nodes) if one.name == PLAN) for problem in problems]
    starts = np.maximum(0, np.diff(nodes[0], prepend=1)).sum()
    assert starts > 0
    assert costs[1] > costs[0] + 0.5 * starts * 20 * early_hours(slow)


def test_orders_say_when_to_start_what(
    slow: Pool, now: datetime,
) -> None:  # fmt: skip
    """Nodes are ordered their 95 % start-up time, or their lead time, before they serve; stops are at their hour."""
    load = {("ann", "latency", "h100"): [7.0] * 5 + [23.0] * 5 + [7.0] * 14}
    found = plan.solve(
        a_forecast(load, now, CERTAIN), Fleet(pools=(slow,), nodes={"slow": 1}), settings=settings_of(scenarios=1)
    )
    first, *_, last = orders(found)
    assert first.order_at == first.serve_at - timedelta(minutes=40)
    assert first.half_by == first.order_at + timedelta(minutes=15)
    assert first.serve_at <= now + timedelta(hours=5)
    assert last.nodes < 0
    assert last.serve_at == now + timedelta(hours=10)
    assert order_text(first).startswith(f"Start {first.nodes} nodes of slow at Mon 02 Mar 13:20 so that they serve at")
    assert any(order_text(first) in line for line in found.explanation)
    firm = plan.orders(
        replace(found, fleet=Fleet(pools=(pool_of("slow", "h100", lead_time_hours=3),), nodes={"slow": 1}))
    )
    assert firm[0].order_at == firm[0].serve_at - timedelta(hours=3)
    assert plan.orders(found, hours=0) == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"startup_minutes_p50": 30, "startup_minutes_p95": 20}, r"p95: 20 must be a number of at least 30"),
        ({"startup_minutes_p95": 20, "lead_time_hours": 1}, r"startup_minutes_p50: 0.0 must be given too"),
        ({"startup_minutes_p50": 9, "startup_minutes_p95": 90, "lead_time_hours": 1}, r"hours: 1 .*set it to 2"),
        ({"startup_minutes_p50": float("nan")}, "startup_minutes_p50"),
    ],
)  # fmt: skip
def test_a_distribution_that_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    """Quantiles out of order, half a distribution and a lead time that is too short are named with what helps."""
    with pytest.raises(InputError, match=said):
        pool_of("main", "h100", **fields)


def test_work_stays_with_its_data_unless_moving_pays(
    now: datetime,
) -> None:  # fmt: skip
    """A cheaper region is used until its GPU-hour with the data's egress is dearer; what moves is priced and said."""
    pools = (
        pool_of("home", "h100", price_per_node_hour=20, region="eu", zone="eu-a"),
        pool_of("away", "h100", price_per_node_hour=12, region="us", zone="us-a"),
    )
    asked = a_forecast({("ann", "throughput", "h100"): [7.9] * 24}, now, CERTAIN)

    def solved(gigabytes: float) -> tuple[Any, Any]:
        rule = replace(
            CLASS_POLICY[WorkloadClass.THROUGHPUT], defer_hours=0, data_region="eu", data_gb_per_gpu_hour=gigabytes
        )
        policy = PlanPolicy(classes={WorkloadClass.THROUGHPUT: rule}, egress_per_gb={"eu": 0.1})
        problem = build_problem(asked, Fleet(pools=pools), settings_of(scenarios=1), policy=policy)
        return plan.solve(asked, Fleet(pools=pools), settings=settings_of(scenarios=1), policy=policy), problem

    cheap, problem = solved(5.0)  # 0.5 a GPU-hour, where the node is cheaper by 1.0
    dear, _ = solved(20.0)
    assert nodes_of(cheap, problem).sum(axis=1).tolist() == [0, 24]
    assert nodes_of(dear, problem).sum(axis=1).tolist() == [24, 0]
    solution, _ = decide(Search(problem))
    assert solution.egress == pytest.approx(24 * 7.9 * 0.5, rel=1e-6)
    assert any("Data that leaves its region costs 95 in the mean" in line for line in cheap.explanation)
    with pytest.raises(InputError, match=r"egress_per_gb\[eu\]: -1"):
        PlanPolicy(egress_per_gb={"eu": -1})
