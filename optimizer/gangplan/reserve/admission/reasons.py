"""Why a request waits, as fields and as a sentence: the limit, who holds what it needs, what would help and when.

It is worked out whenever somebody asks, and never kept, so that it names those who stand in the way now.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from gangplan.clock import FOREVER, from_us
from gangplan.errors import InputError
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry, shape_of
from gangplan.reserve.space import Board, ever_fits
from gangplan.types import GangRequest, Limit, PodSet, Reason, Reservation, ReservationId, ReservationState

_SHOWN = 3
"""How many holders are named; a longer list would not be read."""

_STARTS = 4
"""How many of the first promised starts are tried as the end of a shorter gang."""


def told(
    book: Book, entry: Entry, now: int, *, guess: tuple[int, int] | None = None, full: bool = False
) -> Reservation:
    """Return a reservation with why it waits: far back in a long line in one short sentence, unless in `full`."""
    if not entry.state.waits:
        return entry.reservation()
    behind = entry.state is ReservationState.WAITING and entry.promise is None and entry.earliest <= now
    if full or not behind or len(book.promised) < book.policy.depth:
        return entry.reservation(explain(book, entry, now), guess)
    words = (
        f"{_wish(entry.request)}: the {book.policy.depth} starts that are promised at a time are all given to others"
    )
    return entry.reservation(Reason(limit=Limit.CAPACITY, message=f"{words}; no start is promised yet"), guess)


def explain(book: Book, entry: Entry, now: int) -> Reason:
    """Say which limit a waiting request meets now."""
    boards = book.occupancy.pools_for(entry.request)
    if book.calendar is None:
        return Reason(
            limit=Limit.CALENDAR,
            message="no calendar is published yet, so nothing can be promised",
            helps=("publish a plan: gangplan plan",),
        )
    refusal = book.occupancy.refusal(entry.request, entry.shape)
    if refusal is not None:
        return _hopeless(entry, *refusal)
    if entry.earliest > now:
        return _window(book, entry)
    limit = _limit(book, boards, entry, now)
    holders = _holders(book, boards, entry, limit)
    message = f"{_wish(entry.request)}: {_because(book, limit, boards, entry, now)}{_start(entry)}"
    named = tuple(holder.id for holder in holders[:_SHOWN])
    words = "; ".join(_holding(holder) for holder in holders[:_SHOWN])
    more = " and others" if len(holders) > _SHOWN else ""
    verb = "Promised before it" if limit is Limit.ORDER else "Held by"
    return Reason(
        limit=limit,
        message=f"{message}. {verb}: {words}{more}" if words else message,
        holders=named,
        helps=_helps(book, entry, now, limit, holders),
    )


def _hopeless(entry: Entry, limit: Limit, refusal: InputError) -> Reason:
    """Say that what was taken once could not be asked for any more: the policy or the pools have changed since."""
    since = "the policy is" if limit is Limit.QUOTA else "the pools are"
    words = f"{_wish(entry.request)}: it can never start as {since} now"
    return Reason(limit=limit, message=f"{words}: {refusal}", helps=("cancel it, and ask for what there is",))


def _window(book: Book, entry: Entry) -> Reason:
    """Say that the window is still to come, and whether its start is promised."""
    opens = _clock(from_us(entry.earliest))
    promise = entry.promise
    if promise is not None:
        words = f"its slots are promised for {_clock(from_us(promise.start))}"
    else:
        boards = book.occupancy.pools_for(entry.request)
        planned = [board.steps.least(entry.earliest, _end(entry, board, entry.earliest)) for board in boards]
        there = [f"{nodes * b.whole} GPUs of {b.pool.name}" for b, nodes in zip(boards, planned, strict=True)]
        words = f"no slots are promised: the calendar has {', '.join(there)} then, others hold them or are ahead of it"
    return Reason(limit=Limit.WINDOW, message=f"{_wish(entry.request)}: the window opens at {opens}; {words}")


def _limit(book: Book, boards: list[Board], entry: Entry, now: int) -> Limit:
    """Return the limit that it meets, judged on the pool that comes nearest to serving it."""
    gpus = entry.request.gpus
    if boards and not any(book.occupancy.in_quota(entry, board, now) for board in boards):
        return Limit.ORDER if _has_quota_now(book, entry, boards, now) else Limit.QUOTA
    if any(board.fit_now(entry.shape, now, _end(entry, board, now), promises=False) for board in boards):
        return Limit.ORDER
    least = {board.pool.name: board.steps.least(now, _end(entry, board, now)) for board in boards}
    if any(board.free_now(least[board.pool.name]) >= gpus for board in boards):
        return Limit.TOPOLOGY
    if all(least[board.pool.name] * board.whole < gpus for board in boards):
        return Limit.CALENDAR
    return Limit.CAPACITY


def _has_quota_now(book: Book, entry: Entry, boards: list[Board], now: int) -> bool:
    """Tell whether its tenant's quota has room now, if not for as long as it may last."""
    return any(_fits_until(book, board, entry.request, now, now + 1) for board in boards)


