"""From ever later starts: what stays free of each node of a board, for a fixed length."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge

from gangplan.clock import FOREVER
from gangplan.reserve.space.outage import Span
from gangplan.reserve.space.packing import Shape, Slots, place, width_of
from gangplan.reserve.space.steps import Steps
from gangplan.types import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardView:
    """A board as a sweep reads it (see `Board` for the fields); any change of the board makes it void."""

    pool: Pool
    steps: Steps
    size: int
    free: Sequence[int]
    by_free: Sequence[Sequence[int]]
    gone: frozenset[int]  # nodes that are out, and not expected back
    outages: Mapping[int, Span]
    ready: Sequence[int]
    ends: Sequence[tuple[int, int, int, str]]
    planned: Container[int]
    plan_starts: Sequence[tuple[int, int]]
    plan_ends: Sequence[tuple[int, int]]
    longest: int
    free_over: Callable[[int, int, int], int]


class Sweep:
    """Goes from one moment at which something changes to the next, and keeps what each node has free from there on.

    Most nodes are as at the beginning, so only those that differ are kept (`_stays`); `_nodes_with` counts the nodes by
    what stays free, which rules most moments out.
    """

    def __init__(self, board: BoardView, after: int, length: int) -> None:
        self.length = length
        self.moment = after
        self._board = board
        self._whole = board.pool.slots_per_node
        self._over = not board.ends or board.ends[-1][0] <= after  # all that runs now has ended by then
        self._base: Sequence[Sequence[int]] = board.by_free
        if self._over:
            self._base = [*(() for _ in range(self._whole)), board.ready]
        self._limit = self._limit_at(after)
        self._nodes_with = [bisect_left(nodes, self._limit) for nodes in self._base]
        self._stays: dict[int, int] = {}
        self._raised: set[int] | None = None  # nodes with more free than when the gang was last looked at; None: all
        self._ended = len(board.ends) if self._over else 0
        self._started = bisect_left(board.plan_starts, (after - board.longest,))
        self._plan_ended = bisect_right(board.plan_ends, (after, FOREVER))
        for node, outage in board.outages.items():
            if not outage.begin and node not in board.gone:  # what it starts from leaves it out
                self._stays[node] = board.free_over(node, after, after + length)
                self._nodes_with[self._stays[node]] += node < self._limit
        self.advance(after)

    def first(self, shape: Shape, until: int, tries: int) -> Slots | None:
        """Go on to the first moment up to `until` at which the gang fits; give up after `tries` looks at the nodes."""
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
        for node in again - self._board.gone:
            self._set(node, self._board.free_over(node, moment, moment + self.length))

    def _limit_at(self, moment: int) -> int:
        """Return how many nodes there are for the whole length."""
        return min(self._board.steps.least(moment, moment + self.length), self._board.size)

    def _set_limit(self, limit: int) -> None:
        """Let another number of nodes count."""
        by = 1 if limit > self._limit else -1
        for node in range(min(limit, self._limit), max(limit, self._limit)):
            if node not in self._board.gone:
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
            if node in board.planned or node in board.outages:
                again.add(node)
            else:
                self._set(node, self._of(node) + gpus)
        self._ended = at
        return again

    def _change_plans(self, moment: int) -> Iterator[int]:
        """Yield the nodes of the promises that now begin before the length is over, or have ended."""
        starts, ends = self._board.plan_starts, self._board.plan_ends
        while self._started < len(starts) and starts[self._started][0] < moment + self.length:
            yield starts[self._started][1]
            self._started += 1
        while self._plan_ended < len(ends) and ends[self._plan_ended][0] <= moment:
            yield ends[self._plan_ended][1]
            self._plan_ended += 1

    def _of(self, node: int) -> int:
        """Return the slots of a node that stay free."""
        stays = self._stays.get(node)
        if stays is not None:
            return stays
        return self._whole if self._over else self._board.free[node]

    def _set(self, node: int, stays: int) -> None:
        """Set the slots of a node that stay free."""
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
        """Yield the nodes of the domains that these nodes are in: in the others the gang did not fit before."""
        for domain in {node // width for node in nodes}:
            for node in range(domain * width, min(self._limit, (domain + 1) * width)):
                if node not in self._board.gone and (stays := self._of(node)) >= least:
                    yield stays, node

    def _ascending(self, shape: Shape) -> Iterator[tuple[int, int]]:
        """Yield (free slots, node), the fullest first; of nodes that are alike no more than the gang can use."""
        least, limit = shape.least, self._limit
        differ = [(stays, node) for node, stays in self._stays.items() if stays >= least and node < limit]
        most = FOREVER if shape.level else shape.pod_count
        return merge(self._unchanged(least, most), sorted(differ))

    def _unchanged(self, least: int, most: int) -> Iterator[tuple[int, int]]:
        """Yield the nodes that are as at the beginning, at most `most` of each number of free slots."""
        for free in range(least, len(self._base)):
            left = most
            for node in self._base[free]:
                if node >= self._limit or not left:
                    break
                if node not in self._stays:
                    left -= 1
                    yield free, node
