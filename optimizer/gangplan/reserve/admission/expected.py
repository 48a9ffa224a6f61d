"""When every waiting request is expected to start: the whole line drained in simulation, once early and once late.

Capacity is counted in slots, not node by node, so that a line of ten thousand takes milliseconds. Late: each gang lasts
its walltime, and nobody overtakes; a promise is never later than what was promised. Early: each gang lasts as much of
its walltime as its tenant's gangs used to, and a small gang may use what a larger one ahead of it cannot: its wait is
multiplied by its size over that of the largest gang ahead. What was learned from the past stands at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gangplan.clock import FOREVER
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry
from gangplan.reserve.admission.flow import Flow
from gangplan.reserve.space import Board
from gangplan.types import Reservation, ReservationId, ReservationState

_DOUBT = 8
"""How many samples weigh as much as the assumption that a walltime is used up; more make first guesses later."""


class _Route(NamedTuple):
    """A pool that will do, its accelerator's speed, and the slots of it that the tenant may hold (None: no limit)."""

    pool: Flow
    speed: float
    quota: Flow | None

    def leave(self) -> None:
        """Forget what was looked for last."""
        self.pool.leave()
        if self.quota is not None:
            self.quota.leave()


class _Routes(NamedTuple):
    """The pools that serve a kind of request of one tenant."""

    used: float  # the part of its walltime that a gang uses
    routes: list[_Route]
    only: Flow | None  # the pool, where there is but one route, at speed 1 and without a limit


def estimate(book: Book, now: int, *, ratio: Mapping[str, float] | float) -> dict[ReservationId, tuple[int, int]]:
    """Return from when to when each waiting request is expected to start.

    Requests that no pool of the calendar serves as it stands, or not in their window, are left out.

    Parameters
    ----------
    ratio : the part of its walltime that a gang uses at least, from 0 to 1, by tenant (1 for others) or for all
    """
    line = book.in_order()
    early, late = _Drain(book, line, now, ratio), _Drain(book, line, now, 1.0)
    ranges: dict[ReservationId, tuple[int, int]] = {}
    for entry in line:
        opens, promise = entry.earliest if entry.earliest > now else now, entry.promise
        if promise is not None and (promise.firm or opens > now):  # a window, or slots of gangs that were given notice
            ranges[entry.id] = opens, max(opens, promise.start)
            continue
        key = entry.kind, entry.request.tenant
        served, first = late.start(entry, key), early.start(entry, key, overtakes=True)
        last = served if promise is None else promise.start
        if last is not None:
            last = last if last > opens else opens
            since = last if first is None or first > last else first if first > opens else opens
            until = entry.latest
            if until is None or since <= until:
                ranges[entry.id] = since, last if until is None or last < until else until
    return ranges


class _Drain:
    """One simulation of a line that is served in order: each gang lasts its walltime times its tenant's ratio."""

    def __init__(self, book: Book, line: list[Entry], now: int, ratio: Mapping[str, float] | float) -> None:
        self._book, self._now = book, now
        ratios = ratio if isinstance(ratio, Mapping) else {entry.request.tenant: ratio for entry in book.live.values()}
        self._used = {tenant: min(1.0, max(1e-6, used)) for tenant, used in ratios.items()}
        windows = _windows(line)
        self._pools = {
            name: Flow(_capacity(board, now, windows.get(name, [])), self._running(board))
            for name, board in book.occupancy.boards.items()
        }
        self._quotas: dict[tuple[str, str], Flow | None] = {}
        self._routes: dict[tuple[int, str], _Routes] = {}

    def start(self, entry: Entry, key: tuple[int, str], *, overtakes: bool = False) -> int | None:
        """Return when the next in line starts; those with the same `key` are served alike."""
        routes = self._routes.get(key)
        if routes is None:
            routes = self._routes[key] = self._routes_for(entry)
        slots, pool = entry.shape.gpus, routes.only
        if pool is not None:  # nearly all of a long line
            start = pool.serve(slots, entry.limit, entry.earliest, int(entry.limit * routes.used) or 1)
        else:
            start, pool = _start(entry, routes)
        if start is None or pool is None or not overtakes:
            return start
        return self._now + (start - self._now) * slots // pool.widest

    def _routes_for(self, entry: Entry) -> _Routes:
        """Return the pools that serve a kind of request of one tenant."""
        request, routes = entry.request, list[_Route]()
        for board in self._book.occupancy.pools_for(request):
            speed = request.speed.get(board.pool.accelerator, 1.0)
            routes.append(_Route(self._pools[board.pool.name], speed, self._quota(request.tenant, board)))
        plain = len(routes) == 1 and routes[0].quota is None and routes[0].speed == 1.0
        return _Routes(self._used.get(request.tenant, 1.0), routes, routes[0].pool if plain else None)

    def _quota(self, tenant: str, board: Board) -> Flow | None:
        """Return the slots of a pool that a tenant may hold over time; what its cohort shares is not followed."""
        name = board.pool.accelerator
        if (tenant, name) not in self._quotas:
            most = self._book.occupancy.quotas.most(tenant, name) * board.pool.slots_per_gpu
            limited = most < FOREVER
            self._quotas[tenant, name] = Flow([(self._now, int(most))], self._held(tenant, name)) if limited else None
        return self._quotas[tenant, name]

    def _held(self, tenant: str, accelerator: str) -> list[tuple[int, int]]:
        """Return the ends of a tenant's gangs, and the slots that come free then."""
        ends: list[tuple[int, int]] = []
        for entry in self._book.granted():
            board = self._book.occupancy.boards.get(entry.pool or "")
            if entry.request.tenant == tenant and board is not None and board.pool.accelerator == accelerator:
                ends.append((self._end(entry, entry.hard_end or self._now), entry.holds()))
        return ends

    def _running(self, board: Board) -> list[tuple[int, int]]:
        """Return the ends of what runs in a pool on nodes that stay, and the slots that come free then."""
        ends: dict[str, int] = {}
        freed: list[tuple[int, int]] = []
        limit = board.steps.at(self._now)
        for end, node, gpus, holder in board.ends:
            if node in board.out or node >= limit:
                continue
            if holder not in ends:
                ends[holder] = self._end(self._book.live[ReservationId(holder)], end)
            freed.append((ends[holder], gpus))
        return freed

    def _end(self, entry: Entry, hard_end: int) -> int:
        """Return when a running gang is taken to end; one that has run longer than that already, at once."""
        since = hard_end if entry.granted is None else entry.granted
        return max(self._now, since + round((hard_end - since) * self._used.get(entry.request.tenant, 1.0)))


