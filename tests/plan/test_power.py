"""Caps, electricity and carbon in the plan, against every fleet of small cases, priced by the formulation's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, strategies as st
from scipy.optimize import linprog
from tests.effort import examples
from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.errors import InputError
from gangplan.plan.make import decide
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.problem.policy import (
    RISK_TAIL,
    RISK_WEIGHT,
    SLOWER_FACTOR,
    START_HOURS,
    PlanPolicy,
    policy_body,
    policy_from,
)
from gangplan.plan.problem.problem import Problem
from gangplan.plan.questions import WhatIf
from gangplan.plan.solver import Search
from gangplan.plan.solver.highs import Work
from gangplan.progress import no_progress
from gangplan.testing import a_forecast
from gangplan.tracking import Store
from gangplan.types import Fleet, Forecast, GridCarbon, Pool, PowerCurve, PowerPoint, WorkloadClass

HOURS = 3
SPREAD = (0.7, 1.0, 1.3, 1.4, 1.6)
CERTAIN = (1.0,) * 5


def a_curve(*points: tuple[int, float, float], kind: str = "throughput", accelerator: str = "h100") -> PowerCurve:
    """A curve of (cap, speed, watts)."""
    return PowerCurve(
        workload_class=WorkloadClass(kind),
        accelerator=accelerator,
        measured=date(2026, 2, 1),
        points=tuple(PowerPoint(setting=cap, speed=speed, watts=watts, samples=9) for cap, speed, watts in points),
    )


STEEP = a_curve((300, 0.6, 290), (400, 0.85, 390), (500, 0.95, 480), (700, 1.0, 690))


def path_price(problem: Problem, nodes: np.ndarray, demand: Sequence[float]) -> float:
    """Serve one path of one workload: each pool on its own, each point of the curve a way to run there."""
    ways = [
        (
            p,
            point.speed,
            (pool.power_kw_per_node - pool.idle_kw_per_node) / 8 - (curve.points[-1].watts - point.watts) / 1e3,
        )
        for p, pool in enumerate(problem.pools)
        for curve in problem.policy.curves
        for point in curve.points
    ]
    size, policy = len(ways), problem.policy
    kind = problem.workloads[0].workload_class
    factor, delay, window = {"throughput": (1.0, 0.01, 12), "cost": (0.5, 0.002, 24)}[kind]
    width = (size + 2) * HOURS + 1
    cost, upper = np.zeros(width), np.full(width, np.inf)
    balance, room, kilograms = np.zeros((HOURS, width)), np.zeros((len(problem.pools) * HOURS, width)), np.zeros(width)
    most = np.zeros(len(room))
    for t in range(HOURS):
        for i, (p, speed, kw) in enumerate(ways):
            at, pool = t * (size + 2) + i, problem.pools[p]
            kilograms[at] = kw * problem.grams[p, t] / 1000
            slower = SLOWER_FACTOR * problem.settings.shortage_price * (1 - speed)
            cost[at] = kw * pool.electricity_per_kwh + policy.carbon_price_per_kg * kilograms[at] + slower
            balance[t, at], room[p * HOURS + t, at] = speed, 1
        short, wait = t * (size + 2) + size, t * (size + 2) + size + 1
        cost[short], cost[wait] = problem.settings.shortage_price * np.array([factor, delay])
        upper[wait] = 0 if t == HOURS - 1 else sum(demand[max(0, t + 1 - window) : t + 1])
        balance[t, [short, wait]] = 1
        if t:
            balance[t, wait - size - 2] = -1
        for p in range(len(problem.pools)):
            most[p * HOURS + t] = 8 * nodes[p, t]
    idle = sum(
        pool.idle_kw_per_node * nodes[p, t] * problem.grams[p, t] / 1000
        for p, pool in enumerate(problem.pools)
        for t in range(HOURS)
    )
    kilograms[-1], cost[-1] = -1, policy.carbon_over_price
    cap = np.inf if policy.carbon_cap_kg is None else policy.carbon_cap_kg
    limits, bounds = (room, most) if np.isinf(cap) else (np.vstack([room, kilograms]), np.append(most, cap - idle))
    answer = linprog(cost, limits, bounds, balance, demand, np.column_stack([np.zeros(width), upper]))
    assert answer.status == 0
    return float(answer.fun)


def whole_price(problem: Problem, nodes: np.ndarray, best: float = np.inf) -> float:
    """Price a whole fleet; only its nodes where these alone cost more than the best."""
    total = 0.0
    for p, pool in enumerate(problem.pools):
        before = problem.now[p]
        for t, count in enumerate(nodes[p]):
            power = pool.electricity_per_kwh + problem.policy.carbon_price_per_kg * problem.grams[p, t] / 1000
            total += count * (pool.price_per_node_hour + pool.idle_kw_per_node * power)
            total += START_HOURS * pool.price_per_node_hour * max(0, count - before)
            before = count
    if total > best:
        return total
    costs = np.array([path_price(problem, nodes, demand[0]) for demand in problem.demand])
    worst = min(level + np.maximum(costs - level, 0).sum() / (RISK_TAIL * len(costs)) for level in (0.0, *costs))
    return total + (1 - RISK_WEIGHT) * costs.mean() + RISK_WEIGHT * worst


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Fleet, PlanPolicy, list[float], str]:
    """Two pools in two regions, a curve, prices of electricity and carbon, maybe a cap on carbon."""
    pools = [
        pool_of(
            name,
            "h100",
            kind=draw(st.sampled_from(["owned", "on_demand"])),
            region=name,
            price_per_node_hour=draw(st.sampled_from([0.0, 2.0, 9.0])),
            max_nodes=most,
            power_kw_per_node=8.0,
            idle_kw_per_node=draw(st.sampled_from([1.5, 3.5])),
            electricity_per_kwh=draw(st.sampled_from([0.0, 0.3, 1.0])),
            carbon_g_per_kwh=draw(st.sampled_from([0, 50, 600])),
        )
        for name, most in (("a", 2), ("b", 1))
    ]
    series = GridCarbon(source="test", typical=tuple(float(40 * hour) for hour in range(24)))
    policy = PlanPolicy(
        curves=(STEEP,),
        carbon_price_per_kg=draw(st.sampled_from([0.0, 0.5, 3.0])),
        carbon_cap_kg=draw(st.sampled_from([None, 3.0, 12.0])),
        grid=draw(st.sampled_from([{}, {"a": series}])),
    )
    demand = draw(st.lists(st.sampled_from([0.0, 3.0, 8.0, 15.0]), min_size=HOURS, max_size=HOURS))
    return Fleet(pools=tuple(pools), nodes={"a": 1, "b": 0}), policy, demand, "throughput"


@examples(6, 200)
@given(world=worlds())
def test_no_fleet_and_no_caps_are_cheaper_than_the_plans(
    world: tuple[Fleet, PlanPolicy, list[float], str], now: datetime
) -> None:
    """Of all fleets, each served as well as all points of the curve allow, none beats the plan; by cuts the same."""
    fleet, policy, demand, kind = world
    forecast = a_forecast({("ann", kind, "h100"): demand}, now, SPREAD)
    settings = settings_of(scenarios=2, mip_gap=1e-4, shortage_price=4.0)
    problem = build_problem(forecast, fleet, settings, policy=policy)
    solution, _ = decide(Search(problem))
    fleets = (np.reshape(counts, (2, HOURS)) for counts in product(*[range(3)] * HOURS, *[range(2)] * HOURS))
    best = whole_price(problem, solution.nodes)
    assert best == pytest.approx(solution.result.objective, rel=1e-5, abs=1e-5)
    for nodes in fleets:
        best = min(best, whole_price(problem, nodes, best))
    assert solution.result.objective <= best * 1.0002 + 1e-5
    assert solution.result.bound <= best + 1e-5
    by_cuts = Search(problem).decomposition
    by_cuts.run(1e-5, Work())
    assert by_cuts.bound <= best + 1e-4


def owned(**fields: float) -> Pool:
    """Two owned nodes that draw 8 kW at work and 2.4 idle; electricity costs 0.3."""
    given_ = {"power_kw_per_node": 8.0, "idle_kw_per_node": 2.4, "electricity_per_kwh": 0.3, "max_nodes": 2}
    return pool_of("own", "h100", kind="owned", min_nodes=2, price_per_node_hour=0.0, **{**given_, **fields})


def solved(forecast: Forecast, pool: Pool, **policy: object) -> plan.Plan:
    """Plan for two nodes that run."""
    rules = PlanPolicy(**{"curves": (STEEP,), **policy})
    return plan.solve(forecast, Fleet(pools=(pool,), nodes={"own": 2}), settings=settings_of(scenarios=1), policy=rules)


def caps(found: plan.Plan) -> set[int]:
    """The caps of a plan."""
    return set() if found.caps is None else set(found.caps["setting"])


def test_an_owned_pool_with_room_runs_slower_and_one_that_is_full_does_not(now: datetime) -> None:
    """Electricity alone asks for a cap where there is room; where GPUs lack, speed is worth more."""
    roomy = solved(a_forecast({("ann", "throughput", "h100"): [8.0] * 24}, now, CERTAIN), owned())
    assert caps(roomy) == {400}
    assert any("Caps save" in line for line in roomy.explanation)
    assert any("Electricity costs" in line for line in roomy.explanation)
    full = solved(a_forecast({("ann", "throughput", "h100"): [30.0] * 24}, now, CERTAIN), owned())
    assert caps(full) == {0}


def test_a_price_on_carbon_moves_work_into_clean_hours(now: datetime) -> None:
    """The second half of the day is clean: work that may wait 12 h waits for it."""
    clean = GridCarbon(
        source="test", typical=tuple(20.0 if (hour - now.hour) % 24 >= 12 else 700.0 for hour in range(24))
    )
    forecast = a_forecast({("ann", "throughput", "h100"): [6.0] * 24}, now, CERTAIN)
    shares: list[float] = []
    for price in (0.0, 5.0):
        found = solved(forecast, owned(region="x"), carbon_price_per_kg=price, grid={"x": clean})
        assert found.caps is not None
        early = found.caps.filter(pl.col("hour") < now + timedelta(hours=12))
        shares.append(float(early["gpus"].sum() / found.caps["gpus"].sum()))
    assert shares[0] == pytest.approx(0.5, abs=0.01)
    assert shares[1] < 0.35


def test_a_carbon_cap_is_kept_by_caps_on_power(now: datetime) -> None:
    """With room, a cap on carbon is kept without shortage because GPUs draw less; the kilograms are counted so."""
    forecast = a_forecast({("ann", "throughput", "h100"): [10.0] * 24}, now, CERTAIN)
    pool = owned(electricity_per_kwh=0.0, carbon_g_per_kwh=500)
    free = solved(forecast, pool)
    capped = solved(forecast, pool, carbon_cap_kg=120.0)
    emitted = [float(found.cost["carbon_kg"].sum()) for found in (free, capped)]
    full = 24 * (2 * 2.4 + 10 * 0.7) * 0.5
    assert emitted[0] == pytest.approx(full)
    assert emitted[1] <= 120.01
    assert capped.shortage["expected_gpus"].sum() == pytest.approx(0, abs=0.1)
    impossible = solved(forecast, pool, carbon_cap_kg=20.0, carbon_over_price=0.01)
    limit = impossible.limits.filter(pl.col("family") == "carbon_cap").row(0, named=True)
    assert limit["amount"] > 20
    assert limit["cost"] == pytest.approx(limit["amount"] * 0.01)


def test_emissions_follow_power_intensity_and_the_hour(now: datetime) -> None:
    """Where idling is not measured, kilograms are nodes x kW x g/kWh / 1000 x the hour's factor; others emit none."""
    day = tuple(2.0 if hour < 12 else 0.5 for hour in range(24))
    dirty = pool_of("own", "h100", power_kw_per_node=10.0, carbon_g_per_kwh=300.0, carbon_factors=day)
    fleet = Fleet(pools=(dirty, pool_of("none", "a100")), nodes={"own": 1})
    forecast = a_forecast({("ann", "latency", "h100"): [7.0] * 24, ("ann", "cost", "a100"): [7.0] * 24}, now, CERTAIN)
    found = plan.solve(forecast, fleet, settings=settings_of(scenarios=1))
    emitted = dict(found.cost.select("pool", "carbon_kg").iter_rows())
    assert emitted == {"own": pytest.approx(12 * 3.0 * 2.0 + 12 * 3.0 * 0.5), "none": 0.0}


