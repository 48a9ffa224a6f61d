"""What to buy months ahead, against brute force and an independent statement of what it costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import product
from typing import Any

import numpy as np
import pytest
from tests.plan.builders import pool_of, settings_of

from gangplan.errors import InputError
from gangplan.plan.problem.policy import ClassPolicy, PlanPolicy
from gangplan.plan.purchases.demand import LongDemand, add_months, monthly_paths, typical_weeks
from gangplan.plan.purchases.problem import PurchaseProblem, build_purchase_problem
from gangplan.plan.purchases.search import PurchaseResult, PurchaseSearch
from gangplan.plan.purchases.solve import buy_ahead
from gangplan.plan.solver.recourse import RecoursePrograms, risk
from gangplan.types import Fleet, Term, WorkloadClass

PLAIN = PlanPolicy(classes={WorkloadClass.THROUGHPUT: ClassPolicy(shortage_factor=1.0)})
SERIES = ("ann", "throughput", "h100")


def week(low: float, high: float) -> np.ndarray:
    """A week whose days are half quiet, half busy."""
    return np.tile(np.repeat([low, high], 12), 7)


@pytest.fixture(scope="module")
def problem() -> PurchaseProblem:
    """Four months, three paths of growth, two kinds of weeks, two terms; on demand there are but three nodes."""
    pools = (
        pool_of("term", "h100", "committed", max_nodes=3, price_per_node_hour=12.0),
        pool_of("free", "h100", max_nodes=3, price_per_node_hour=20.0),
    )
    terms = (
        Term(pool="term", months=2, price_per_node_hour=14.0),
        Term(pool="term", months=4, price_per_node_hour=11.0),
    )
    growth = np.array([[10.0, 9, 8, 7], [10, 12, 14, 16], [10, 15, 25, 40]])
    demand = LongDemand(
        start=date(2026, 3, 1),
        series=(SERIES,),
        weeks=np.stack([week(0.8, 1.2), week(0.4, 1.6)])[:, None],
        weights=np.array([0.75, 0.25]),
        means=growth[:, None, :],
    )
    return build_purchase_problem(
        demand, Fleet(pools=pools, terms=terms), settings=settings_of(mip_gap=1e-6), policy=PLAIN
    )


@pytest.fixture(scope="module")
def search(problem: PurchaseProblem) -> PurchaseSearch:
    """Its search, kept warm."""
    return PurchaseSearch(problem)


@pytest.fixture(scope="module")
def found(search: PurchaseSearch) -> PurchaseResult:
    """The best purchases."""
    return search.run()


def independent(problem: PurchaseProblem, buy: np.ndarray) -> tuple[float, np.ndarray]:
    """What purchases cost, said without the model: money for terms, then each path's dearer nodes and shortage."""
    days = [(add_months(problem.demand.start, m + 1) - add_months(problem.demand.start, m)).days for m in range(4)]
    spend, nodes = 0.0, np.zeros(4)
    for (o, month), count in np.ndenumerate(buy):
        months, price = ((2, 14.0), (4, 11.0))[o]
        for m in range(month, min(4, month + months)):
            nodes[m] += count
            spend += count * price * days[m] * 24
        spend += 0.1 * count * price * 730.5 * max(0, month + months - 4)
    costs = np.zeros(3)
    for k, m, w in product(range(3), range(4), range(2)):
        asked = problem.demand.means[k, 0, m] * problem.demand.weeks[w, 0]
        left = np.maximum(asked - 8 * nodes[m], 0.0)
        taken = np.minimum(left, 24.0)
        money = (taken / 8 * 20.0 + (left - taken) * 20.0).sum()
        costs[k] += money * problem.demand.weights[w] * days[m] * 24 / 168
    return spend, costs


def test_the_best_purchases_are_those_of_brute_force(problem: PurchaseProblem, found: PurchaseResult) -> None:
    """Of all 6,561 ways to buy up to two nodes each none is cheaper, mean and worst fifth weighed as the plan does."""
    best = np.inf
    for counts in product(range(3), repeat=8):
        buy = np.array(counts).reshape(2, 4)
        if problem.standing(buy)[0].max() <= 3:
            spend, costs = independent(problem, buy)
            best = min(best, spend + risk(costs))
    assert found.objective == pytest.approx(best, rel=1e-5)
    assert found.buy.sum() > 0


def test_the_returned_purchases_cost_what_is_said(problem: PurchaseProblem, found: PurchaseResult) -> None:
    """Nodes stay within the pool, and money, shortage and the paths' costs are those of a second statement."""
    assert found.buy.min() >= 0
    assert found.standing[0].max() <= 3
    spend, costs = independent(problem, found.buy)
    assert found.spend + found.bound_price == pytest.approx(spend)
    assert found.bound_price == pytest.approx(0.1 * found.bound_beyond)
    assert found.path_costs == pytest.approx(costs, rel=1e-6)


def test_a_banned_offer_is_not_bought_and_never_makes_it_cheaper(search: PurchaseSearch, found: PurchaseResult) -> None:
    """A re-solve without an offer costs at least as much; afterwards the offer is there again."""
    without = search.run(banned=[1])
    assert without.buy[1].sum() == 0
    assert without.objective >= found.objective * (1 - 1e-6)
    assert search.run(banned=[0, 1]).buy.sum() == 0
    assert search.run().objective == pytest.approx(found.objective, rel=1e-5)


