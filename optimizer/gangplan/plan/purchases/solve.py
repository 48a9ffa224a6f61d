"""Plan purchases: solve, price other strategies on the same paths, find what each purchase earns, and explain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from math import ceil

import numpy as np
import polars as pl

from gangplan.config import Settings
from gangplan.plan.problem import Array, Catalogue, Counts, PlanPolicy
from gangplan.plan.purchases.demand import LongDemand, PurchaseHorizon, add_months
from gangplan.plan.purchases.problem import PurchaseProblem, build_purchase_problem, with_offers
from gangplan.plan.purchases.search import PurchaseResult, PurchaseSearch
from gangplan.progress import Progress, no_progress
from gangplan.types import Commitments, Fleet, PoolFull, PoolKind, Purchase, PurchaseBenefit, PurchaseStrategy

PLAN, NONE, PEAK = "this plan", "nothing for a term", "the busiest hour for a term"
_BAND = (0.1, 0.5, 0.9)
_FULL = 0.999  # of the nodes that a pool may have


def plan_purchases(
    demand: LongDemand,
    fleet: Fleet,
    horizon: PurchaseHorizon,
    settings: Settings,
    *,
    policy: PlanPolicy | None = None,
    catalogue: Catalogue | None = None,
    progress: Progress = no_progress,
) -> Commitments:
    """Find how many nodes of which offer to buy when.

    A fleet without offers gets those of the `catalogue`, and the explanation says so. See `build_purchase_problem` for
    what is refused.
    """
    offered, origin = with_offers(fleet, catalogue)
    problem = build_purchase_problem(demand, offered, settings=settings, policy=policy, beyond=horizon.beyond)
    plan = buy_ahead(problem, progress)
    return replace(plan, explanation=(*plan.explanation, *([origin] if origin else [])))


def buy_ahead(problem: PurchaseProblem, progress: Progress = no_progress) -> Commitments:
    """Solve the problem and describe the result.

    It is proven within `mip_gap`, or after a bounded number of rounds within the gap that it states.
    """
    search = PurchaseSearch(problem)
    best = search.run(progress)
    progress(0.9, 1, "solving again without each purchase")
    plan = Commitments(
        start=problem.demand.start,
        end=problem.demand.edges[-1],
        purchases=tuple(_purchases(problem, best.buy)),
        ways=(
            _strategy(PLAN, search, best, best),
            _strategy(NONE, search, search.price(np.zeros_like(best.buy)), best),
            _strategy(PEAK, search, search.price(peak_purchases(problem)), best),
        ),
        earnings=tuple(_benefits(search, best)),
        full=tuple(_full_pools(search, best)),
        standing=_standing(problem, best.standing),
        demand=_demand(problem),
        gap=best.gap,
        bound_beyond=best.bound_beyond,
        paths=len(problem.paths),
        typical_weeks=len(problem.demand.weights),
        explanation=(),
    )
    return replace(plan, explanation=sentences(plan))


def peak_purchases(problem: PurchaseProblem) -> Counts:
    """Return purchases that cover each month's busiest hour on the median path, by each pool's cheapest offer."""
    buy = np.zeros((len(problem.offers), len(problem.months)), dtype=np.int64)
    needs = _peak_gpus(problem, 0.5)
    cheapest = sorted(range(len(problem.offers)), key=lambda o: problem.offers[o].price_per_node_hour)
    pools = {problem.pool_of[o]: o for o in reversed(cheapest)}
    for o in (o for o in cheapest if pools[problem.pool_of[o]] == o):
        pool = problem.fleet.pools[problem.pool_of[o]]
        for m in range(problem.first_month(o), len(problem.months)):
            standing = problem.standing(buy)
            alike = [p for p, other in enumerate(problem.fleet.pools) if other.accelerator == pool.accelerator]
            present = float(problem.weeks.usable_gpus[alike] @ standing[alike, m])
            needed = needs[pool.accelerator][m] if pool.accelerator in needs else 0.0
            missing = ceil(max(0.0, needed - present) / pool.gpus_per_node)
            buy[o, m] = min(missing, pool.max_nodes - int(standing[problem.pool_of[o], m]))
    return buy


def _peak_gpus(problem: PurchaseProblem, level: float) -> dict[str, Array]:
    """Return the GPUs of each accelerator in the busiest hour of each month, at a quantile of the paths."""
    paths = problem.weeks.paths.reshape(len(problem.paths), len(problem.months), -1, *problem.weeks.paths.shape[1:])
    return {
        name: np.quantile(paths[:, :, :, members].sum(axis=3).max(axis=(2, 3)), level, axis=0)
        for name, members in _series_of(problem).items()
    }


def _series_of(problem: PurchaseProblem) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for s, (_, _, accelerator) in enumerate(problem.demand.series):
        members.setdefault(accelerator, []).append(s)
    return members


def _strategy(name: str, search: PurchaseSearch, result: PurchaseResult, best: PurchaseResult) -> PurchaseStrategy:
    """Price a way to buy on the paths of the best one."""
    problem, weeks = search.problem, search.problem.weeks
    lengths, often = np.array(weeks.periods.lengths, dtype=float), problem.times / len(problem.paths)
    short = search.programs.short_gpus(result.recourse) @ lengths
    taken = (_hired(search, result) * weeks.prices[list(weeks.hired)] * lengths).sum(axis=(1, 2))
    more = result.counted - best.counted
    low, _, high = np.quantile(more, _BAND)
    base = problem.base_money
    return PurchaseStrategy(
        name=name,
        expected=base + result.expected,
        worst=base + result.worst,
        more=float(more.mean()),
        more_low=float(low),
        more_high=float(high),
        terms=result.spend,
        bound=result.bound_price,
        taken=float(taken @ often),
        short_gpu_hours=float(short.sum(axis=1) @ often),
    )


def _hired(search: PurchaseSearch, result: PurchaseResult) -> Array:
    """Return the nodes taken by the hour, shape (weeks, pools taken by the hour, periods)."""
    values = np.stack(result.recourse.values)[:, search.programs.hire]
    return values.reshape(len(values), len(search.problem.weeks.hired), len(search.problem.weeks.periods))


def _benefits(search: PurchaseSearch, best: PurchaseResult) -> Iterator[PurchaseBenefit]:
    """Solve again without each pool's offers, and without each offer where a pool has several that are bought."""
    problem = search.problem
    bought = [o for o in range(len(problem.offers)) if best.buy[o].any()]
    for p in dict.fromkeys(problem.pool_of[o] for o in bought):
        offers = [o for o, pool in enumerate(problem.pool_of) if pool == p]
        yield _benefit(search, best, p, offers, None)
        several = [o for o in bought if o in offers]
        for o in several if len(several) > 1 else ():
            yield _benefit(search, best, p, [o], problem.offers[o].months)


