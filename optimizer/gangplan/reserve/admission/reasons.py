"""Why a request waits, in fields and in words: the limit, who holds what it needs, what would help and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry, shape_of
from gangplan.reserve.moments import from_us
from gangplan.reserve.space import Board, Shape
from gangplan.types import GangRequest, Limit, PodSet, Reason, ReservationState

_SHOWN = 3
"""So many holders are named; more would not be read."""


def say_why(book: Book, now: int) -> None:
    """Tell those for whom it has changed why they wait."""
    for id in book.unsaid:
        entry = book.live.get(id)
        if entry is not None and entry.state.waits:
            far = entry.plan is None and entry.earliest <= now and len(book.planned) >= book.policy.depth
            entry.reason = far_back(entry, book.policy.depth) if far else explain(book, entry, now)
            book.touch(entry)
    book.unsaid.clear()


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
    limit = _limit(book, boards, entry, now)
    holders = _holders(book, boards, entry, limit)
    message = f"{_wish(entry.request)}: {_because(book, limit, boards, entry, now)}{_start(entry)}"
    named = tuple(holder.id for holder in holders[:_SHOWN])
    words = "; ".join(_holding(holder) for holder in holders[:_SHOWN])
    more = " and others" if len(holders) > _SHOWN else ""
    return Reason(
        limit=limit,
        message=f"{message}. {_verb(limit)}: {words}{more}" if words else message,
        holders=named,
        helps=_helps(book, entry, now, limit, holders),
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


def _limit(book: Book, boards: list[Board], entry: Entry, now: int) -> Limit:
    """Return the limit that holds it, judged on the pool that comes nearest to serving it."""
    if boards and not any(book.in_quota(entry, board, now) for board in boards):
        return Limit.QUOTA
    gpus = entry.request.gpus
    if any(_fits_beside_running(board, entry.shape, now, _end(entry, board, now)) for board in boards):
        return Limit.ORDER
    least = {board.pool.name: board.steps.least(now, _end(entry, board, now)) for board in boards}
    if any(board.free_now(least[board.pool.name]) >= gpus for board in boards):
        return Limit.TOPOLOGY
    if all(least[board.pool.name] * board.whole < gpus for board in boards):
        return Limit.CALENDAR
    return Limit.CAPACITY


def _end(entry: Entry, board: Board, now: int) -> int:
    return now + entry.limit_on(board.pool.accelerator)


def _fits_beside_running(board: Board, shape: Shape, now: int, end: int) -> bool:
    """Tell whether the gang would fit now if nothing were promised to others."""
    promised, board.planned = board.planned, {}
    try:
        return board.fit_now(shape, now, end) is not None
    finally:
        board.planned = promised


def _holders(book: Book, boards: list[Board], entry: Entry, limit: Limit) -> list[Entry]:
    """Return who holds what it needs: the first to end first; or who was promised it before."""
    if limit is Limit.CALENDAR:
        return []
    if limit is Limit.ORDER:
        return _ahead(book, entry)
    tenants = _sharing(book, boards, entry) if limit is Limit.QUOTA else None
    first: dict[str, Entry] = {}
    for board in boards:
        for _, _, _, holder in board.ends if tenants else board.ends[: 16 * _SHOWN]:
            there = book.live.get(holder)  # pyright: ignore[reportArgumentType] (a board knows ids as texts)
            if there is not None and (tenants is None or there.request.tenant in tenants):
                first[holder] = there
    return sorted(first.values(), key=lambda holder: (holder.expires or 0, holder.arrival))


def _sharing(book: Book, boards: list[Board], entry: Entry) -> set[str]:
    """Return whose returns would free quota: its own tenant where that is at its limit, else the cohort's borrowers."""
    tenant, gpus = entry.request.tenant, entry.request.gpus
    tenants: set[str] = set()
    for board in boards:
        name, spg = board.pool.accelerator, board.pool.slots_per_gpu
        cohort = book.quotas.cohort(tenant, name)
        full = book.quotas.held(tenant, name) + gpus / spg > book.quotas.limit(tenant, name)
        tenants.update({tenant} if full or cohort is None else set(cohort.members))
    return tenants


def _ahead(book: Book, entry: Entry) -> list[Entry]:
    """Return the promised gangs that it must not delay, the first to start first."""
    names = {board.pool.name for board in book.pools_for(entry.request)}
    ahead = [
        (other.plan.start, other.arrival, other)
        for other in book.planned.values()
        if other is not entry and other.plan is not None and other.plan.pool in names
    ]
    return [other for _, _, other in sorted(ahead, key=lambda one: one[:2])]


