"""Months ahead: solve, price the other ways on the same paths, ask what each purchase earns, say what is full when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from math import ceil

import numpy as np
import polars as pl

from gangplan.plan.problem import Counts
from gangplan.plan.purchases.demand import add_months
from gangplan.plan.purchases.problem import HorizonProblem
from gangplan.plan.purchases.search import HorizonSearch, Outcome
from gangplan.plan.purchases.words import in_words
from gangplan.plan.solver import Array
from gangplan.progress import Progress, no_progress
from gangplan.types import Commitments, Earning, PoolFull, PoolKind, Purchase, Way

PLAN, NONE, PEAK = "this plan", "nothing for a term", "the busiest hour for a term"
_BAND = (0.1, 0.5, 0.9)
_FULL = 0.999  # of the nodes that a pool may have


def buy_ahead(problem: HorizonProblem, progress: Progress = no_progress) -> Commitments:
    """Find what to buy, and say what that comes to.

    The plan comes back proven within `mip_gap`, or after a bounded number of rounds with the gap that is proven.
    """
    search = HorizonSearch(problem)
    found = search.run(progress)
    progress(0.9, 1, "solving again without each purchase")
    ways = tuple(_ways(search, found))
    earnings = tuple(_earnings(search, found))
    full = tuple(_full(search, found))
    made = Commitments(
        start=problem.demand.start,
        end=problem.demand.edges[-1],
        purchases=tuple(_purchases(problem, found.buy)),
        ways=ways,
        earnings=earnings,
        full=full,
        standing=_standing(problem, found.standing),
        demand=_demand(problem),
        gap=found.gap,
        bound_beyond=found.bound_beyond,
        paths=len(problem.paths),
        typical_weeks=len(problem.demand.weights),
        explanation=(),
    )
    return replace(made, explanation=in_words(made))


def peak_purchases(problem: HorizonProblem) -> Counts:
    """Buy for the busiest hour of the mean demand in each month, each pool by its cheapest offer."""
    buy = np.zeros((len(problem.offers), len(problem.months)), dtype=np.int64)
    needs = _peak_gpus(problem, 0.5)
    cheapest = sorted(range(len(problem.offers)), key=lambda o: problem.offers[o].price_per_node_hour)
    pools = {problem.pool_of[o]: o for o in reversed(cheapest)}
    for o in (o for o in cheapest if pools[problem.pool_of[o]] == o):
        pool = problem.fleet.pools[problem.pool_of[o]]
        for m in range(problem.first_month(o), len(problem.months)):
            standing = problem.standing(buy)
            kin = [p for p, one in enumerate(problem.fleet.pools) if one.accelerator == pool.accelerator]
            has = float(problem.weeks.usable_gpus[kin] @ standing[kin, m])
            lacks = ceil(max(0.0, needs.get(pool.accelerator, np.zeros(m + 1))[m] - has) / pool.gpus_per_node)
            buy[o, m] = min(lacks, pool.max_nodes - int(standing[problem.pool_of[o], m]))
    return buy


def _peak_gpus(problem: HorizonProblem, level: float) -> dict[str, Array]:
    """GPUs of each accelerator in the busiest hours of each month, at a level of the paths."""
    paths = problem.weeks.paths.reshape(len(problem.paths), len(problem.months), -1, *problem.weeks.paths.shape[1:])
    found: dict[str, Array] = {}
    for name in dict.fromkeys(one[2] for one in problem.demand.series):
        mine = [s for s, one in enumerate(problem.demand.series) if one[2] == name]
        found[name] = np.quantile(paths[:, :, :, mine].sum(axis=3).max(axis=(2, 3)), level, axis=0)
    return found


def _ways(search: HorizonSearch, found: Outcome) -> Iterator[Way]:
    """Price the plan, buying nothing, and buying for the busiest hour, on the same paths."""
    problem = search.problem
    yield _way(PLAN, search, found, found)
    yield _way(NONE, search, search.outcome(np.zeros_like(found.buy)), found)
    yield _way(PEAK, search, search.outcome(peak_purchases(problem)), found)


def _way(name: str, search: HorizonSearch, one: Outcome, plan: Outcome) -> Way:
    """Sum up one way."""
    problem, weeks = search.problem, search.problem.weeks
    values = np.stack(one.priced.values)
    lengths, often = np.array(weeks.periods.lengths, dtype=float), problem.times / len(problem.paths)
    short = values[:, search.paths.short].reshape(weeks.demand.shape) @ lengths
    hire = values[:, search.paths.hire].reshape(len(values), len(weeks.hired), len(lengths))
    taken = (hire * weeks.prices[list(weeks.hired)] * lengths).sum(axis=(1, 2))
    more = one.counted - plan.counted
    low, _, high = np.quantile(more, _BAND)
    base = problem.base_money
    return Way(
        name=name,
        expected=base + one.expected,
        worst=base + one.worst,
        more=float(more.mean()),
        more_low=float(low),
        more_high=float(high),
        terms=one.spend,
        bound=one.bound_price,
        taken=float(taken @ often),
        short_gpu_hours=float(short.sum(axis=1) @ often),
    )


def _earnings(search: HorizonSearch, found: Outcome) -> Iterator[Earning]:
    """Solve again without each pool's offers, and without each offer where a pool has several that are bought."""
    problem = search.problem
    bought = [o for o in range(len(problem.offers)) if found.buy[o].any()]
    for p in dict.fromkeys(problem.pool_of[o] for o in bought):
        mine = [o for o, home in enumerate(problem.pool_of) if home == p]
        yield _earning(search, found, p, mine, None)
        several = [o for o in bought if o in mine]
        for o in several if len(several) > 1 else ():
            yield _earning(search, found, p, [o], problem.offers[o].months)