def _benefit(
    search: PurchaseSearch, best: PurchaseResult, p: int, banned: list[int], months: int | None
) -> PurchaseBenefit:
    """Compare with the best purchases without some offers of a pool."""
    without = search.run(banned=banned)
    earns = without.counted - best.counted
    low, _, high = np.quantile(earns, _BAND)
    return PurchaseBenefit(
        pool=search.problem.fleet.pools[p].name,
        months=months,
        nodes=int(best.buy[banned].sum()),
        earns=float(earns.mean()),
        low=float(low),
        high=float(high),
        worst=without.worst - best.worst,
        loses=float((earns < 0).mean()),
    )


def _purchases(problem: PurchaseProblem, buy: Counts) -> Iterator[Purchase]:
    """List what is bought, by the month in which it begins."""
    edges = problem.demand.edges
    for m, o in ((m, o) for m in problem.months for o in range(len(problem.offers)) if buy[o, m]):
        offer, pool = problem.offers[o], problem.fleet.pools[problem.pool_of[o]]
        yield Purchase(
            pool=offer.pool,
            months=offer.months,
            nodes=int(buy[o, m]),
            order_by=max(edges[0], edges[m] - timedelta(hours=pool.lead_time_hours)),
            begins=edges[m],
            ends=add_months(problem.demand.start, m + offer.months),
            price_per_node_hour=offer.price_per_node_hour,
        )


def _full_pools(search: PurchaseSearch, best: PurchaseResult) -> Iterator[PoolFull]:
    """Find from which month on each pool runs all nodes that it may have, in some hours."""
    problem, shape = search.problem, (len(search.problem.paths), len(search.problem.months), -1)
    for p, pool in enumerate(problem.fleet.pools):
        full = _full_weeks(search, best, p)
        if full is None:
            continue
        reached = full.reshape(shape).any(axis=-1)
        first = np.where(reached.any(axis=-1), reached.argmax(axis=-1).astype(float), np.inf)
        months = [float(np.quantile(first, level, method="inverted_cdf")) for level in _BAND]
        early, middle, late = (problem.demand.edges[int(month)] if np.isfinite(month) else None for month in months)
        yield PoolFull(pool=pool.name, early=early, middle=middle, late=late)


def _full_weeks(search: PurchaseSearch, best: PurchaseResult, p: int) -> Array | None:
    """Return in which weeks a pool runs all nodes that it may have; None if no workload may use it."""
    problem, weeks, programs = search.problem, search.problem.weeks, search.programs
    most = problem.fleet.pools[p].max_nodes
    if p in weeks.hired:
        return _hired(search, best)[:, weeks.hired.index(p)].max(axis=1) >= _FULL * most
    g = next(g for g, group in enumerate(weeks.groups) if p in group.pools)
    routes = [route for route in programs.model.routes if route[1] == g]
    if not routes:
        return None
    values = np.stack(best.recourse.values)
    variables = [[programs.model.serve[(*route, t, 0)] for t in programs.model.T] for route in routes]
    served = sum(values[:, programs.columns_of(row)] for row in variables)
    with_term = [q for q in weeks.groups[g].pools if q not in weeks.hired]
    capacity = (weeks.usable_gpus[with_term] @ best.standing[with_term])[problem.month_of]
    owned = problem.fleet.pools[p].kind == PoolKind.OWNED
    at_most = owned | (best.standing[p][problem.month_of] >= most)
    return at_most & (capacity > 0) & (np.max(served, axis=1) >= _FULL * capacity)


