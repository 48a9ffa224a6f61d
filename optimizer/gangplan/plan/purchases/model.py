"""What to buy as a Pyomo model: purchases by month, the nodes that stand, each week's cost as cuts bound it.

One `define_*` per family; symbols are those of docs/plan-horizon.md. Indices: o offer, p pool, m month, i week of a
path and month, k path. What a week costs is stated by the plan's own recourse model (`plan/recourse.py`).
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportOperatorIssue=false, reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownLambdaType=false

from __future__ import annotations

from typing import Any

import pyomo.environ as pyo  # pyright: ignore[reportMissingTypeStubs]

from gangplan.plan.model import Model, define_risk, risk_cost
from gangplan.plan.purchases.problem import HorizonProblem


def build(problem: HorizonProblem) -> Model:
    """Build the whole model, in which nothing says yet what a week costs."""
    model = pyo.ConcreteModel("gangplan-horizon")
    model.O = range(len(problem.offers))
    model.P = sorted(set(problem.pool_of))
    model.M = problem.months
    model.K = problem.paths
    model.I = range(len(problem.times))
    define_purchases(model, problem)
    define_standing(model, problem)
    define_risk(model)
    define_weeks(model, problem)
    buy: Any = model.buy
    spend = sum(problem.price(o, m) * buy[o, m] for o in model.O for m in model.M)
    model.total = pyo.Objective(expr=spend + risk_cost(model), sense=pyo.minimize)
    return model


def define_purchases(model: Model, problem: HorizonProblem) -> None:
    """Nodes of an offer that begin in a month: whole, and none before their lead time."""
    pools = problem.fleet.pools

    def bounds(_: Model, o: int, m: int) -> tuple[int, int]:
        return 0, pools[problem.pool_of[o]].max_nodes if m >= problem.first_month(o) else 0

    model.buy = pyo.Var(model.O, model.M, domain=pyo.Integers, bounds=bounds)


def define_standing(model: Model, problem: HorizonProblem) -> None:
    """Nodes of a pool in a month: those that stand anyway and those whose term runs, at most the pool's maximum."""

    def most(_: Model, p: int, m: int) -> tuple[int, int]:
        return 0, max(problem.fleet.pools[p].max_nodes, int(problem.base[p, m]))

    def standing(mod: Model, p: int, m: int) -> Any:
        offers = [o for o in mod.O if problem.pool_of[o] == p]
        bought = sum(mod.buy[o, b] for o in offers for b in mod.M if m in problem.paid(o, b))
        return mod.standing[p, m] - bought == int(problem.base[p, m])

    model.standing = pyo.Var(model.P, model.M, bounds=most)
    model.stands = pyo.Constraint(model.P, model.M, rule=standing)


def define_weeks(model: Model, problem: HorizonProblem) -> None:
    """A path's cost is that of its weeks, each as often as it happens in its month."""
    model.week_cost = pyo.Var(model.I, bounds=(0, None))
    each = len(problem.times) // len(problem.paths)
    model.path_cost_is = pyo.Constraint(
        model.K,
        rule=lambda mod, k: (
            mod.path_cost[k] - sum(float(problem.times[i]) * mod.week_cost[i] for i in range(k * each, (k + 1) * each))
            == 0
        ),
    )
