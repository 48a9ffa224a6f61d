"""What a solved plan leaves for later questions: the cuts that are near its fleet, as bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from gangplan.plan.solver.decomposition import Decomposition
from gangplan.plan.solver.paths import Cut

NEAR = 0.02
"""Cuts are kept that come within this share of the plan's price of their path's cost."""


def near_cuts(decomposition: Decomposition) -> list[Cut]:
    """Return the cuts that say something about fleets like the best one, each path's last one in any case."""
    best = decomposition.best
    if best is None:
        return []
    last = {cut.path: cut for cut in decomposition.cuts}
    slack = NEAR * max(1.0, abs(best.objective))
    return [
        cut
        for cut in decomposition.cuts
        if cut is last[cut.path]
        or cut.level(decomposition.problem) + float((cut.slope * best.nodes).sum())
        >= best.priced.costs[cut.path] - slack
    ]


def to_bytes(cuts: Sequence[Cut]) -> bytes:
    """Pack cuts; none are nothing."""
    if not cuts:
        return b""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        path=[cut.path for cut in cuts],
        slope=[cut.slope for cut in cuts],
        by_demand=[cut.by_demand for cut in cuts],
        by_window=[cut.by_window for cut in cuts],
        constant=[cut.constant for cut in cuts],
    )
    return buffer.getvalue()


def from_bytes(packed: bytes) -> tuple[Cut, ...]:
    """Unpack cuts."""
    if not packed:
        return ()
    with np.load(io.BytesIO(packed)) as kept:
        columns = {name: kept[name] for name in ("path", "slope", "by_demand", "by_window", "constant")}
    return tuple(
        Cut(path=int(k), slope=slope, by_demand=demand, by_window=window, constant=float(constant))
        for k, slope, demand, window, constant in zip(*columns.values(), strict=True)
    )
