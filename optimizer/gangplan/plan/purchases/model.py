"""What to buy as a Pyomo model: purchases by month, the nodes that run for a term, and each week's cost, bound by cuts.

One `define_*` for each family; symbols are those of docs/plan-horizon.md. Indices: o offer, p pool, m month, i week of
a path and month, k path. What a week costs is stated by the plan's own second stage (`plan/model/recourse.py`).
"""

from __future__ import annotations

from gangplan.plan.model import (
    Expression,
    Model,
    constraint,
    define_risk,
    minimize,
    new_model,
    risk_cost,
    variable,
)
from gangplan.plan.purchases.problem import PurchaseProblem


def build(problem: PurchaseProblem) -> Model:
    """Build the model; nothing bounds the cost of a week from below yet."""
    model = new_model("gangplan-horizon")
    model.O = range(len(problem.offers))
    model.P = sorted(set(problem.pool_of))
    model.M = problem.months
    model.K = problem.paths
    model.I = range(len(problem.times))
    define_purchases(model, problem)
    define_standing(model, problem)
    define_risk(model)
    define_weeks(model, problem)
    spend = sum(problem.price(o, m) * model.buy[o, m] for o in model.O for m in model.M)
    model.total = minimize(spend + risk_cost(model))
    return model


def define_purchases(model: Model, problem: PurchaseProblem) -> None:
    """Nodes of an offer whose term begins in a month: whole numbers, and none before their lead time."""
    pools = problem.fleet.pools

    def bounds(_: Model, o: int, m: int) -> tuple[int, int]:
        return 0, pools[problem.pool_of[o]].max_nodes if m >= problem.first_month(o) else 0

    model.buy = variable(model.O, model.M, whole=True, bounds=bounds)


def define_standing(model: Model, problem: PurchaseProblem) -> None:
    """Nodes of a pool in a month: those that run anyway and those in their term, at most the pool's maximum."""

    def most(_: Model, p: int, m: int) -> tuple[int, int]:
        return 0, max(problem.fleet.pools[p].max_nodes, int(problem.base[p, m]))

    def balance(mod: Model, p: int, m: int) -> Expression:
        offers = [o for o in mod.O if problem.pool_of[o] == p]
        bought = sum(mod.buy[o, b] for o in offers for b in mod.M if m in problem.paid(o, b))
        return mod.standing[p, m] - bought == int(problem.base[p, m])

    model.standing = variable(model.P, model.M, bounds=most)
    model.stands = constraint(model.P, model.M, rule=balance)


def define_weeks(model: Model, problem: PurchaseProblem) -> None:
    """A path's cost is that of its weeks, each as often as it occurs in its month."""
    model.week_cost = variable(model.I)
    each = len(problem.times) // len(problem.paths)
    model.path_cost_is = constraint(
        model.K,
        rule=lambda mod, k: (
            mod.path_cost[k] - sum(float(problem.times[i]) * mod.week_cost[i] for i in range(k * each, (k + 1) * each))
            == 0
        ),
    )