def test_it_says_what_buying_earns_and_when_pools_are_full(problem: PurchaseProblem) -> None:
    """Earnings are the difference of two solves; no other way is better; full months are those reached."""
    made = buy_ahead(problem)
    plan, none, peak = made.ways
    search = PurchaseSearch(problem)
    best, without = search.run(), search.run(banned=[0, 1])
    (whole, *_) = made.earnings
    assert whole.earns == pytest.approx(without.expected - best.expected, rel=1e-4)
    assert whole.earns == pytest.approx(none.more, rel=1e-4)
    assert (plan.more, plan.more_low, plan.more_high) == (0, 0, 0)
    assert min(none.more, peak.more) > 0
    assert plan.expected == pytest.approx(best.expected, rel=1e-5)
    left = 1.6 * problem.demand.means[:, 0] - 8 * best.standing[0]
    reached = [int(np.argmax(row)) if row.any() else 99 for row in left >= 24 - 1e-6]
    edges = dict(enumerate(problem.demand.edges[:-1]))
    (free,) = (one for one in made.full if one.pool == "free")
    early, middle, late = (edges.get(month) for month in sorted(reached))
    assert (free.early, free.middle, free.late) == (early, middle, late)
    assert early is not None
    assert late is None
    assert sum(one.nodes for one in made.purchases) == best.buy.sum()
    assert any("Order now" in line or "Order nothing" in line for line in made.explanation)


def test_orders_keep_lead_times_and_running_terms_end(problem: PurchaseProblem) -> None:
    """Nodes that take six weeks stand from the third month; those that run now stand until their term is over."""
    term = replace(problem.fleet.pools[0], lead_time_hours=42 * 24)
    fleet = replace(
        problem.fleet,
        pools=(term, problem.fleet.pools[1]),
        nodes={"term": 2},
        committed_until={"term": date(2026, 5, 1)},
    )
    slow = build_purchase_problem(problem.demand, fleet, settings=settings_of(mip_gap=1e-6), policy=PLAIN)
    assert slow.base[0].tolist() == [2, 2, 0, 0]
    made = buy_ahead(slow)
    assert made.purchases
    assert all(one.begins >= date(2026, 5, 1) for one in made.purchases)
    assert all((one.begins - one.order_by).days == 42 for one in made.purchases)


def test_a_typical_week_is_one_that_happened() -> None:
    """Of eight calm weeks and four swinging ones the middle of each kind stands for its share; means are one."""
    rng = np.random.default_rng(1)
    calm, swing = week(0.9, 1.1), week(0.2, 1.8)
    weeks = [20 * (calm if place % 3 else swing) * rng.uniform(0.98, 1.02, 168) for place in range(12)]
    values = np.concatenate([np.full(30, np.nan), *weeks])[None]
    start = datetime(2026, 2, 28, 18, tzinfo=UTC)  # a Saturday: the first whole week begins after 30 hours
    found, weights = typical_weeks(values, start, [0], 2)
    assert sorted(weights) == pytest.approx([1 / 3, 2 / 3])
    assert found.mean(axis=2) == pytest.approx(1.0)
    swings = found[int(weights.argmin()), 0]
    assert any(swings == pytest.approx(one / one.mean()) for one in weeks)
    assert swings.max() > 1.7


def test_paths_of_months_stand_evenly_from_low_to_high() -> None:
    """Four of 100 draws are kept whole: those at an eighth, three eighths and so on, averaged by calendar month."""
    level = np.arange(100, 0, -1.0)
    daily = level[:, None, None] * np.ones((100, 2, 61))
    found = monthly_paths(daily, date(2026, 3, 1), 2, 4)
    assert found.shape == (4, 2, 2)
    assert found[:, 0, 0].tolist() == [13, 38, 63, 88]
    with pytest.raises(InputError, match="further ahead"):
        monthly_paths(daily, date(2026, 3, 1), 3, 4)
    assert add_months(date(2026, 1, 31), 1) == date(2026, 2, 28)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"terms": ()}, "terms.*is empty"),
        ({"terms": (Term(pool="free", months=1, price_per_node_hour=1.0),)}, "of no committed pool"),
        ({"terms": (Term(pool="term", months=1, price_per_node_hour=1.0),) * 2}, "stands twice"),
    ],
)
def test_offers_that_cannot_be_are_refused(change: dict[str, Any], said: str, problem: PurchaseProblem) -> None:
    """No offer, an offer of what has no term and two prices for one term are named."""
    with pytest.raises(InputError, match=said):
        build_purchase_problem(problem.demand, replace(problem.fleet, **change), settings=settings_of())
    with pytest.raises(InputError, match=r"terms\[term\].price_per_node_hour: -1"):
        Term(pool="term", months=1, price_per_node_hour=-1.0)


def test_cuts_of_weeks_are_exact_and_hold_for_other_nodes(problem: PurchaseProblem) -> None:
    """Limits of the nodes that a path takes, a least one too, are in the cuts: exact there, never above elsewhere."""
    free = replace(problem.fleet.pools[1], min_nodes=1)
    fleet = replace(problem.fleet, pools=(problem.fleet.pools[0], free))
    weeks = build_purchase_problem(problem.demand, fleet, settings=settings_of(), policy=PLAIN).weeks
    paths = RecoursePrograms(weeks)
    shape = (len(weeks.pools), len(weeks.periods))
    fleets = [np.vstack([np.full(shape[1], count), np.zeros(shape[1])]) for count in (0.0, 0.7, 2.0, 3.0)]
    priced = [paths.price(nodes) for nodes in fleets]
    for one, nodes in zip(priced, fleets, strict=True):
        assert one is not None
        for cut, cost in zip(one.cuts, one.costs, strict=True):
            assert cut.at(weeks, nodes) == pytest.approx(cost, rel=1e-6)
        for other, others in zip(priced, fleets, strict=True):
            assert other is not None
            for cut, cost in zip(one.cuts, other.costs, strict=True):
                assert cut.at(weeks, others) <= cost * (1 + 1e-6) + 1e-3
