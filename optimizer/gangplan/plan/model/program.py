"""The capacity plan as a two-stage stochastic program in Pyomo, put together in three ways.

`build` states the extensive form: both stages, all paths at once. For decomposition the same constraint families state
two parts: `build_master` the first stage, in which each path's cost is a variable that cuts will bound, and
`build_recourse` one path under a given fleet. Business limits have a slack with a price: there is always a solution.
"""

from __future__ import annotations

from collections.abc import Sequence

from gangplan.plan.model import first_stage, recourse
from gangplan.plan.model.algebra import Expression, Model, PauseGC, constraint, minimize, new_model, variable
from gangplan.plan.problem import RISK_TAIL, RISK_WEIGHT, Problem


def build(problem: Problem) -> Model:
    """Build the extensive form: the fleet, and each path under it."""
    with PauseGC():
        model = build_master(problem)
        define_paths(model, problem)
        model.path_cost_is = constraint(
            model.K, rule=lambda m, k: m.path_cost[k] - recourse.path_cost(m, problem, k) == 0
        )
    return model


def build_master(problem: Problem) -> Model:
    """Build the first stage; nothing bounds the paths' costs from below yet."""
    with PauseGC():
        model = new_model("gangplan")
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
    """Build the second stage of one path, with the fleet's nodes as variables to be fixed."""
    with PauseGC():
        model = new_model("gangplan-path")
        define_sets(model, problem, [k])
        first_stage.define_fleet(model, problem)
        define_paths(model, problem)
        model.total = minimize(recourse.path_cost(model, problem, k))
    return model


def define_sets(model: Model, problem: Problem, paths: Sequence[int]) -> None:
    """Define the index sets; `routes` are the pairs (workload, group) that may serve."""
    model.P = range(len(problem.pools))
    model.T = range(len(problem.periods))
    model.K = paths
    model.W = range(len(problem.workloads))
    model.G = range(len(problem.groups))
    model.routes = [(w, g) for w in model.W for g in problem.served_by[w]]
    model.hours = problem.periods.lengths


def define_paths(model: Model, problem: Problem) -> None:
    """Define everything that is decided once demand is known."""
    recourse.define_service(model, problem)
    recourse.define_hire(model, problem)
    recourse.define_capacity(model, problem)
    recourse.define_demand_balance(model, problem)
    recourse.define_quota(model, problem)


def define_risk(model: Model) -> None:
    """Define CVaR (Rockafellar and Uryasev 2000): a level, and by how much each path's cost exceeds it."""
    model.path_cost = variable(model.K)
    model.tail_level = variable()
    model.tail_excess = variable(model.K)
    model.cvar = constraint(model.K, rule=lambda m, k: m.tail_excess[k] + m.tail_level - m.path_cost[k] >= 0)


def define_objective(model: Model, problem: Problem) -> None:
    """Minimise the fleet's cost and the paths' cost with its risk."""
    model.total = minimize(first_stage.first_stage_cost(model, problem) + risk_cost(model))


def risk_cost(model: Model) -> Expression:
    """Return the paths' mean cost and the mean of the worst ones (CVaR), weighed by the risk weight."""
    count = len(model.K)
    mean = sum(model.path_cost[k] for k in model.K) / count
    tail = model.tail_level + sum(model.tail_excess[k] for k in model.K) / (RISK_TAIL * count)
    return (1 - RISK_WEIGHT) * mean + RISK_WEIGHT * tail
