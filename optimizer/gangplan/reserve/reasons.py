"""Why a request waits, in fields and in words: the limit, who holds what it needs, what would help."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from gangplan.reserve.board import Board, Shape
from gangplan.reserve.book import Book
from gangplan.reserve.entry import Entry, shape_of
from gangplan.reserve.moments import from_us
from gangplan.types import GangRequest, Limit, PodSet, Reason, ReservationId, ReservationState

_SHOWN = 3
"""So many holders are named; more would not be read."""


def explain(book: Book, entry: Entry, now: int) -> Reason:
    """Say which limit holds a waiting request now."""
    boards = book.pools_for(entry.request)
    if book.calendar is None:
        return Reason(
            limit=Limit.CALENDAR,
            message="no calendar is published yet, so nothing can be promised",
            helps=("publish a plan: gangplan plan",),
        )
    if entry.earliest > now:
        return _window(entry)
    limit = _limit(boards, entry, now)
    holders = _holders(book, boards) if limit in (Limit.CAPACITY, Limit.TOPOLOGY) else _ahead(book, entry)
    if limit is Limit.CALENDAR:
        holders = ()
    message = f"{_wish(entry.request)}: {_because(limit, boards, entry, now)}{_start(entry)}"
    named = tuple(holder.id for holder in holders[:_SHOWN])
    words = "; ".join(_holding(holder) for holder in holders[:_SHOWN])
    more = " and others" if len(holders) > _SHOWN else ""
    return Reason(
        limit=limit,
        message=f"{message}. {_verb(limit)}: {words}{more}" if words else message,
        holders=named,
        helps=_helps(book, entry, now),
    )


def far_back(entry: Entry, depth: int) -> Reason:
    """Say that a request stands too far back in the line for a promise."""
    message = f"{_wish(entry.request)}: {depth} gangs or more are ahead of it; no start is promised yet"
    return Reason(limit=Limit.CAPACITY, message=message)


def _window(entry: Entry) -> Reason:
    """Say that the window is still to come, and whether its start is promised."""
    opens = _clock(from_us(entry.earliest))
    promised = f"its slots are promised for {_clock(from_us(entry.plan.start))}" if entry.plan else "no slots yet"
    return Reason(limit=Limit.WINDOW, message=f"{_wish(entry.request)}: the window opens at {opens}; {promised}")


def _limit(boards: list[Board], entry: Entry, now: int) -> Limit:
    """Return the limit that holds it, judged on the pool that comes nearest to serving it."""
    end = now + entry.limit
    gpus = entry.request.gpus
    if any(_fits_beside_running(board, entry.shape, now, end) for board in boards):
        return Limit.ORDER
    if any(board.free_now(board.steps.least(now, end)) >= gpus for board in boards):
        return Limit.TOPOLOGY
    if all(board.steps.least(now, end) * board.whole < gpus for board in boards):
        return Limit.CALENDAR
    return Limit.CAPACITY


def _fits_beside_running(board: Board, shape: Shape, now: int, end: int) -> bool:
    """Tell whether the gang would fit now if nothing were promised to others."""
    promised, board.planned = board.planned, {}
    try:
        return board.fit_now(shape, now, end) is not None
    finally:
        board.planned = promised


def _holders(book: Book, boards: list[Board]) -> list[Entry]:
    """Return the holders of slots of these pools that end first."""
    first: dict[str, Entry] = {}
    for board in boards:
        for _, _, _, holder in board.ends[: 16 * _SHOWN]:
            first[holder] = book.live[ReservationId(holder)]
    return sorted(first.values(), key=lambda entry: (entry.expires or 0, entry.arrival))


def _ahead(book: Book, entry: Entry) -> list[Entry]:
    """Return the promised gangs that it must not delay, the first to start first."""
    names = {board.pool.name for board in book.pools_for(entry.request)}
    ahead = [
        (other.plan.start, other.arrival, other)
        for other in book.planned.values()
        if other is not entry and other.plan is not None and other.plan.pool in names
    ]
    return [other for _, _, other in sorted(ahead, key=lambda one: one[:2])]


def _because(limit: Limit, boards: list[Board], entry: Entry, now: int) -> str:
    """Say the limit in words, with the numbers of the pools that could serve it."""
    end = now + entry.limit
    free = ", ".join(
        f"{board.free_now(board.steps.least(now, end))} of {board.steps.least(now, end) * board.whole} free on "
        f"{board.pool.name}"
        for board in boards
    )
    if not boards:
        return f"no pool has {' or '.join(entry.request.accelerators)} in the present calendar"
    if limit is Limit.ORDER:
        return f"the slots are free now ({free}) but promised to gangs ahead of it"
    if limit is Limit.TOPOLOGY:
        close = entry.shape.level if entry.shape.required else None
        together = f"in one {close}" if close else "in pieces as large as its pods"
        return f"enough GPUs are free ({free}) but not {together}"
    if limit is Limit.CALENDAR:
        return f"the calendar has too few nodes for so long from now on ({free})"
    return f"too few GPUs are free ({free})"


def _start(entry: Entry) -> str:
    """Say when it will start."""
    return f"; it starts by {_clock(from_us(entry.plan.start))}" if entry.plan else "; no start is promised yet"


def _verb(limit: Limit) -> str:
    return "Promised before it" if limit is Limit.ORDER else "Held by"


def _holding(entry: Entry) -> str:
    """Name a holder as its users know it."""
    what = f"{entry.request.tenant} {entry.request.request_key} ({entry.request.gpus} GPUs"
    if entry.state is ReservationState.GRANTED and entry.expires is not None:
        return f"{what} until {_clock(from_us(entry.expires))})"
    return f"{what} from {_clock(from_us(entry.plan.start))})" if entry.plan else f"{what})"


def _helps(book: Book, entry: Entry, now: int) -> tuple[str, ...]:
    """Say what of its own wishes would let it start now: another accelerator, no rack, a smaller gang."""
    helps: list[str] = []
    for name, boards in book.by_accelerator.items():
        if name not in entry.request.accelerators and _fits_any(boards, entry.request, entry, now):
            helps.append(f"accept {name}: it could start now")
    own = book.pools_for(entry.request)
    wish = entry.request.topology
    if wish and wish.required and _fits_any(own, replace(entry.request, topology=None), entry, now):
        helps.append(f"prefer one {wish.level} instead of requiring it: it could start now")
    if smaller := _smaller(own, entry, now):
        helps.append(f"ask for {_wish(smaller)}: it could start now")
    return tuple(helps)


def _fits_any(boards: list[Board], request: GangRequest, entry: Entry, now: int) -> bool:
    """Tell whether a changed request would start now on one of these pools."""
    shape = shape_of(request)
    return any(board.fit_now(shape, now, now + entry.limit) is not None for board in boards)


def _smaller(boards: list[Board], entry: Entry, now: int) -> GangRequest | None:
    """Return the request with the most pods of its first pod set, halved again and again, that would start now."""
    first, *rest = entry.request.pod_sets
    count = first.count // 2
    while count and not rest:
        smaller = replace(entry.request, pod_sets=(PodSet(count=count, gpus_per_pod=first.gpus_per_pod),))
        if _fits_any(boards, smaller, entry, now):
            return smaller
        count //= 2
    return None


def _wish(request: GangRequest) -> str:
    """Say what was asked for."""
    pods = " + ".join(f"{pods.count} x {pods.gpus_per_pod}" for pods in request.pod_sets)
    return f"{pods} GPUs of {' or '.join(request.accelerators)}"


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")