def _end(entry: Entry, board: Board, now: int) -> int:
    return now + entry.limit_on(board.pool.accelerator)


def _holders(book: Book, boards: list[Board], entry: Entry, limit: Limit) -> list[Entry]:
    """Return the gangs that hold what it needs, the first to end first; or those that were promised it before."""
    if limit is Limit.CALENDAR:
        return []
    if limit is Limit.ORDER:
        return _ahead(book, entry)
    tenants = _sharing(book, boards, entry) if limit is Limit.QUOTA else None
    first: dict[str, Entry] = {}
    for board in boards:
        for _, _, _, holder in board.ends if tenants else board.ends[: 16 * _SHOWN]:
            running = book.live.get(ReservationId(holder))
            if running is not None and (tenants is None or running.request.tenant in tenants):
                first[holder] = running
    return sorted(first.values(), key=lambda holder: (holder.expires or 0, holder.arrival))


def _sharing(book: Book, boards: list[Board], entry: Entry) -> set[str]:
    """Return the tenants whose releases would free quota: its own where that is at its limit, else its cohort's."""
    tenant, gpus, quotas = entry.request.tenant, entry.request.gpus, book.occupancy.quotas
    tenants: set[str] = set()
    for board in boards:
        name, spg = board.pool.accelerator, board.pool.slots_per_gpu
        cohort = quotas.cohort(tenant, name)
        full = quotas.held(tenant, name) + gpus / spg > quotas.limit(tenant, name)
        tenants.update({tenant} if full or cohort is None else set(cohort.members))
    return tenants


def _ahead(book: Book, entry: Entry) -> list[Entry]:
    """Return the promised gangs that it must not delay, the first to start first."""
    names = {board.pool.name for board in book.occupancy.pools_for(entry.request)}
    ahead = [
        (other.promise.start, other.arrival, other)
        for other in book.promised.values()
        if other is not entry and other.promise is not None and other.promise.pool in names
    ]
    return [other for _, _, other in sorted(ahead, key=lambda item: item[:2])]


def _because(book: Book, limit: Limit, boards: list[Board], entry: Entry, now: int) -> str:
    """Say the limit as a sentence, with the numbers of the pools that could serve it."""
    if limit is Limit.QUOTA:
        return "; ".join(dict.fromkeys(_quota_words(book, entry, board) for board in boards))
    if not boards:
        return f"no pool has {' or '.join(entry.request.accelerators)} in the present calendar"
    least = [(board, board.steps.least(now, _end(entry, board, now))) for board in boards]
    free = ", ".join(
        f"{board.free_now(nodes)} of {nodes * board.whole} free on {board.pool.name}" for board, nodes in least
    )
    free += "".join(f", {words}" for words in _out(book, boards)[:_SHOWN])
    if limit is Limit.ORDER:
        if not any(book.occupancy.in_quota(entry, board, now) for board in boards):
            return f"its quota has room now ({free}), but not for as long as it may last: it is promised to others"
        return f"the slots are free now ({free}) but promised to gangs ahead of it"
    if limit is Limit.TOPOLOGY:
        close = entry.shape.level if entry.shape.required else None
        together = f"in one {close}" if close else "in pieces as large as its pods"
        return f"enough GPUs are free ({free}) but not {together}"
    if limit is Limit.CALENDAR:
        if not any(ever_fits(board.pool, board.steps.most, entry.shape) for board in boards):
            most = max(board.steps.most * board.whole for board in boards)
            return f"the present calendar never has the nodes for it (at most {most} GPUs): it waits for another plan"
        return f"the calendar has too few nodes for so long from now on ({free})"
    return f"too few GPUs are free ({free})"


def _out(book: Book, boards: list[Board]) -> list[str]:
    """Say which nodes of these pools take no gang now, and when they are expected back."""
    pools = {board.pool.name for board in boards}
    out = [(name, mark) for name, mark in book.nodes.items() if not mark.begin and name.rpartition("-")[0] in pools]
    return [
        f"{name} is {mark.state}{f' until {_clock(from_us(mark.back))}' if mark.back < FOREVER else ''}"
        for name, mark in out
    ]


