"""What may be bought for a term: what the fleet file offers, or else what the catalogue thinks that it costs."""

from __future__ import annotations

from dataclasses import replace

from gangplan.plan.problem import Catalogue, read_catalogue
from gangplan.types import Fleet, Pool, PoolKind, Term

YEAR = 12  # months: the term of a committed pool that names none


def with_offers(fleet: Fleet, catalogue: Catalogue | None = None) -> tuple[Fleet, str]:
    """Return the fleet with its offers, and in words where they come from.

    A fleet without terms is offered a year of its committed pools at their price; one without committed pools is
    offered each on-demand pool's nodes at the catalogue's shares of their price.
    """
    if fleet.terms:
        return fleet, ""
    committed = [pool for pool in fleet.pools if pool.kind == PoolKind.COMMITTED]
    if committed:
        terms = tuple(_term(pool.name, YEAR, pool.price_per_node_hour) for pool in committed)
        return replace(fleet, terms=terms), f"The fleet file names no terms: its committed pools for {YEAR} months."
    catalogue = catalogue or read_catalogue()
    free = [pool for pool in fleet.pools if pool.kind == PoolKind.ON_DEMAND]
    pools = tuple(_committed(pool) for pool in free)
    terms = tuple(
        _term(mine.name, months, round(share * pool.price_per_node_hour, 2))
        for mine, pool in zip(pools, free, strict=True)
        for months, share in catalogue.terms.items()
    )
    offered = replace(fleet, pools=(*fleet.pools, *pools), terms=terms)
    shares = " and ".join(f"{months} months at {share:.0%}" for months, share in catalogue.terms.items())
    return offered, (
        f"The fleet file has no committed pool: looked at {shares} of the price on demand, estimates of "
        f"{catalogue.as_of}. Write your own offers under `terms`."
    )


def _term(pool: str, months: int, price: float) -> Term:
    """Make an offer."""
    return Term(pool=pool, months=months, price_per_node_hour=price)


def _committed(pool: Pool) -> Pool:
    """Make the committed pool beside one on demand."""
    name = f"{pool.name.removesuffix('-on-demand')}-committed"
    return replace(
        pool,
        name=name,
        kind=PoolKind.COMMITTED,
        min_nodes=0,
        price_factors=(),
        startup_minutes_p50=0,
        startup_minutes_p95=0,
    )
