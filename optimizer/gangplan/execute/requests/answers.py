"""Who of those that Kueue asks for gets nodes now, and when the others do, as a pure function."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from gangplan.clock import require_utc
from gangplan.execute.pool_state import united
from gangplan.execute.requests.book import BY_PLAN, NOW, Book
from gangplan.execute.requests.values import Answer, NodeRequest, Said
from gangplan.types import Grant, Observation, Plan


def answers(
    requests: Iterable[NodeRequest],
    plan: Plan,
    observed: Observation,
    grants: Iterable[Grant],
    now: datetime,
    *,
    fail_after: timedelta | None = None,
) -> tuple[Answer, ...]:
    """Return an answer for each request that waits for one, the highest priority first, then the oldest.

    A slot is promised once: what a request was told stays its own until its Workload is a grant. Nobody is told a time
    by which somebody before it is held up (conservative backfill).

    Parameters
    ----------
    grants
        The gangs that hold slots, beside those of `observed`. One with the name (`namespace/name`) of a request's
        Workload counts in its place.
    fail_after
        So long after it was made, a request whose nodes the plan never brings has failed; None: it waits for a plan.
    """
    require_utc("now", now)
    requests = tuple(requests)
    waiting = [one for one in requests if one.reserved and one.said not in (Said.THERE, Said.FAILED)]
    own = {f"{one.namespace}/{one.workload}" for one in waiting}
    held = [grant for grant in united((*observed.grants, *grants)) if grant.name not in own]
    book = Book(plan, observed, (*held, *_promised(requests, {grant.name for grant in held})), now)
    stale = [one for one in requests if one.said == Said.THERE and not one.reserved]
    return (
        *(Answer(request=one, said=Said.STALE, message="Its Workload lost its quota.") for one in stale),
        *(_answer(one, book, now, fail_after) for one in sorted(waiting, key=_rank)),
    )


def _rank(request: NodeRequest) -> tuple[int, datetime, str]:
    return -request.priority, request.created, request.key


def _promised(requests: Iterable[NodeRequest], held: set[str]) -> list[Grant]:
    """Return what was promised to those whose Workloads are not seen as grants yet."""
    return [
        Grant(name=f"{one.namespace}/{one.workload}", pool=pool, slots=slots)
        for one in requests
        if one.said == Said.THERE and one.reserved and f"{one.namespace}/{one.workload}" not in held
        for pool, slots in one.slots.items()
    ]


def _answer(request: NodeRequest, book: Book, now: datetime, fail_after: timedelta | None) -> Answer:
    needs = {pool: slots for pool, slots in request.slots.items() if slots}
    if not needs:
        return Answer(request=request, said=Said.THERE, message="It asks for no accelerators.", at=now)
    if "" in needs or not needs.keys() <= book.pages.keys():
        return _never(request, _nameless(needs, book), now, fail_after)
    if too_big := _too_big(request, book):
        return _never(request, too_big, now, fail_after)
    start = book.start(needs, request.pods, request.limit)
    if start is None:
        return _never(request, _short(needs, book), now, fail_after)
    message = "; ".join(_words(pool, needs[pool], start, book) for pool in sorted(needs)) + "."
    book.take(needs, start, request.limit)
    said = {NOW: Said.THERE, BY_PLAN: Said.LATE}.get(start, Said.PLANNED)
    return Answer(request=request, said=said, message=message, at=book.moments[start])


def _words(pool: str, slots: int, start: int, book: Book) -> str:
    there, needed = book.there(pool, slots)
    since = f"{book.moments[start]:%Y-%m-%d %H:%M} UTC"
    if start == NOW:
        return f"Nodes of pool {pool} are there for it: {slots} slots"
    if start == BY_PLAN:
        return f"Planned nodes of pool {pool} are late: {there} of {needed} there, planned for {since}"
    return f"Planned nodes of pool {pool} from {since}, {there} of {needed} there"


def _never(request: NodeRequest, why: str, now: datetime, fail_after: timedelta | None) -> Answer:
    """Say that the plan has nothing for it; whose eviction nobody ends goes on waiting, as it would keep its quota."""
    over = fail_after is not None and now - request.created >= fail_after
    return Answer(request=request, said=Said.FAILED if over and request.can_fail else Said.NOT_PLANNED, message=why)


def _nameless(needs: Iterable[str], book: Book) -> str:
    names = ", ".join(sorted(book.pages))
    wrong = next(pool for pool in sorted(needs) if pool not in book.pages)
    what = f"Its flavor's pool {wrong} is not in the plan" if wrong else "Its flavor names no pool of the plan"
    return f"{what}: give the ResourceFlavor the label gangplan.io/pool with one of {names}."


def _too_big(request: NodeRequest, book: Book) -> str:
    for one in request.pods:
        most = book.pages[one.pool].per_node if one.slots else 0
        if one.slots > most:
            return f"A pod asks for {one.slots} slots, a node of pool {one.pool} has {most}: ask for less in each pod."
    return ""


def _short(needs: dict[str, int], book: Book) -> str:
    """Say which pool has never enough, or that pools have enough only at different times."""
    until = f"{book.end:%Y-%m-%d %H:%M} UTC"
    pools = [(pool, book.most(pool), book.there(pool, slots)[1]) for pool, slots in sorted(needs.items())]
    for pool, most, needed in pools:
        if most < needed:
            have = f"The plan has at most {most} free nodes of pool {pool} until {until}"
            return f"{have}, and it needs {needed}: plan again with more, or ask for fewer."
    names = " and ".join(needs)
    return f"The plan has room in {names} until {until} only for those before it: plan again with more nodes."