def _quota_words(book: Book, entry: Entry, board: Board) -> str:
    """Say how much of its quota, and of its cohort's, is in use."""
    tenant, name, quotas = entry.request.tenant, board.pool.accelerator, book.occupancy.quotas
    quota, cohort = quotas.quota(tenant, name), quotas.cohort(tenant, name)
    if quota is None:
        return f"{tenant} has no limit on {name}"
    words = f"{tenant} holds {quotas.held(tenant, name):g} of its {quota.nominal} {name}"
    if cohort is None:
        return words
    held = sum(quotas.held(member, name) for member in cohort.members)
    borrow = "any" if quota.borrow is None else f"up to {quota.borrow}"
    together = f"its cohort {book.policy.tenant(tenant).cohort} {held:g} of {cohort.nominal}"
    return f"{words} (it may borrow {borrow}), {together}"


def _start(entry: Entry) -> str:
    """Say when it will start."""
    promise = entry.promise
    return f"; it starts by {_clock(from_us(promise.start))}" if promise else "; no start is promised yet"


def _holding(entry: Entry) -> str:
    """Name a holder as its users know it."""
    what = f"{entry.request.tenant} {entry.request.request_key} ({entry.request.gpus} GPUs"
    if entry.state is ReservationState.GRANTED and entry.expires is not None:
        leaves = ", which it was told to leave then" if entry.leave else ""
        return f"{what} until {_clock(from_us(entry.expires))}{leaves})"
    return f"{what} from {_clock(from_us(entry.promise.start))})" if entry.promise else f"{what})"


def _helps(book: Book, entry: Entry, now: int, limit: Limit, holders: list[Entry]) -> tuple[str, ...]:
    """Say what would let it start now (another accelerator, looser topology, fewer pods) or later (a release)."""
    helps: list[str] = []
    for name, boards in book.occupancy.by_accelerator.items():
        if name not in entry.request.accelerators and _fits_any(book, boards, entry.request, entry, now):
            helps.append(f"accept {name}: it could start now")
    own = book.occupancy.pools_for(entry.request)
    if limit is Limit.ORDER and (until := _free_until(book, own, entry, holders, now)):
        helps.append(f"have it end by {_clock(from_us(until))}: it could start now")
    wish = entry.request.topology
    if wish and wish.required and _fits_any(book, own, replace(entry.request, topology=None), entry, now):
        helps.append(f"prefer one {wish.level} instead of requiring it: it could start now")
    if smaller := _smaller(book, own, entry, now):
        helps.append(f"ask for {_wish(smaller)}: it could start now")
    if limit in (Limit.CAPACITY, Limit.QUOTA) and (release := _release(entry, holders)):
        helps.append(release)
    if entry.latest is not None and entry.promise is None:
        helps.append("allow a later start: nothing fits by the last one")
    return tuple(helps)


def _free_until(book: Book, boards: list[Board], entry: Entry, ahead: list[Entry], now: int) -> int:
    """Return the last promised start before which a shorter gang would have to end to start now; 0: there is none."""
    starts = sorted({other.promise.start for other in ahead if other.promise is not None}, reverse=True)
    fits = (at for at in starts[-_STARTS:] if any(_fits_until(book, b, entry.request, now, at) for b in boards))
    return next(fits, 0)


def _release(entry: Entry, holders: list[Entry]) -> str:
    """Say whose release would free as much as it needs, and by when that is."""
    gpus = 0
    for holder in holders:
        gpus += holder.holds()
        if gpus >= entry.request.gpus and holder.expires is not None:
            who = f"{holder.request.tenant} gives {holder.request.request_key} back"
            return f"when {who}: by {_clock(from_us(holder.expires))}"
    return ""


def _fits_any(book: Book, boards: list[Board], request: GangRequest, entry: Entry, now: int) -> bool:
    """Tell whether a changed request would start now on one of these pools."""
    return any(_fits_until(book, board, request, now, _end(entry, board, now)) for board in boards)


def _fits_until(book: Book, board: Board, request: GangRequest, now: int, end: int) -> bool:
    """Tell whether a request has slots and quota in a pool from now up to `end`."""
    gpus, name = request.gpus / board.pool.slots_per_gpu, board.pool.accelerator
    within = board.pool.slot == request.slot and book.occupancy.quotas.allows(request.tenant, name, gpus, now, end)
    return within and board.fit_now(shape_of(request), now, end) is not None


def _smaller(book: Book, boards: list[Board], entry: Entry, now: int) -> GangRequest | None:
    """Return the request with its pods halved as often as it takes to start now; None: it has several pod sets."""
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
