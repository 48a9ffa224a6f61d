"""Rows that only whole nodes keep: they bring the relaxed problem near the one in whole numbers.

The work of some workloads that comes within a window of periods, on one path, is done by nodes, is short, or still
waits at the window's end:

    sum c n + short + waiting >= work

with c the most of it that one node does. Divided by `unit`, what a node of one pool does, this is rounded up; f is the
fraction of work / unit (mixed-integer rounding: Nemhauser and Wolsey 1990):

    sum G(c / unit) n + (short + waiting) / (unit f) >= ceil(work / unit)    with G(a) = floor(a) + min(1, frac(a) / f)

There are two kinds. One counts each period's nodes. The other counts the nodes of the window's first period and all
that start within the window: a node that serves later runs from the beginning or starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gangplan.plan.model import Ints
from gangplan.plan.problem import Array, Problem
from gangplan.plan.solver.highs import Integers

LENGTHS = (1, 2, 3, 4, 6, 8, 12)
"""The windows' periods. More of them take longer and bring nearly nothing."""

MOST_SETS = 40
"""At most so many sets of workloads have rows, those of few workloads first."""

LEAST = 0.02
"""A row is worth adding if it is broken by this many nodes. A fraction f nearer to 0 or 1 gives none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows with lower bounds; each of the values stands in the row and column beside it."""

    lower: Array
    rows: Integers
    columns: Integers
    values: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class _Windows:
    """The rows of one kind for all windows of one length, shape (sets, paths, windows).

    `broken` says by how many nodes the fleet breaks each, before coefficients are rounded up.
    """

    length: int
    from_first: bool
    unit: Array
    share: Array
    level: Array
    broken: Array

    def or_where_more(self, other: _Windows) -> _Windows:
        """Return these rows, or those of another unit where the fleet breaks them more."""
        more = other.broken > self.broken
        return replace(
            self,
            unit=np.where(more, other.unit, self.unit),
            share=np.where(more, other.share, self.share),
            level=np.where(more, other.level, self.level),
            broken=np.where(more, other.broken, self.broken),
        )


