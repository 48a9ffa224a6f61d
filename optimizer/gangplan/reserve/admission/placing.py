"""Where and when one gang may start: on the board of each pool that will do, within the tenant's quota."""

from __future__ import annotations

from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.entry import Entry, Plan
from gangplan.reserve.moments import FOREVER, SECOND
from gangplan.reserve.space import Board, Slots

LATE_US = 5 * SECOND
"""A tick may come so much later than a promised start; the promise then still ends when it was to end."""

TRIES = 12
"""So many starts are tried in full to move one promise ahead."""

DRAWN = 6
"""So many promises are moved ahead after a release; those behind them follow when they come first."""

Found = tuple[Board, int, Slots]
"""A pool, a start and slots."""


def find_later(book: Book, entry: Entry, after: int, *, until: int = FOREVER, tries: int = FOREVER) -> Found | None:
    """Return where and when a gang that no pool has room for now would end first."""
    best: Found | None = None
    best_end = FOREVER
    for board in book.pools_for(entry.request):
        length = entry.limit_on(board.pool.accelerator)
        last = min(until, _last(entry, board), best_end - length - 1)
        found = _earliest(book, entry, board, length=length, after=after, until=last, tries=tries)
        if found is not None:
            best, best_end = (board, *found), found[0] + length
    return best


def find_now(book: Book, entry: Entry, now: int) -> Found | None:
    """Return the preferred pool that has the slots at once."""
    if entry.earliest > now:
        return None
    for board in book.pools_for(entry.request):
        if not book.in_quota(entry, board, now) or _last(entry, board) < now:
            continue
        if slots := board.fit_now(entry.shape, now, now + entry.limit_on(board.pool.accelerator)):
            return board, now, slots
    return None


def _last(entry: Entry, board: Board) -> int:
    """Return the last start on a pool that is in time."""
    last = entry.until_on(board.pool.accelerator)
    return FOREVER if last is None else last


def _earliest(
    book: Book, entry: Entry, board: Board, *, length: int, after: int, until: int, tries: int
) -> tuple[int, Slots] | None:
    """Return the first start that both the quota and the pool allow: each in turn moves the other on."""
    tenant, name = entry.request.tenant, board.pool.accelerator
    gpus = entry.request.gpus / board.pool.slots_per_gpu
    start = after
    while start <= until:
        allowed = book.quotas.first(tenant, name, gpus, length, start, until)
        if allowed is None or allowed > until:
            return None
        found = board.earliest(entry.shape, length, allowed, until, tries)
        if found is None or book.in_quota(entry, board, found[0]):
            return found
        start = found[0]
    return None


def promise(book: Book, entry: Entry, found: Found, now: int) -> None:
    """Grant what starts now; promise what starts later."""
    board, start, slots = found
    length = entry.limit_on(board.pool.accelerator)
    if start <= now:
        book.set_plan(entry, None)
        book.grant(entry, board, slots, now, now + length)
        return
    firm = entry.earliest > now or entry.firm
    plan = Plan(pool=board.pool.name, slots=slots, start=start, end=start + length, firm=firm, rank=entry.rank)
    book.set_plan(entry, plan)


def keep_promise(book: Book, entry: Entry, plan: Plan, now: int) -> bool:
    """Grant the promised slots; False when the promise lapsed because nobody ticked for long."""
    book.lift(entry)
    book.forget_plan(entry)
    board = book.boards.get(plan.pool)
    if board is None:
        return False
    for end in (now + entry.limit_on(board.pool.accelerator), plan.end):
        in_time = end > now and now - plan.start <= LATE_US
        if (in_time or end != plan.end) and book.is_free(entry, board, plan.slots, now, end):
            book.grant(entry, board, plan.slots, now, end)
            return True
    return False


def draw_together(book: Book, now: int) -> None:
    """Where something became free, start promised gangs now, and move the first promises ahead; none moves later."""
    drawn = 0
    for entry in sorted(book.planned.values(), key=lambda one: one.rank):
        plan, after = entry.plan, max(now, entry.earliest)
        if plan is None or plan.start <= after:
            continue
        book.lift(entry)
        found = find_now(book, entry, now)
        if found is None and drawn < DRAWN:
            drawn += 1
            found = find_later(book, entry, after, until=plan.start - 1, tries=TRIES)
        book.put_back(entry)
        if found is not None:
            promise(book, entry, found, now)
