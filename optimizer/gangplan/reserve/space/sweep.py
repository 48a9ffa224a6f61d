"""The nodes of a board from ever later starts, each as it stays free from the start for a fixed length."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from heapq import merge
from typing import TYPE_CHECKING

from gangplan.reserve.moments import FOREVER
from gangplan.reserve.space.packing import Shape, Slots, place, width_of

if TYPE_CHECKING:
    from gangplan.reserve.space.board import Board


class Sweep:
    """Goes over the moments at which something changes, and keeps what each node has free from there on.

    Most nodes are as at the beginning, so only those that differ are kept (`_stays`); `_nodes_with` counts the nodes by
    what stays free, which rules most moments out. It holds for the board as it is: any change makes it void.
    """

    def __init__(self, board: Board, after: int, length: int) -> None:
        self.length = length
        self.moment = after
        self._board = board
        self._over = not board.ends or board.ends[-1][0] <= after  # all that runs now has ended by then
        self._base = [*([] for _ in range(board.whole)), board.ready] if self._over else board.by_free
        self._limit = self._limit_at(after)
        self._nodes_with = [bisect_left(nodes, self._limit) for nodes in self._base]
        self._stays: dict[int, int] = {}
        self._raised: set[int] | None = None  # nodes with more free than when the gang was last looked at; None: all
        self._ended = len(board.ends) if self._over else 0
        self._started = bisect_left(board.plan_starts, (after - board.longest,))
        self._plan_ended = bisect_right(board.plan_ends, (after, FOREVER))
        self.advance(after)

    def first(self, shape: Shape, until: int, tries: int) -> Slots | None:
        """Go on to the first moment up to `until` at which the gang fits; from the `tries`-th miss on it does not."""
        self._raised = None
        while True:
            if shape.fits_in(self._nodes_with):
                if slots := self._fit(shape):
                    return slots
                self._raised = set()
                tries -= 1
            moment = self._next()
            if not tries or moment > until:
                return None
            self.advance(moment)

    def _next(self) -> int:
        """Return the next moment at which something may become free."""
        board = self._board
        step = bisect_right(board.steps.times, self.moment)
        return min(
            board.ends[self._ended][0] if self._ended < len(board.ends) else FOREVER + 1,
            board.plan_ends[self._plan_ended][0] if self._plan_ended < len(board.plan_ends) else FOREVER + 1,
            board.steps.times[step] if step < len(board.steps.times) else FOREVER + 1,
        )

    def advance(self, moment: int) -> None:
        """Look from another moment, not before the present one."""
        self.moment = moment
        self._set_limit(self._limit_at(moment))
        again = self._end_running(moment)
        again.update(self._change_plans(moment))
        for node in again - self._board.out:
            self._set(node, self._board.free_over(node, moment, moment + self.length))

    def _limit_at(self, moment: int) -> int:
        """Return how many nodes there are for the whole length."""
        return min(self._board.steps.least(moment, moment + self.length), self._board.size)

    def _set_limit(self, limit: int) -> None:
        """Count the nodes below another limit."""
        by = 1 if limit > self._limit else -1
        for node in range(min(limit, self._limit), max(limit, self._limit)):
            if node not in self._board.out:
                self._nodes_with[self._of(node)] += by
                if self._raised is not None and by > 0:
                    self._raised.add(node)
        self._limit = limit

    def _end_running(self, moment: int) -> set[int]:
        """Free what has ended; return the nodes on which something is promised too."""
        board, ends, at = self._board, self._board.ends, self._ended
        again: set[int] = set()
        while at < len(ends) and ends[at][0] <= moment:
            _, node, gpus, _ = ends[at]
            at += 1
            if node in board.planned:
                again.add(node)
            elif node not in board.out:
                self._set(node, self._of(node) + gpus)
        self._ended = at
        return again

    def _change_plans(self, moment: int) -> Iterator[int]:
        """Yield the nodes of the promises that begin before the length is over, or are over."""
        starts, ends = self._board.plan_starts, self._board.plan_ends
        while self._started < len(starts) and starts[self._started][0] < moment + self.length:
            yield starts[self._started][1]
            self._started += 1
        while self._plan_ended < len(ends) and ends[self._plan_ended][0] <= moment:
            yield ends[self._plan_ended][1]
            self._plan_ended += 1

    def _of(self, node: int) -> int:
        """Return what stays free of a node."""
        stays = self._stays.get(node)
        if stays is not None:
            return stays
        return self._board.whole if self._over else self._board.free[node]

    def _set(self, node: int, stays: int) -> None:
        """Note what stays free of a node."""
        old = self._of(node)
        self._stays[node] = stays
        if node < self._limit:
            self._nodes_with[old] -= 1
            self._nodes_with[stays] += 1
        if self._raised is not None and stays > old:
            self._raised.add(node)

    # ------------------------------------------------------------ where a gang fits

    def _fit(self, shape: Shape) -> Slots | None:
        """Return the gang's slots at the present moment, best-fit."""
        pool = self._board.pool
        if shape.must is None or self._raised is None:
            return place(self._ascending(shape), shape, pool)
        near = self._near(self._raised, width_of(pool, shape.must), shape.least)
        return place(iter(sorted(near)), shape, pool)

    def _near(self, nodes: set[int], width: int, least: int) -> Iterator[tuple[int, int]]:
        """Yield the nodes of the domains of some: a gang that must stand in one did not fit in the others before."""
        for domain in {node // width for node in nodes}:
            for node in range(domain * width, min(self._limit, (domain + 1) * width)):
                if node not in self._board.out and (stays := self._of(node)) >= least:
                    yield stays, node

    def _ascending(self, shape: Shape) -> Iterator[tuple[int, int]]:
        """Yield (free GPUs, node), the fullest first; of nodes that are alike no more than the gang can use."""
        differ = [(stays, node) for node, stays in self._stays.items() if stays >= shape.least and node < self._limit]
        most = FOREVER if shape.level else shape.pod_count
        return merge(self._unchanged(shape.least, most), sorted(differ))

    def _unchanged(self, least: int, most: int) -> Iterator[tuple[int, int]]:
        """Yield the nodes that are as at the beginning, up to so many with as much free."""
        for free in range(least, len(self._base)):
            left = most
            for node in self._base[free]:
                if node >= self._limit or not left:
                    break
                if node not in self._stays:
                    left -= 1
                    yield free, node
