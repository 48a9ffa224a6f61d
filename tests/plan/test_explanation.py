"""What the plan says, held against what is so."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.errors import InputError, NotFoundError
from gangplan.plan.answer import marginal
from gangplan.plan.make import decide
from gangplan.plan.model import build
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.solver import Search
from gangplan.testing import a_forecast
from gangplan.tracking import Store
from gangplan.types import Fleet, Forecast, PlanId

CERTAIN = (1.0,) * 5


def limit(found: plan.Plan, family: str) -> dict[str, object]:
    """The plan's one limit of that family."""
    return found.limits.filter(pl.col("family") == family).row(0, named=True)


def test_an_over_asked_pool_is_named_with_what_one_more_node_brings(
    now: datetime,
) -> None:
    """Twenty GPUs asked of two nodes of eight: four short each hour; a third node brings that less its own price."""
    asked = a_forecast({("ann", "latency", "h100"): [20.0] * 24}, now, CERTAIN)
    fleet = Fleet(pools=(pool_of("main", "h100", max_nodes=2, price_per_node_hour=20),), nodes={"main": 2})
    found = plan.solve(asked, fleet, settings=settings_of(shortage_price=10))
    demand = limit(found, "demand")
    assert (demand["name"], demand["hours"], demand["amount"], demand["cost"]) == ("latency/h100", 24, 96.0, 96 * 30.0)
    half_a_node = 96 * 30.0 + 24 * 4 * 2.5 - 24 * 10.0 - 0.5 * 10  # shortage and reserve, less its price and its start
    assert limit(found, "maximum_nodes")["cost"] == pytest.approx(half_a_node, rel=1e-4)
    assert "main (max_nodes 2) runs all the nodes allowed" in plan.explain(found)
    assert "one more would save" in plan.explain(found)
    assert "serve 96.0 GPU-hours more (re-solved)" in plan.explain(found)


def test_what_one_more_node_brings_is_the_difference_of_two_solves(
    sample_forecast: Forecast, sample_fleet: Fleet
) -> None:
    """Planning anew with the larger pool saves what was said, within the gaps of the two plans."""
    chosen = settings_of(horizon_hours=48, scenarios=3, mip_gap=0.004)
    solution, bindings = decide(Search(build_problem(sample_forecast, sample_fleet, chosen)))
    said = next(one for one in bindings if one.family == "maximum_nodes" and one.name == "h100-owned")
    pools = tuple(
        pool if pool.name != said.name else type(pool)(**{**vars(pool), "max_nodes": pool.max_nodes + 1})
        for pool in sample_fleet.pools
    )
    more, _ = decide(Search(build_problem(sample_forecast, Fleet(pools=pools, nodes=sample_fleet.nodes), chosen)))
    really = solution.result.objective - more.result.objective
    assert said.cost == pytest.approx(really, abs=2 * 0.004 * solution.result.objective)
    assert said.cost > 0