def _earning(search: HorizonSearch, found: Outcome, p: int, banned: list[int], months: int | None) -> Earning:
    """Compare with the best that is left when offers are banned."""
    without = search.run(banned=banned)
    earns = without.counted - found.counted
    low, _, high = np.quantile(earns, _BAND)
    return Earning(
        pool=search.problem.fleet.pools[p].name,
        months=months,
        nodes=int(found.buy[banned].sum()),
        earns=float(earns.mean()),
        low=float(low),
        high=float(high),
        worst=without.worst - found.worst,
        loses=float((earns < 0).mean()),
    )


def _purchases(problem: HorizonProblem, buy: Counts) -> Iterator[Purchase]:
    """Name what is bought, the first to begin first."""
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


def _full(search: HorizonSearch, found: Outcome) -> Iterator[PoolFull]:
    """Say from which month on each pool runs all that it may have, in some hours."""
    problem, shape = search.problem, (len(search.problem.paths), len(search.problem.months), -1)
    for p, pool in enumerate(problem.fleet.pools):
        used = _used_up(search, found, p)
        if used is None:
            continue
        reached = used.reshape(shape).any(axis=-1)
        first = np.where(reached.any(axis=-1), reached.argmax(axis=-1).astype(float), np.inf)
        days = [float(np.quantile(first, level, method="inverted_cdf")) for level in _BAND]
        early, middle, late = (_edge(problem, day) for day in days)
        yield PoolFull(pool=pool.name, early=early, middle=middle, late=late)


def _edge(problem: HorizonProblem, month: float) -> date | None:
    """The first day of a month; none beyond the horizon."""
    return problem.demand.edges[int(month)] if np.isfinite(month) else None


def _used_up(search: HorizonSearch, found: Outcome, p: int) -> Array | None:
    """Tell in which weeks a pool runs all that it may have; none where nobody may use it."""
    problem, weeks = search.problem, search.problem.weeks
    values = np.stack(found.priced.values)
    most = problem.fleet.pools[p].max_nodes
    if p in weeks.hired:
        hire = values[:, search.paths.hire].reshape(len(values), len(weeks.hired), -1)
        return hire[:, weeks.hired.index(p)].max(axis=1) >= _FULL * most
    g = next(g for g, group in enumerate(weeks.groups) if p in group.pools)
    routes = [route for route in search.paths.model.routes if route[1] == g]
    if not routes:
        return None
    variables = [[search.paths.model.serve[(*route, t, 0)] for t in search.paths.model.T] for route in routes]
    served = sum(values[:, search.paths.columns_of(row)] for row in variables)
    firm = [q for q in weeks.groups[g].pools if q not in weeks.hired]
    room = (weeks.usable_gpus[firm] @ found.standing[firm])[problem.month_of]
    whole = problem.fleet.pools[p].kind == PoolKind.OWNED
    at_most = whole | (found.standing[p][problem.month_of] >= most)
    return at_most & (room > 0) & (np.max(served, axis=1) >= _FULL * room)


def _standing(problem: HorizonProblem, standing: Counts) -> pl.DataFrame:
    """GPUs that stand, by month and pool."""
    rows = [
        {"month": edge, "pool": pool.name, "kind": pool.kind.value, "gpus": int(standing[p, m]) * pool.gpus_per_node}
        for p, pool in enumerate(problem.fleet.pools)
        for m, edge in enumerate(problem.demand.edges[:-1])
        if standing[p].any()
    ]
    schema = {"month": pl.Date, "pool": pl.String, "kind": pl.String, "gpus": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def _demand(problem: HorizonProblem) -> pl.DataFrame:
    """GPUs asked for, by month and accelerator, and of all."""
    middle, high = _peak_gpus(problem, 0.5), _peak_gpus(problem, 0.9)
    frames: list[pl.DataFrame] = []
    shares = np.einsum("w,wsh->s", problem.demand.weights, problem.demand.weeks) / problem.demand.weeks.shape[2]
    for name in middle:
        mine = [s for s, one in enumerate(problem.demand.series) if one[2] == name]
        mean = (problem.demand.means[:, mine] * shares[mine][:, None]).sum(axis=1)
        bands = {f"q{level:g}": np.quantile(mean, level, axis=0) for level in _BAND}
        columns = {"month": list(problem.demand.edges[:-1]), **bands, "peak0.5": middle[name], "peak0.9": high[name]}
        frames.append(pl.DataFrame(columns).with_columns(accelerator=pl.lit(name)))
    return pl.concat(frames)