def test_a_question_about_the_carbon_cap_is_answered_as_a_new_plan_would(now: datetime) -> None:
    """Cuts hold when the cap is raised, lowered or set; the answer's bound is below a plan's price made anew."""
    forecast = a_forecast({("ann", "throughput", "h100"): [14.0] * 24}, now, SPREAD)
    fleet = Fleet(pools=(owned(carbon_g_per_kwh=500),), nodes={"own": 2})
    for before, asked in ((120.0, "300"), (300.0, "-60%"), (None, "100")):
        policy = PlanPolicy(curves=(STEEP,), carbon_cap_kg=before)
        made = plan.solve(forecast, fleet, settings=settings_of(scenarios=3), policy=policy)
        problem = build_problem(forecast, fleet, settings_of(scenarios=3), policy=policy)
        _, after = plan.ask(made, problem, WhatIf.from_texts([], [], "", asked))
        cap = 300.0 if asked == "300" else 120.0 if asked == "-60%" else 100.0
        anew = Search(replace(problem, policy=replace(policy, carbon_cap_kg=cap))).run(no_progress)
        assert after.bound <= anew.objective + 1e-3
        assert after.objective == pytest.approx(anew.objective, rel=0.01)


def test_without_a_curve_or_without_idle_power_nothing_is_added(now: datetime) -> None:
    """No column more, and the same plan to the last digit as a fleet without power."""
    forecast = a_forecast({("ann", "throughput", "h100"): [9.0] * 24}, now, SPREAD)
    settings = settings_of(scenarios=3)
    plain = build_problem(forecast, Fleet(pools=(owned(idle_kw_per_node=0.0),)), settings)
    curved = build_problem(
        forecast, Fleet(pools=(owned(idle_kw_per_node=0.0),)), settings, policy=PlanPolicy(curves=(STEEP,))
    )
    assert plain.modes == curved.modes == ()
    assert len(plain.groups) == len(curved.groups)
    assert Search(plain).columns == Search(curved).columns
    other = replace(STEEP, accelerator="a100")
    assert build_problem(forecast, Fleet(pools=(owned(),)), settings, policy=PlanPolicy(curves=(other,))).modes == ()