def test_a_large_problem_is_told_the_same(
    sample_forecast: Forecast,
    sample_fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By cuts, as large ones are solved again, each limit brings what the one linear program says, to their gap."""
    problem = build_problem(sample_forecast, sample_fleet, settings_of(horizon_hours=48, scenarios=3))
    _, at_once = decide(Search(problem))
    monkeypatch.setattr(marginal, "WHOLE_COLUMNS", 0)
    solution, by_cuts = decide(Search(problem))
    told = [{(one.family, one.name): one.cost for one in found if one.relief > 0} for found in (at_once, by_cuts)]
    assert told[0]
    assert told[1] == pytest.approx(told[0], abs=2 * marginal.TIGHT * solution.result.objective)


def test_a_lead_time_is_the_reason_until_it_is_over(
    now: datetime,
) -> None:
    """Nothing runs and nodes take three hours: the first three hours are short, for that reason alone."""
    asked = a_forecast({("ann", "latency", "h100"): [8.0] * 24}, now, CERTAIN)
    fleet = Fleet(pools=(pool_of("main", "h100", lead_time_hours=3),))
    found = plan.solve(asked, fleet, settings=settings_of())
    assert found.shortage.filter(pl.col("expected_gpus") > 0)["hour"].to_list() == found.shortage["hour"].to_list()[:3]
    assert "new nodes are still on their way for main (lead time 3 h)" in plan.explain(found)
    assert limit(found, "lead_time")["cost"] > 0


def test_a_budget_is_held_and_named(sample_forecast: Forecast, sample_fleet: Fleet) -> None:
    """A budget under the wanted spend is kept, and the plan says that it is the reason and what more of it brings."""
    free = plan.solve(sample_forecast, sample_fleet, settings=settings_of(horizon_hours=48, scenarios=3, mip_gap=0.01))
    budget = round(0.85 * free.total_cost)
    held = plan.solve(
        sample_forecast, sample_fleet, settings=settings_of(horizon_hours=48, scenarios=3, mip_gap=0.01, budget=budget)
    )
    assert held.total_cost <= budget
    assert f"the budget of {budget:,} is spent" in plan.explain(held)
    assert limit(held, "budget")["cost"] > 0


def test_a_budget_below_the_minimum_nodes_is_overspent_and_said(
    now: datetime,
) -> None:
    """What the minimum nodes cost cannot be avoided: the plan spends it and says by how much it is over."""
    asked = a_forecast({("ann", "cost", "h100"): [8.0] * 24}, now, CERTAIN)
    fleet = Fleet(pools=(pool_of("main", "h100", min_nodes=2, max_nodes=2),), nodes={"main": 2})
    found = plan.solve(asked, fleet, settings=settings_of(budget=100.0))
    assert found.total_cost == 2 * 24 * 20
    assert limit(found, "over_budget")["amount"] == pytest.approx(860)
    assert "The plan spends 860 over the budget (the minimum nodes alone cost 960)." in found.explanation


def test_only_spot_for_latency_work_is_said(
    now: datetime,
) -> None:
    """Latency work is never put on spot, and the plan says that a firm pool is missing."""
    asked = a_forecast({("ann", "latency", "h100"): [8.0] * 24}, now, CERTAIN)
    found = plan.solve(asked, Fleet(pools=(pool_of("main", "h100", "spot"),)), settings=settings_of())
    assert "latency work may not be interrupted: add a firm pool" in plan.explain(found)


def test_the_model_names_its_families_and_a_kept_plan_is_made_again(
    sample_forecast: Forecast,
    sample_fleet: Fleet,
    mlflow_store: Store,
    tmp_path: Path,
) -> None:
    """The model has each constraint family by name; from what a plan's run keeps the same plan is made again."""
    chosen = settings_of(scenarios=2, mip_gap=0.02)
    path = tmp_path / "plan.lp"
    model = build(build_problem(sample_forecast, sample_fleet, chosen))
    model.write(str(path), io_options={"symbolic_solver_labels": True})
    text = path.read_text()
    for family in ("node_balance", "capacity", "demand_balance", "latency_reserve", "cvar"):
        assert f"{family}(" in text
    kept = plan.log_plan(plan.solve(sample_forecast, sample_fleet, settings=chosen), sample_forecast, mlflow_store)
    assert kept.run_id is not None
    run = mlflow_store.client.get_run(kept.run_id)
    assert {file.path for file in mlflow_store.client.list_artifacts(kept.run_id)} == {
        "explanation.md", "fleet.yaml", "plan.json", "tables", "warm_start.npz",
    }  # fmt: skip
    assert run.data.params["scenarios"] == "2"
    assert {"sha256.forecast", "sha256.fleet", "sha256.nodes"} <= set(run.data.tags)
    again = plan.solve(plan.read_plan(mlflow_store, kept.plan_id)[1], kept.fleet, settings=chosen)
    assert (again.plan_id, again.nodes.equals(kept.nodes)) == (kept.plan_id, True)


def test_an_unknown_plan_is_refused(mlflow_store: Store) -> None:
    """A plan that is not there says what makes one; a name that is none is refused."""
    with pytest.raises(NotFoundError, match="gangplan plan"):
        plan.read_plan(mlflow_store)
    with pytest.raises(InputError, match="plan"):
        plan.read_plan(mlflow_store, PlanId("x' or '1"))
