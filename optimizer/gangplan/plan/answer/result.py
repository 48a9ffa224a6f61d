"""From a solution to the plan that other stages read: tables by hour, money, limits, explanation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from gangplan.config import Settings
from gangplan.plan.answer.caps import caps_of
from gangplan.plan.answer.explanation import sentences
from gangplan.plan.answer.solution import TOLERANCE, Binding, Solution, to_table
from gangplan.plan.problem import Array, PlanPolicy, policy_body
from gangplan.tables import PLAN_COST, PLAN_NODES, PLAN_SHORTAGE, conform
from gangplan.tracking import table_sha256
from gangplan.types import SERIES, Forecast, Plan, PlanId

SOLVED_WITH = ("horizon_hours", "scenarios", "shortage_price", "budget", "mip_gap", "work_limit", "time_limit_s")
"""The settings that a plan depends on, beside its seed."""


def inputs_of(policy: PlanPolicy, previous: Plan | None, held: Mapping[str, Sequence[int]] | None) -> dict[str, Any]:
    """Return what else a plan was solved from, as plain values: it can be solved again from them."""
    used = {pool: list(nodes) for pool, nodes in (held or {}).items() if any(nodes)}
    return {"policy": policy_body(policy), "previous": previous.plan_id if previous else None, "held": used}


def to_plan(
    forecast: Forecast, solution: Solution, bindings: list[Binding], inputs: dict[str, Any] | None = None
) -> Plan:
    """Make the plan of a solution."""
    inputs = inputs or {}
    problem = solution.problem
    names = [pool.name for pool in problem.pools]
    columns = {"node_hours": solution.node_hours, "cost": solution.cost, "carbon_kg": solution.emission}
    cost = pl.DataFrame({"pool": names, **columns})
    return Plan(
        plan_id=_plan_id(forecast, solution, inputs),
        issued_at=problem.start,
        status=solution.result.status,
        gap=solution.result.gap,
        total_cost=float(cost["cost"].sum()),
        nodes=_nodes(solution),
        cost=conform("cost", cost, PLAN_COST),
        shortage=_shortage(solution),
        limits=to_table(bindings),
        explanation=sentences(solution, bindings),
        caps=caps_of(solution),
        seed=problem.settings.seed,
        fleet=problem.fleet,
        forecast_model=forecast.model,
        settings=solved_with(problem.settings),
        inputs=inputs,
    )


def solved_with(settings: Settings) -> dict[str, float | None]:
    """Return the settings that a plan depends on."""
    return {name: getattr(settings, name) for name in SOLVED_WITH}


def _plan_id(forecast: Forecast, solution: Solution, given: dict[str, Any]) -> PlanId:
    """Name a plan by its first hour and a digest of its inputs: the same inputs give the same name."""
    problem = solution.problem
    inputs = (
        table_sha256(forecast.quantiles),
        repr(problem.fleet.pools),
        sorted(problem.fleet.nodes.items()),
        sorted(solved_with(problem.settings).items()),
        problem.settings.seed,
        json.dumps(given, sort_keys=True),
    )
    digest = hashlib.sha256(repr(inputs).encode()).hexdigest()
    return PlanId(f"plan-{problem.start:%Y%m%dT%H}-{digest[:8]}")


def _hours(solution: Solution) -> list[datetime]:
    return [solution.problem.start + timedelta(hours=hour) for hour in range(solution.problem.periods.hours)]


def _nodes(solution: Solution) -> pl.DataFrame:
    hours, hourly = _hours(solution), solution.problem.periods.hourly(solution.nodes.astype(float))
    pools = [pool.name for pool in solution.problem.pools for _ in hours]
    frame = pl.DataFrame({"hour": hours * len(hourly), "pool": pools, "nodes": hourly.ravel()})
    return conform("nodes", frame, PLAN_NODES)


def _shortage(solution: Solution) -> pl.DataFrame:
    """Return GPUs short, expected and at the worst 5 %, and the probability of any, by series and hour."""
    short = solution.series_short()
    short = np.where(short > TOLERANCE, short, 0.0)
    columns: dict[str, Array] = {
        "expected_gpus": short.mean(axis=0),
        "p95_gpus": np.quantile(short, 0.95, axis=0, method="inverted_cdf"),
        "probability": (short > 0).mean(axis=0),
    }
    hours, problem = _hours(solution), solution.problem
    names = {name: [key[place] for key in problem.series for _ in hours] for place, name in enumerate(SERIES)}
    amounts = {name: problem.periods.hourly(values).ravel() for name, values in columns.items()}
    frame = pl.DataFrame({"hour": hours * len(problem.series), **names, **amounts})
    return conform("shortage", frame, PLAN_SHORTAGE)