def _standing(problem: PurchaseProblem, standing: Counts) -> pl.DataFrame:
    """Return the GPUs that stand, by month and pool."""
    rows = [
        {"month": edge, "pool": pool.name, "kind": pool.kind.value, "gpus": int(standing[p, m]) * pool.gpus_per_node}
        for p, pool in enumerate(problem.fleet.pools)
        for m, edge in enumerate(problem.demand.edges[:-1])
        if standing[p].any()
    ]
    schema = {"month": pl.Date, "pool": pl.String, "kind": pl.String, "gpus": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def _demand(problem: PurchaseProblem) -> pl.DataFrame:
    """Return the GPUs asked for by month and accelerator: quantiles of the month's mean and of its busiest hour."""
    middle, high = _peak_gpus(problem, 0.5), _peak_gpus(problem, 0.9)
    frames: list[pl.DataFrame] = []
    shares = np.einsum("w,wsh->s", problem.demand.weights, problem.demand.weeks) / problem.demand.weeks.shape[2]
    for name, members in _series_of(problem).items():
        mean = (problem.demand.means[:, members] * shares[members][:, None]).sum(axis=1)
        bands = {f"q{level:g}": np.quantile(mean, level, axis=0) for level in _BAND}
        columns = {"month": list(problem.demand.edges[:-1]), **bands, "peak0.5": middle[name], "peak0.9": high[name]}
        frames.append(pl.DataFrame(columns).with_columns(accelerator=pl.lit(name)))
    return pl.concat(frames)


def sentences(plan: Commitments) -> tuple[str, ...]:
    """Explain a plan of purchases, what is to be done first."""
    beyond = f"{plan.bound_beyond:,.0f} are bound after {plan.end}: a share counted (--beyond); look further: --months."
    told = (*_orders(plan), *_money(plan), *map(_earning, plan.earnings), *_full(plan.full))
    return (*told, beyond) if plan.bound_beyond > 0 else told


def _orders(plan: Commitments) -> list[str]:
    """Return what to order now, and what is expected for later, by offer."""
    due = [_purchase(purchase) for purchase in plan.purchases if purchase.order_by == plan.start]
    now = f"Order now: {'; '.join(due)}." if due else "Order nothing now."
    later: dict[tuple[str, int], list[Purchase]] = {}
    for purchase in plan.purchases:
        if purchase.order_by != plan.start:
            later.setdefault((purchase.pool, purchase.months), []).append(purchase)
    parts = [
        f"{sum(purchase.nodes for purchase in alike)} of {pool} for {months} months, the first by {alike[0].order_by}"
        for (pool, months), alike in later.items()
    ]
    return [now, f"Foreseen, to be asked again before: {'; '.join(parts)}."] if parts else [now]


def _purchase(purchase: Purchase) -> str:
    nodes = "1 node" if purchase.nodes == 1 else f"{purchase.nodes} nodes"
    term = f"{purchase.pool} for {purchase.months} months from {purchase.begins}"
    return f"{nodes} of {term} (at {purchase.price_per_node_hour:g} an hour)"


def _money(plan: Commitments) -> list[str]:
    """Return what the plan costs, and how much more the other strategies."""
    best, *others = plan.ways
    cost = (
        f"From {plan.start} to {plan.end} this costs {best.expected:,.0f} in the mean of {plan.paths} paths "
        f"({best.worst:,.0f} in the worst fifth), proven within {plan.gap:.2%}: {best.terms:,.0f} for terms, "
        f"{best.taken:,.0f} by the hour in the mean, {best.short_gpu_hours:,.0f} GPU-hours short."
    )
    more = [
        f"Buying {way.name} costs {way.more:+,.0f} ({way.more_low:+,.0f} to {way.more_high:+,.0f} in 8 of 10 cases)."
        for way in others
    ]
    return [cost, *more]


def _earning(benefit: PurchaseBenefit) -> str:
    what = f"the {benefit.months}-month term of {benefit.pool}" if benefit.months else f"{benefit.pool} for a term"
    loses = f"; it loses on {benefit.loses:.0%} of the paths" if benefit.loses > 0 else ""
    return (
        f"Buying {what} ({benefit.nodes} nodes) earns {benefit.earns:,.0f} against solving again without it "
        f"({benefit.low:,.0f} to {benefit.high:,.0f} in 8 of 10 cases; {benefit.worst:,.0f} in the worst fifth){loses}."
    )


def _full(pools: tuple[PoolFull, ...]) -> list[str]:
    """Return which pools are full within the horizon on the median path, and which only with strong growth."""
    sure = [f"{pool.pool} from {pool.middle:%b %Y}" for pool in pools if pool.middle is not None]
    late = (pool for pool in pools if pool.middle is None)
    strong = [f"{pool.pool} from {pool.early:%b %Y}" for pool in late if pool.early is not None]
    lines = [("Full in some hours of a usual week", sure), ("Full with strong growth only", strong)]
    return [f"{words}: {', '.join(names)}." for words, names in lines if names]