def test_a_class_that_nobody_measured_is_never_capped(now: datetime) -> None:
    """Latency work runs without a cap beside capped throughput work."""
    medians = {("ann", "throughput", "h100"): [4.0] * 24, ("ann", "latency", "h100"): [4.0] * 24}
    found = solved(a_forecast(medians, now, CERTAIN), owned())
    assert found.caps is not None
    assert set(found.caps["workload_class"]) == {"throughput"}


def test_idle_power_that_leaves_less_than_a_cap_saves_is_refused(now: datetime) -> None:
    """The field, the value and the remedy are named."""
    forecast = a_forecast({("ann", "throughput", "h100"): [4.0] * 24}, now, CERTAIN)
    with pytest.raises(InputError, match=r"pools\[own\].idle_kw_per_node: 7.9 leaves .* measure"):
        solved(forecast, owned(idle_kw_per_node=7.9))
    with pytest.raises(InputError, match="power_kw_per_node"):
        owned(power_kw_per_node=1.0)


def test_a_policy_with_curves_and_grids_is_read_back_the_same(now: datetime) -> None:
    """A plan keeps what it was solved from."""
    grid = {"a": GridCarbon(source="x", typical=(1.0,) * 24, start=now, hourly=(3.0, 4.0))}
    policy = PlanPolicy(curves=(STEEP,), grid=grid, carbon_price_per_kg=0.1)
    assert policy_from(policy_body(policy)) == policy
    assert grid["a"].at(now + timedelta(hours=1)) == 4.0
    assert grid["a"].at(now + timedelta(hours=2)) == 1.0
    assert not grid["a"].known(now - timedelta(hours=1))


def test_a_kept_plan_has_its_caps(now: datetime, mlflow_store: Store) -> None:
    """Caps are read back with the plan, and its problem is built again with curves and grids; others have none."""
    forecast = a_forecast({("ann", "throughput", "h100"): [8.0] * 24}, now, CERTAIN)
    grid = {"x": GridCarbon(source="test", typical=(300.0,) * 24, start=now, hourly=(10.0, 20.0))}
    priced = solved(forecast, owned(region="x"), grid=grid, carbon_price_per_kg=1.0)
    made = plan.log_plan(priced, forecast, mlflow_store)
    read, _ = plan.read_plan(mlflow_store)
    assert made.caps is not None
    assert read.caps is not None
    assert read.caps.equals(made.caps)
    again = plan.rebuild_problem(read, forecast, None, settings_of())
    assert again.grams[0, :3].tolist() == [10.0, 20.0, 300.0]
    assert len(again.modes) == 2
    plain = solved(forecast, owned(), curves=())
    plan.log_plan(plain, forecast, mlflow_store)
    assert plan.read_plan(mlflow_store)[0].caps is None
