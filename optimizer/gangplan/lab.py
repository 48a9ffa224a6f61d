"""The small pool that every first fleet has, so that the examples have slots that two of them must share."""

from __future__ import annotations

from gangplan.types import Pool, PoolKind

LAB = Pool(
    name="h100-lab",
    accelerator="h100-lab",
    gpus_per_node=4,
    kind=PoolKind.OWNED,
    price_per_node_hour=7.02,
    min_nodes=2,
    max_nodes=2,
)