class WholeNodeRows:
    """Finds the rows that a relaxed fleet breaks.

    Parameters
    ----------
    nodes, starts : columns of the fleet, shape (pools, periods)
    short, waiting : columns of the paths, shape (paths, workloads, periods); -1 for work that may not wait
    """

    def __init__(self, problem: Problem, nodes: Ints, starts: Ints, short: Ints, waiting: Ints) -> None:
        self._nodes, self._starts, self._short, self._waiting = nodes, starts, short, waiting
        self._hours = np.array(problem.periods.lengths, dtype=float)
        self._runs = problem.supply * self._hours  # hours that a node works, shape (paths, pools, periods)
        self._member = _sets(problem)
        self._gpus = _most_gpus(problem, self._member)
        self._work = np.einsum("sw,kwt->skt", self._member, problem.demand * self._hours)
        changing = [p for p, pool in enumerate(problem.pools) if pool.max_nodes > pool.min_nodes]
        self._units = np.unique(self._gpus[:, changing], axis=1).T

    def broken_by(self, values: Array) -> Rows | None:
        """Return the rows that these values of all columns break most: for each set, path and last period, by kind."""
        rows = (self._rows(window, places, values) for window, places in self._most_broken(values))
        found = [some for some in rows if len(some.lower)]
        if not found:
            return None
        before = np.cumsum([0, *(len(rows.lower) for rows in found)])
        return Rows(
            lower=np.concatenate([rows.lower for rows in found]),
            rows=np.concatenate([rows.rows + first for rows, first in zip(found, before[:-1], strict=True)]),
            columns=np.concatenate([rows.columns for rows in found]),
            values=np.concatenate([rows.values for rows in found]),
        )

    def _most_broken(self, values: Array) -> Iterator[tuple[_Windows, Any]]:
        """Return windows with the places (set, path and first period) that none of their kind breaks more."""
        for from_first in (False, True):
            windows = list(self._windows(values, from_first))
            most, which = np.full(self._work.shape, LEAST), np.full(self._work.shape, -1)
            for index, window in enumerate(windows):
                ends = slice(window.length - 1, None)
                which[..., ends][window.broken > most[..., ends]] = index
                most[..., ends] = np.maximum(most[..., ends], window.broken)
            for index, window in enumerate(windows):
                places = np.nonzero(which[..., window.length - 1 :] == index)
                if len(places[0]):
                    yield window, places

    def _windows(self, values: Array, from_first: bool) -> Iterator[_Windows]:
        """Evaluate the rows of one kind, for each length with the unit that breaks them most."""
        nodes = values[self._nodes]
        begun = np.cumsum(values[self._starts], axis=1) if from_first else np.zeros_like(nodes)
        short = np.einsum("sw,kwt->skt", self._member, values[self._short] * self._hours)
        waits = np.einsum("sw,kwt->skt", self._member, np.where(self._waiting < 0, 0.0, values[self._waiting]))
        counted = begun if from_first else nodes
        done = np.einsum("sp,kpt->skt", self._gpus, self._runs * counted)
        for length in (length for length in LENGTHS[from_first:] if length <= len(self._hours)):
            work, by_nodes = _sums(self._work, length), _sums(done, length)
            if from_first:
                standing = _sums(self._runs, length) * (nodes - begun)[:, : work.shape[-1]]
                by_nodes = by_nodes + np.einsum("sp,kpt->skt", self._gpus, standing)
            left = _sums(short, length) + waits[..., length - 1 :]
            hours = _sums(self._hours, length) if from_first else self._hours[length - 1 :]
            best: _Windows | None = None
            for gpus in self._units:
                unit = np.where(gpus > 0, gpus, np.inf)[:, None, None] * hours
                level = np.floor(work / unit) + 1
                share = work / unit + 1 - level
                clear = (share > LEAST) & (share < 1 - LEAST)
                broken = np.where(clear, level - by_nodes / unit - left / unit / np.where(clear, share, 1.0), 0.0)
                unit = np.broadcast_to(unit, broken.shape)
                found = _Windows(
                    length=length, from_first=from_first, unit=unit, share=share, level=level, broken=broken
                )
                best = found if best is None else best.or_where_more(found)
            if best is not None:
                yield best

    def _rows(self, window: _Windows, places: Any, values: Array) -> Rows:
        """Write down the rows of some windows, given by set, path and first period, as far as they are broken."""
        (s, k, t), length = places, window.length
        unit, share = window.unit[places], window.share[places]
        each = self._gpus[s][:, :, None] * sliding_window_view(self._runs, length, axis=-1)[k, :, t]
        columns = np.moveaxis(sliding_window_view(self._nodes, length, axis=-1)[:, t], 1, 0)
        if window.from_first:
            each = each[..., ::-1].cumsum(axis=-1)[..., ::-1]
            starts = np.moveaxis(sliding_window_view(self._starts, length, axis=-1)[:, t], 1, 0)
            columns = np.concatenate([columns[..., :1], starts[..., 1:]], axis=-1)
        parts = each / unit[:, None, None]
        whole = np.floor(parts + 1e-9)
        by_nodes = whole + np.minimum(1.0, np.maximum(parts - whole, 0.0) / share[:, None, None])
        waits = self._member[s] / (unit * share)[:, None]
        short = waits[:, :, None] * sliding_window_view(self._hours, length)[t][:, None]
        waiting = self._waiting[k, :, t + length - 1]
        shorts = sliding_window_view(self._short, length, axis=-1)[k, :, t]
        all_columns = np.hstack([columns.reshape(len(s), -1), shorts.reshape(len(s), -1), np.maximum(waiting, 0)])
        all_values = np.hstack([by_nodes.reshape(len(s), -1), short.reshape(len(s), -1), waits * (waiting >= 0)])
        level = window.level[places]
        kept = level - (all_values * values[all_columns]).sum(axis=1) > LEAST
        rows, where = np.nonzero(all_values[kept])
        return Rows(
            lower=level[kept],
            rows=rows,
            columns=all_columns[kept][rows, where],
            values=all_values[kept][rows, where],
        )


def _sums(values: Array, length: int) -> Array:
    """Sum over each window of so many periods (last axis)."""
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    return total[..., length:] - total[..., :-length]


def _sets(problem: Problem) -> Array:
    """Return sets of workloads, one a row: neighbours in price among those that the same pools may serve."""
    price = [rule.shortage_factor for rule in problem.class_policies]
    found: set[tuple[int, ...]] = set()
    for pools in set(problem.served_by):
        inside = [w for w, others in enumerate(problem.served_by) if others and set(others) <= set(pools)]
        inside.sort(key=lambda w: -price[w])
        found |= {tuple(inside[i:j]) for i in range(len(inside)) for j in range(i + 1, len(inside) + 1)}
    chosen = sorted(found, key=lambda members: (len(members), members))[:MOST_SETS]
    return np.array([np.isin(np.arange(len(price)), members) for members in chosen], dtype=float).reshape(
        -1, len(price)
    )


def _most_gpus(problem: Problem, sets: Array) -> Array:
    """Return the GPUs of work that a node does for each set at most, shape (sets, pools)."""
    gpus = np.zeros((len(problem.workloads), len(problem.pools)))
    for w, groups in enumerate(problem.served_by):
        for g in groups:
            gpus[w, list(problem.groups[g].pools)] = problem.speed(w, g)
    return (sets[:, :, None] * gpus).max(axis=1, initial=0.0) * problem.usable_gpus
