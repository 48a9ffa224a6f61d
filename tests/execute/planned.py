"""Builders of what engines have of plans."""

from __future__ import annotations

from gangplan.types import Observation, PoolNode, PoolNodes


def observed(**nodes: int | tuple[PoolNode, ...]) -> Observation:
    """What engines have of each pool: so many usable nodes, or these."""
    return Observation(
        nodes=tuple(
            PoolNodes(pool=pool, ordered=len(members), nodes=members)
            for pool, members in (
                (pool, tuple(PoolNode(name=f"{pool}-{i}") for i in range(have)) if isinstance(have, int) else have)
                for pool, have in nodes.items()
            )
        )
    )
