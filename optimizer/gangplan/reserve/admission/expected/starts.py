"""When every waiting request is expected to start: the whole line drained in simulation, once early and once late.

Capacity is counted in slots, not node by node, so that a line of ten thousand takes milliseconds. Late: each gang lasts
its walltime, and nobody overtakes; a promise is never later than what was promised. Early: each gang lasts as much of
its walltime as its tenant's used to, and a small gang may slip through what a larger one ahead of it cannot use: its
wait is shortened to the part that it is of the largest one ahead. What was learned from the past stands at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry
from gangplan.reserve.admission.expected.flow import Flow
from gangplan.reserve.moments import FOREVER
from gangplan.reserve.space import Board
from gangplan.types import Reservation, ReservationId, ReservationState

_DOUBT = 8
"""So many samples weigh as much as the assumption that a walltime is used up."""


class _Way(NamedTuple):
    """A pool that will do, how fast its accelerator is, and what the tenant may hold of it, if that is limited."""

    pool: Flow
    speed: float
    purse: Flow | None


class _Ways(NamedTuple):
    """The pools that serve a kind of request of one tenant; `plain` where there is one, and nothing but it matters."""

    share: float  # of its walltime that a gang uses
    plain: Flow | None
    all: list[_Way]


def estimate(book: Book, now: int, *, ratio: Mapping[str, float] | float) -> dict[ReservationId, tuple[int, int]]:
    """Return from when to when each waiting request is expected to start.

    `ratio` is the part of its walltime that a gang uses at least, by tenant (1 for those not named) or for all: from 0
    to 1. Requests that no pool of the calendar serves as it stands, or not in their window, are left out.
    """
    line = book.in_order()
    early, late = _Drain(book, line, now, ratio), _Drain(book, line, now, 1.0)
    ranges: dict[ReservationId, tuple[int, int]] = {}
    for entry in line:
        opens, plan = entry.earliest if entry.earliest > now else now, entry.plan
        if plan is not None and (plan.firm or opens > now):  # a window's, or one that others were given notice for
            ranges[entry.id] = opens, max(opens, plan.start)
            continue
        key = entry.kind, entry.request.tenant
        found, first = late.start(entry, key), early.start(entry, key, slip=True)
        last = found if plan is None else plan.start
        if last is not None:
            last = last if last > opens else opens
            since = last if first is None or first > last else first if first > opens else opens
            until = entry.latest
            if until is None or since <= until:
                ranges[entry.id] = since, last if until is None or last < until else until
    return ranges


class _Drain:
    """One drain of a line: each gang lasts its walltime times its tenant's ratio."""

    def __init__(self, book: Book, line: list[Entry], now: int, ratio: Mapping[str, float] | float) -> None:
        self._book, self._now = book, now
        self._share = _shares(book, ratio)
        windows = _windows(line)
        self._pools = {
            name: Flow(_capacity(board, now, windows.get(name, [])), _running(book, board, now, self._share))
            for name, board in book.boards.items()
        }
        self._purses = _Purses(book, now, self._share)
        self._ways: dict[tuple[int, str], _Ways] = {}

    def start(self, entry: Entry, key: tuple[int, str], *, slip: bool = False) -> int | None:
        """Return when the next in line starts; `key` says which are served alike."""
        ways = self._ways.get(key)
        if ways is None:
            ways = self._ways[key] = _ways(self._book, entry, self._pools, self._purses, self._share)
        slots, pool = entry.shape.gpus, ways.plain
        if pool is not None:  # nearly all of a long line
            start = pool.serve(slots, entry.limit, entry.earliest, int(entry.limit * ways.share) or 1)
        else:
            start, pool = _start(entry, ways)
        if start is None or pool is None or not slip:
            return start
        return self._now + (start - self._now) * slots // pool.widest


def _shares(book: Book, ratio: Mapping[str, float] | float) -> dict[str, float]:
    """Return each tenant's ratio, from just above 0 to 1."""
    given = ratio if isinstance(ratio, Mapping) else {entry.request.tenant: ratio for entry in book.live.values()}
    return {tenant: min(1.0, max(1e-6, share)) for tenant, share in given.items()}


def _windows(line: list[Entry]) -> dict[str, list[tuple[int, int]]]:
    """Return by pool how the slots of firm promises come and go, as (moment, slots)."""
    windows: dict[str, list[tuple[int, int]]] = {}
    for entry in line:
        if (plan := entry.plan) is not None and plan.firm:
            slots = entry.holds()
            windows.setdefault(plan.pool, []).extend([(plan.start, -slots), (plan.end, slots)])
    return windows


def _running(book: Book, board: Board, now: int, share: Mapping[str, float]) -> list[tuple[int, int]]:
    """Return the ends of what runs in a pool on nodes that stay, and the slots that come free then."""
    ends: list[tuple[int, int]] = []
    lasts: dict[str, int] = {}
    limit = board.steps.at(now)
    for end, node, gpus, holder in board.ends:
        if node in board.out or node >= limit:
            continue
        if holder not in lasts:
            lasts[holder] = _last(book.live[ReservationId(holder)], end, now, share)
        ends.append((lasts[holder], gpus))
    return ends


def _last(entry: Entry, end: int, now: int, share: Mapping[str, float]) -> int:
    """Return when a running gang is taken to end; one that is past its time already, at once."""
    since = end if entry.granted is None else entry.granted
    return max(now, since + round((end - since) * share.get(entry.request.tenant, 1.0)))


