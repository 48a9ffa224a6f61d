"""A plan of purchases in sentences: what to buy, what that costs and earns, when pools are full."""

from __future__ import annotations

from gangplan.types import Commitments, PoolFull, Purchase, PurchaseBenefit


def sentences(plan: Commitments) -> tuple[str, ...]:
    """Explain a plan of purchases, what is to be done first."""
    return (*_orders(plan), *_money(plan), *map(_benefit, plan.earnings), *_full(plan.full), *_beyond(plan))


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
    """Describe a purchase."""
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


def _benefit(benefit: PurchaseBenefit) -> str:
    """Describe what a purchase earns."""
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


def _beyond(plan: Commitments) -> list[str]:
    """Return the money that is bound after the horizon."""
    if plan.bound_beyond <= 0:
        return []
    return [f"{plan.bound_beyond:,.0f} are bound after {plan.end}: a share counted (--beyond); look further: --months."]
