"""Where and when one gang may start: on the board of each pool that will do, within the tenant's quota."""

from __future__ import annotations

from typing import NamedTuple

from gangplan.clock import FOREVER, SECOND
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry, Promise, Rank
from gangplan.reserve.admission.occupancy import Occupancy
from gangplan.reserve.space import Board, Slots

LATE_US = 5 * SECOND
"""A tick may come this much later than a promised start; the promise then still ends when it was to end."""

TRIES = 12
"""How many starts are tried node by node to move one promise ahead; more find more, and make a release slower."""

DRAWN = 6
"""How many promises are moved ahead after a release; those behind them follow at later releases."""


class Start(NamedTuple):
    """Where and when a gang can start."""

    board: Board
    at: int
    slots: Slots


def find_later(
    space: Occupancy, entry: Entry, after: int, *, own: bool, until: int = FOREVER, tries: int = FOREVER
) -> Start | None:
    """Return where and when a gang that no pool has room for now would end first; with `own` without borrowing."""
    best: Start | None = None
    best_end = FOREVER
    for board in space.pools_for(entry.request):
        length = entry.limit_on(board.pool.accelerator)
        last = min(until, _last(entry, board), best_end - length - 1)
        start = _earliest(space, entry, board, own=own, length=length, after=after, until=last, tries=tries)
        if start is not None:
            best, best_end = start, start.at + length
    return best


def find_now(space: Occupancy, entry: Entry, now: int, *, own: bool) -> Start | None:
    """Return a start at once on the preferred of the pools that have the slots; with `own` without borrowing."""
    if entry.earliest > now:
        return None
    for board in space.pools_for(entry.request):
        if not space.in_quota(entry, board, now, own=own) or _last(entry, board) < now:
            continue
        if slots := board.fit_now(entry.shape, now, now + entry.limit_on(board.pool.accelerator)):
            return Start(board, now, slots)
    return None


def _last(entry: Entry, board: Board) -> int:
    """Return the last start in time on a pool."""
    last = entry.until_on(board.pool.accelerator)
    return FOREVER if last is None else last


def _earliest(
    space: Occupancy, entry: Entry, board: Board, *, own: bool, length: int, after: int, until: int, tries: int
) -> Start | None:
    """Return the first start that both the quota and the pool allow: each in turn moves the other on."""
    tenant, name = entry.request.tenant, board.pool.accelerator
    gpus = entry.request.gpus / board.pool.slots_per_gpu
    start = after
    while start <= until:
        allowed = space.quotas.first(tenant, name, gpus, length, start, until, own=own)
        if allowed is None or allowed > until:
            return None
        fit = board.earliest(entry.shape, length, allowed, until, tries)
        if fit is None:
            return None
        start, slots = fit
        if space.in_quota(entry, board, start, own=own):
            return Start(board, start, slots)
    return None


def take_start(book: Book, entry: Entry, start: Start, now: int, rank: Rank) -> None:
    """Grant a start that is now; promise one that is later, at the rank that the gang has in the line."""
    board, at, slots = start
    length = entry.limit_on(board.pool.accelerator)
    if at <= now:
        book.grant(entry, board, slots, now, now + length)
        return
    firm = entry.earliest > now or entry.firm
    book.promise(entry, Promise(board.pool.name, slots, at, at + length, firm=firm, rank=rank))


def keep_promise(book: Book, entry: Entry, promise: Promise, now: int) -> None:
    """Grant the promised slots; the promise lapses where nobody ticked for long and the slots are not free any more."""
    book.withdraw(entry)
    board = book.occupancy.boards.get(promise.pool)
    if board is None:
        return
    for end in (now + entry.limit_on(board.pool.accelerator), promise.end):
        in_time = end > now and now - promise.start <= LATE_US
        if (in_time or end != promise.end) and book.occupancy.is_free(entry, board, promise.slots, now, end):
            book.grant(entry, board, promise.slots, now, end)
            return
