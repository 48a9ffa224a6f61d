"""Free capacity over time, as the board has it, in stretches in which nothing changes."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from gangplan.reserve.moments import from_us
from gangplan.reserve.space.board import Board
from gangplan.types import FreeCapacity


def free_capacity(board: Board, start: int, end: int) -> list[FreeCapacity]:
    """Return a pool's planned and held GPUs from `start` up to `end`; nodes that take no gang are left out."""
    changes = _held_changes(board, start, end)
    for moment in board.steps.times:
        if start < moment < end:
            changes[moment] += 0
    moments = sorted(changes)
    stretches: list[FreeCapacity] = []
    held = 0
    for moment, following in zip(moments, [*moments[1:], end], strict=True):
        held += changes[moment]
        _append(stretches, board, moment, following, held)
    return stretches


def _held_changes(board: Board, start: int, end: int) -> dict[int, int]:
    """Return by how many GPUs the held and promised ones change, by moment from `start` on."""
    changes: dict[int, int] = defaultdict(int, {start: 0})
    held = [(start, until, gpus) for until, node, gpus, _ in board.ends if until > start and node not in board.out]
    for node, plans in board.planned.items():
        if node not in board.out:
            held += [(max(since, start), until, gpus) for since, until, gpus, _ in plans]
    for since, until, gpus in held:
        if since < end and until > start:
            changes[since] += gpus
            if until < end:
                changes[until] -= gpus
    return changes


def _append(stretches: list[FreeCapacity], board: Board, start: int, end: int, held: int) -> None:
    """Append a stretch, or lengthen the last one when nothing changed."""
    planned = bisect_left(board.ready, board.steps.at(start)) * board.whole
    same = stretches and (stretches[-1].planned_gpus, stretches[-1].held_gpus) == (planned, held)
    since = stretches.pop().start if same else from_us(start)
    stretches.append(
        FreeCapacity(pool=board.pool.name, start=since, end=from_us(end), planned_gpus=planned, held_gpus=held)
    )