def _because(book: Book, limit: Limit, boards: list[Board], entry: Entry, now: int) -> str:
    """Say the limit in words, with the numbers of the pools that could serve it."""
    if limit is Limit.QUOTA:
        return "; ".join(dict.fromkeys(_quota_words(book, entry, board) for board in boards))
    if not boards:
        return f"no pool has {' or '.join(entry.request.accelerators)} in the present calendar"
    least = [(board, board.steps.least(now, _end(entry, board, now))) for board in boards]
    free = ", ".join(
        f"{board.free_now(nodes)} of {nodes * board.whole} free on {board.pool.name}" for board, nodes in least
    )
    if limit is Limit.ORDER:
        return f"the slots are free now ({free}) but promised to gangs ahead of it"
    if limit is Limit.TOPOLOGY:
        close = entry.shape.level if entry.shape.required else None
        together = f"in one {close}" if close else "in pieces as large as its pods"
        return f"enough GPUs are free ({free}) but not {together}"
    if limit is Limit.CALENDAR:
        return f"the calendar has too few nodes for so long from now on ({free})"
    return f"too few GPUs are free ({free})"


def _quota_words(book: Book, entry: Entry, board: Board) -> str:
    """Say how much of its quota, and of its cohort's, is in use."""
    tenant, name = entry.request.tenant, board.pool.accelerator
    quota, cohort = book.quotas.quota(tenant, name), book.quotas.cohort(tenant, name)
    if quota is None:
        return f"{tenant} has no limit on {name}"
    words = f"{tenant} holds {book.quotas.held(tenant, name):g} of its {quota.nominal} {name}"
    if cohort is None:
        return words
    held = sum(book.quotas.held(member, name) for member in cohort.members)
    borrow = "any" if quota.borrow is None else f"up to {quota.borrow}"
    together = f"its cohort {book.policy.tenant(tenant).cohort} {held:g} of {cohort.nominal}"
    return f"{words} (it may borrow {borrow}), {together}"


def _start(entry: Entry) -> str:
    """Say when it will start."""
    return f"; it starts by {_clock(from_us(entry.plan.start))}" if entry.plan else "; no start is promised yet"


def _verb(limit: Limit) -> str:
    return "Promised before it" if limit is Limit.ORDER else "Held by"


def _holding(entry: Entry) -> str:
    """Name a holder as its users know it."""
    what = f"{entry.request.tenant} {entry.request.request_key} ({entry.request.gpus} GPUs"
    if entry.state is ReservationState.GRANTED and entry.expires is not None:
        leaves = ", which it was told to leave then" if entry.leave else ""
        return f"{what} until {_clock(from_us(entry.expires))}{leaves})"
    return f"{what} from {_clock(from_us(entry.plan.start))})" if entry.plan else f"{what})"


def _helps(book: Book, entry: Entry, now: int, limit: Limit, holders: list[Entry]) -> tuple[str, ...]:
    """Say what would let it start now: another accelerator, no rack, a smaller gang; or later: a return, a start."""
    helps: list[str] = []
    for name, boards in book.by_accelerator.items():
        if name not in entry.request.accelerators and _fits_any(book, boards, entry.request, entry, now):
            helps.append(f"accept {name}: it could start now")
    own = book.pools_for(entry.request)
    wish = entry.request.topology
    if wish and wish.required and _fits_any(book, own, replace(entry.request, topology=None), entry, now):
        helps.append(f"prefer one {wish.level} instead of requiring it: it could start now")
    if smaller := _smaller(book, own, entry, now):
        helps.append(f"ask for {_wish(smaller)}: it could start now")
    if limit in (Limit.CAPACITY, Limit.QUOTA) and (back := _return(entry, holders)):
        helps.append(back)
    if entry.latest is not None and entry.plan is None:
        helps.append("allow a later start: nothing fits by the last one")
    return tuple(helps)


def _return(entry: Entry, holders: list[Entry]) -> str:
    """Say whose return would free as much as it needs, and by when that is."""
    gpus = 0
    for holder in holders:
        gpus += holder.holds()
        if gpus >= entry.request.gpus and holder.expires is not None:
            who = f"{holder.request.tenant} gives {holder.request.request_key} back"
            return f"when {who}: by {_clock(from_us(holder.expires))}"
    return ""


def _fits_any(book: Book, boards: list[Board], request: GangRequest, entry: Entry, now: int) -> bool:
    """Tell whether a changed request would start now on one of these pools."""
    shape = shape_of(request)
    for board in boards:
        end, name = _end(entry, board, now), board.pool.accelerator
        within = board.pool.slot == request.slot and book.quotas.allows(
            request.tenant, name, request.gpus / board.pool.slots_per_gpu, now, end
        )
        if within and board.fit_now(shape, now, end) is not None:
            return True
    return False


def _smaller(book: Book, boards: list[Board], entry: Entry, now: int) -> GangRequest | None:
    """Return the request with the most pods of its first pod set, halved again and again, that would start now."""
    first, *rest = entry.request.pod_sets
    count = first.count // 2
    while count and not rest:
        smaller = replace(entry.request, pod_sets=(PodSet(count=count, gpus_per_pod=first.gpus_per_pod),))
        if _fits_any(book, boards, smaller, entry, now):
            return smaller
        count //= 2
    return None


def _wish(request: GangRequest) -> str:
    """Say what was asked for."""
    pods = " + ".join(f"{pods.count} x {pods.gpus_per_pod}" for pods in request.pod_sets)
    kind = "GPUs" if request.slot == "gpu" else request.slot
    return f"{pods} {kind} of {' or '.join(request.accelerators)}"


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")
