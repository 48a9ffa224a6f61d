"""The capacity plan as a Pyomo model: two stages of `define_*` families, put together in three ways.

`build` says the whole problem, all paths at once. For decomposition the same families say it in two parts:
`build_master` the fleet, with a path's cost as a variable that cuts will bound, `build_recourse` one path under a given
fleet. Each business limit has a slack with a price, so that every one of them always has a solution.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportOperatorIssue=false, reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyomo.environ as pyo  # pyright: ignore[reportMissingTypeStubs]
from pyomo.common.gc_manager import PauseGC  # pyright: ignore[reportMissingTypeStubs]

from gangplan.plan.model import first_stage, recourse
from gangplan.plan.model.first_stage import Model
from gangplan.plan.problem import RISK_TAIL, RISK_WEIGHT, Problem


def build(problem: Problem) -> Model:
    """Build the whole model: the fleet, each path under it, then the price of it all."""
    with PauseGC():  # Pyomo makes objects by the hundred thousand and drops none: the collector would only look on
        model = build_master(problem)
        define_paths(model, problem)
        model.path_cost_is = pyo.Constraint(
            model.K, rule=lambda m, k: m.path_cost[k] - recourse.path_cost(m, problem, k) == 0
        )
    return model


def build_master(problem: Problem) -> Model:
    """Build the fleet's part, in which each path has a cost and nothing says yet how high."""
    with PauseGC():
        model = pyo.ConcreteModel("gangplan")
        define_sets(model, problem, range(len(problem.paths)))
        first_stage.define_fleet(model, problem)
        first_stage.define_node_balance(model, problem)
        first_stage.define_minimum_up(model, problem)
        first_stage.define_minimum_nodes(model, problem)
        first_stage.define_commitment(model, problem)
        first_stage.define_latency_reserve(model, problem)
        first_stage.define_zone_reserve(model, problem)
        first_stage.define_budget(model, problem)
        first_stage.define_carbon_cap(model, problem)
        first_stage.define_steadiness(model, problem)
        define_risk(model)
        define_objective(model, problem)
    return model


def build_recourse(problem: Problem, k: int) -> Model:
    """Build one path's part, with the fleet's nodes as variables that are to be fixed."""
    with PauseGC():
        model = pyo.ConcreteModel("gangplan-path")
        define_sets(model, problem, [k])
        first_stage.define_fleet(model, problem)
        define_paths(model, problem)
        model.total = pyo.Objective(expr=recourse.path_cost(model, problem, k), sense=pyo.minimize)
    return model


def define_sets(model: Model, problem: Problem, paths: Sequence[int]) -> None:
    """Index sets; `routes` are the (workload, group) pairs that may serve."""
    model.P = range(len(problem.pools))
    model.T = range(len(problem.periods))
    model.K = paths
    model.W = range(len(problem.workloads))
    model.G = range(len(problem.groups))
    model.routes = [(w, g) for w in model.W for g in problem.served_by[w]]
    model.hours = problem.periods.lengths


def define_paths(model: Model, problem: Problem) -> None:
    """Everything that is decided once demand is known."""
    recourse.define_service(model, problem)
    recourse.define_hire(model, problem)
    recourse.define_capacity(model, problem)
    recourse.define_demand_balance(model, problem)
    recourse.define_quota(model, problem)


def define_risk(model: Model) -> None:
    """CVaR after Rockafellar and Uryasev: a level, and what each path exceeds it by."""
    model.path_cost = pyo.Var(model.K, bounds=(0, None))
    model.tail_level = pyo.Var(bounds=(0, None))
    model.tail_excess = pyo.Var(model.K, bounds=(0, None))
    model.cvar = pyo.Constraint(model.K, rule=lambda m, k: m.tail_excess[k] + m.tail_level - m.path_cost[k] >= 0)


def define_objective(model: Model, problem: Problem) -> None:
    """The fleet's cost, and the paths': their mean, and their worst tail by the risk weight."""
    cost = first_stage.first_stage_cost(model, problem) + risk_cost(model)
    model.total = pyo.Objective(expr=cost, sense=pyo.minimize)


def risk_cost(model: Model) -> Any:
    """The paths' mean cost, and their worst tail by the risk weight."""
    count = len(model.K)
    mean = sum(model.path_cost[k] for k in model.K) / count
    tail = model.tail_level + sum(model.tail_excess[k] for k in model.K) / (RISK_TAIL * count)
    return (1 - RISK_WEIGHT) * mean + RISK_WEIGHT * tail