def _capacity(board: Board, now: int, windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the slots that the calendar has and firm promises leave, as (moment, change), the first being now."""
    steps, before = board.steps, 0
    changes: dict[int, int] = {}
    for at in [now, *(at for at in steps.times if at > now)]:
        limit = steps.at(at)
        slots = (limit - sum(node < limit for node in board.out)) * board.whole
        changes[at] = slots - before
        before = slots
    for at, slots in windows:
        changes[max(at, now)] = changes.get(max(at, now), 0) + slots
    return sorted((at, change) for at, change in changes.items() if change or at == now)


def _ways(book: Book, entry: Entry, pools: Mapping[str, Flow], purses: _Purses, share: Mapping[str, float]) -> _Ways:
    """Return the pools that serve a kind of request of one tenant."""
    request, ways = entry.request, list[_Way]()
    for board in book.pools_for(request):
        name = board.pool.accelerator
        ways.append(_Way(pools[board.pool.name], request.speed.get(name, 1.0), purses.of(request.tenant, name, board)))
    plain = len(ways) == 1 and ways[0].purse is None and ways[0].speed == 1.0
    return _Ways(share.get(request.tenant, 1.0), ways[0].pool if plain else None, ways)


class _Purses:
    """What tenants with a quota may hold, in simulated time; what cohorts share is not followed over time."""

    def __init__(self, book: Book, now: int, share: Mapping[str, float]) -> None:
        self._book, self._now, self._share = book, now, share
        self._flows: dict[tuple[str, str], Flow | None] = {}

    def of(self, tenant: str, accelerator: str, board: Board) -> Flow | None:
        """Return a tenant's purse, in slots of a pool; none: no limit."""
        if (tenant, accelerator) not in self._flows:
            most = self._book.quotas.most(tenant, accelerator) * board.pool.slots_per_gpu
            self._flows[tenant, accelerator] = self._flow(tenant, accelerator, int(most)) if most < FOREVER else None
        return self._flows[tenant, accelerator]

    def _flow(self, tenant: str, accelerator: str, most: int) -> Flow:
        ends: list[tuple[int, int]] = []
        for entry in self._book.granted():
            board = self._book.boards.get(entry.pool or "")
            if entry.request.tenant == tenant and board is not None and board.pool.accelerator == accelerator:
                ends.append((_last(entry, entry.hard_end or self._now, self._now, self._share), entry.holds()))
        return Flow([(self._now, most)], ends)


def _start(entry: Entry, ways: _Ways) -> tuple[int | None, Flow | None]:
    """Start a gang where it starts first, the preferred pool of equals, and return when and where."""
    slots = entry.shape.gpus
    best: tuple[int, int, _Way] | None = None
    for way in ways.all:
        limit = entry.limit if way.speed == 1.0 else max(1, round(entry.limit / way.speed))
        after = entry.earliest
        if way.purse is not None:
            free = way.purse.look(slots, limit, after)
            after = FOREVER if free is None else free
        start = way.pool.look(slots, limit, after) if after < FOREVER else None
        if start is not None and (best is None or start < best[0]):
            if best is not None:
                _leave(best[2])
            best = start, limit, way
        else:
            _leave(way)
    if best is None:
        return None, None
    start, limit, way = best
    lasts = max(1, int(limit * ways.share))
    way.pool.take(start, slots, lasts)
    if way.purse is not None:
        way.purse.take(start, slots, lasts)
    return start, way.pool


def _leave(way: _Way) -> None:
    way.pool.leave()
    if way.purse is not None:
        way.purse.leave()


# ---------------------------------------------------------------- what was learned


def learned_ratio(ended: Iterable[Reservation], quantile: float = 0.35) -> dict[str, float]:
    """Return by tenant the part of its walltime that a gang uses at least, in most cases: a low quantile, from 0 to 1.

    Of those released by themselves alone: what was cancelled, preempted or ran out says nothing of its length. With few
    samples it stays near 1.
    """
    used: dict[str, list[float]] = {}
    for one in ended:
        if one.state is ReservationState.RELEASED and one.granted_at is not None and one.ended_at is not None:
            part = (one.ended_at - one.granted_at) / one.request.limit
            used.setdefault(one.request.tenant, []).append(min(1.0, max(0.0, part)))
    return {tenant: _shrunk(sorted(parts), quantile) for tenant, parts in used.items()}


def _shrunk(parts: Sequence[float], quantile: float) -> float:
    """Return a quantile, drawn towards 1 as though so many more samples had been that."""
    weight = len(parts) / (len(parts) + _DOUBT)
    return weight * _quantile(parts, quantile) + 1.0 - weight


def _quantile(ascending: Sequence[float], quantile: float) -> float:
    """Return a quantile, straight between two samples."""
    place = quantile * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])


@dataclass(frozen=True, kw_only=True)
class EtaErrors:
    """How far the first ETAs were from the grants, in seconds; positive bias: they started later than they were told.

    `mean_s` is the mean absolute error, as in feedback's score. `kept` is the share that started no later than told.
    """

    count: int
    mean_s: float
    median_s: float
    p90_s: float
    bias_s: float
    kept: float


def eta_errors(reservations: Iterable[Reservation]) -> EtaErrors | None:
    """Return the errors of the first ETAs of all that were granted; None: there was none."""
    pairs = [(one.granted_at, one.first_eta) for one in reservations]
    missed = [(at - eta).total_seconds() for at, eta in pairs if at is not None and eta is not None]
    if not missed:
        return None
    errors = sorted(abs(seconds) for seconds in missed)
    return EtaErrors(
        count=len(missed),
        mean_s=sum(errors) / len(errors),
        median_s=_quantile(errors, 0.5),
        p90_s=_quantile(errors, 0.9),
        bias_s=sum(missed) / len(missed),
        kept=sum(seconds <= 0 for seconds in missed) / len(missed),
    )


def waited(reservations: Iterable[Reservation]) -> list[Reservation]:
    """Return those that had to wait for their grant."""
    return [one for one in reservations if one.granted_at is not None and one.granted_at > one.submitted_at]
