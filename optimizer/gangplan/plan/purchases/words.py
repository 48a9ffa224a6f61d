"""A look months ahead in words: what to buy, what that costs and earns, when pools are full."""

from __future__ import annotations

from gangplan.types import Commitments, Earning, PoolFull, Purchase


def in_words(made: Commitments) -> tuple[str, ...]:
    """Say it in sentences, what is to be done first."""
    return (*_orders(made), *_money(made), *(_earning(one) for one in made.earnings), *_full(made.full), *_beyond(made))


def _orders(made: Commitments) -> list[str]:
    """Say what to order now, and what is foreseen for later, put together by offer."""
    now = [one for one in made.purchases if one.order_by == made.start]
    said = [f"Order now: {'; '.join(_purchase(one) for one in now)}." if now else "Order nothing now."]
    later: dict[tuple[str, int], list[Purchase]] = {}
    for one in made.purchases:
        if one.order_by != made.start:
            later.setdefault((one.pool, one.months), []).append(one)
    parts = [
        f"{sum(one.nodes for one in some)} of {pool} for {months} months, the first by {some[0].order_by}"
        for (pool, months), some in later.items()
    ]
    return [*said, f"Foreseen, to be asked again before: {'; '.join(parts)}."] if parts else said


def _purchase(one: Purchase) -> str:
    """Name one purchase."""
    nodes = "1 node" if one.nodes == 1 else f"{one.nodes} nodes"
    return f"{nodes} of {one.pool} for {one.months} months from {one.begins} (at {one.price_per_node_hour:g} an hour)"


def _money(made: Commitments) -> list[str]:
    """Say what it costs beside the other ways."""
    plan, *others = made.ways
    head = (
        f"From {made.start} to {made.end} this costs {plan.expected:,.0f} in the mean of {made.paths} paths "
        f"({plan.worst:,.0f} in the worst fifth), proven within {made.gap:.2%}: {plan.terms:,.0f} for terms, "
        f"{plan.taken:,.0f} by the hour in the mean, {plan.short_gpu_hours:,.0f} GPU-hours short."
    )
    beside = [
        f"Buying {one.name} costs {one.more:+,.0f} ({one.more_low:+,.0f} to {one.more_high:+,.0f} in 8 of 10 cases)."
        for one in others
    ]
    return [head, *beside]


def _earning(one: Earning) -> str:
    """Say what a purchase earns."""
    what = f"the {one.months}-month term of {one.pool}" if one.months else f"{one.pool} for a term"
    loses = f"; it loses on {one.loses:.0%} of the paths" if one.loses > 0 else ""
    return (
        f"Buying {what} ({one.nodes} nodes) earns {one.earns:,.0f} against solving again without it "
        f"({one.low:,.0f} to {one.high:,.0f} in 8 of 10 cases; {one.worst:,.0f} in the worst fifth){loses}."
    )


def _full(full: tuple[PoolFull, ...]) -> list[str]:
    """Say which pools are full within the horizon in the middle of the paths, and which only on some."""
    sure = [f"{one.pool} from {one.middle:%b %Y}" for one in full if one.middle is not None]
    some = [f"{one.pool} from {one.early:%b %Y}" for one in full if one.middle is None and one.early is not None]
    lines = [("Full in some hours of a usual week", sure), ("Full with strong growth only", some)]
    return [f"{words}: {', '.join(names)}." for words, names in lines if names]


def _beyond(made: Commitments) -> list[str]:
    """Say what is bound after the horizon."""
    if made.bound_beyond <= 0:
        return []
    return [f"{made.bound_beyond:,.0f} are bound after {made.end}: a share counted (--beyond); look further: --months."]
