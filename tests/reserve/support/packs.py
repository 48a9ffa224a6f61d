"""Whether pods fit on nodes, by trying all there is: what packings are held against."""

from __future__ import annotations

from functools import cache


@cache
def packs(free: tuple[int, ...], pods: tuple[int, ...]) -> bool:
    """Tell whether pods (their GPUs) can be put on nodes (their free GPUs) in any way at all."""
    if not pods:
        return True
    first, rest = pods[0], pods[1:]
    return any(
        packs(tuple(sorted((*free[:at], there - first, *free[at + 1 :]))), rest)
        for at, there in enumerate(free)
        if there >= first and there not in free[:at]
    )