def _windows(line: list[Entry]) -> dict[str, list[tuple[int, int]]]:
    """Return by pool how the slots of firm promises come and go, as (moment, slots)."""
    windows: dict[str, list[tuple[int, int]]] = {}
    for entry in line:
        if (promise := entry.promise) is not None and promise.firm:
            slots = entry.holds()
            windows.setdefault(promise.pool, []).extend([(promise.start, -slots), (promise.end, slots)])
    return windows


def _capacity(board: Board, now: int, windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the slots that the calendar has and firm promises leave, as (moment, change), the first being now."""
    before, changes = 0, dict[int, int]()
    for at in [now, *(at for at in board.changes() if at > now)]:
        slots = board.nodes_at(at) * board.whole
        changes[at] = slots - before
        before = slots
    for at, slots in windows:
        changes[max(at, now)] = changes.get(max(at, now), 0) + slots
    return sorted((at, change) for at, change in changes.items() if change or at == now)


def _start(entry: Entry, routes: _Routes) -> tuple[int | None, Flow | None]:
    """Start a gang where it starts first, the preferred pool of equals, and return when and where."""
    slots = entry.shape.gpus
    best: tuple[int, int, _Route] | None = None
    for route in routes.routes:
        limit = entry.limit if route.speed == 1.0 else max(1, round(entry.limit / route.speed))
        after: int | None = entry.earliest
        if route.quota is not None:
            after = route.quota.look(slots, limit, entry.earliest)
        start = None if after is None else route.pool.look(slots, limit, after)
        if start is None or (best is not None and start >= best[0]):
            route.leave()
            continue
        if best is not None:
            best[2].leave()
        best = start, limit, route
    if best is None:
        return None, None
    start, limit, route = best
    lasts = max(1, int(limit * routes.used))
    route.pool.take(start, slots, lasts)
    if route.quota is not None:
        route.quota.take(start, slots, lasts)
    return start, route.pool


# ---------------------------------------------------------------- what was learned


def learned_ratio(ended: Iterable[Reservation], quantile: float = 0.35) -> dict[str, float]:
    """Return by tenant the part of its walltime that a gang uses at least, in most cases: a low quantile, from 0 to 1.

    Only gangs that were released count: one that was cancelled, preempted or ran out does not show how long it needed.
    With few samples the ratio stays near 1.
    """
    used: dict[str, list[float]] = {}
    for reservation in ended:
        granted, end = reservation.granted_at, reservation.ended_at
        if reservation.state is ReservationState.RELEASED and granted is not None and end is not None:
            part = (end - granted) / reservation.request.limit
            used.setdefault(reservation.request.tenant, []).append(min(1.0, max(0.0, part)))
    return {tenant: _shrunk(sorted(parts), quantile) for tenant, parts in used.items()}


def _shrunk(parts: Sequence[float], quantile: float) -> float:
    """Return a quantile, drawn towards 1 as by `_DOUBT` more samples of 1."""
    weight = len(parts) / (len(parts) + _DOUBT)
    return weight * _quantile(parts, quantile) + 1.0 - weight


def _quantile(ascending: Sequence[float], quantile: float) -> float:
    """Return a quantile, linear between two samples."""
    place = quantile * (len(ascending) - 1)
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])


@dataclass(frozen=True, kw_only=True)
class EtaErrors:
    """How far the first ETAs were from the grants, in seconds; a positive bias means starts later than expected.

    `mean_s` is the mean absolute error, as in feedback's score. `kept` is the part that started no later than expected.
    """

    count: int
    mean_s: float
    median_s: float
    p90_s: float
    bias_s: float
    kept: float


def eta_errors(reservations: Iterable[Reservation]) -> EtaErrors | None:
    """Return the errors of the first ETAs of all that were granted; None: there was none."""
    pairs = [(reservation.granted_at, reservation.first_eta) for reservation in reservations]
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
    return [each for each in reservations if each.granted_at is not None and each.granted_at > each.submitted_at]
