"""Taking slots back for those who are entitled to them: whole gangs, after notice, none within its time of grace.

By priority: from preemptible gangs of lower priority. By reclaim: a tenant within its own nominal quota, from
preemptible gangs of its cohort that borrow. The victims keep their slots until their notice ends; from then on these
are firmly promised to the beneficiary. When that leaves, or starts elsewhere, the victims stay.
"""

from __future__ import annotations

import math

from gangplan.clock import FOREVER, SECOND, span_us
from gangplan.reserve.admission.book import Book
from gangplan.reserve.admission.choose_victims import Candidate, Choice, choose
from gangplan.reserve.admission.entry import Entry, Promise, Rank
from gangplan.reserve.admission.leaving import tell_leaving
from gangplan.reserve.codec import id_of
from gangplan.reserve.space import Board
from gangplan.types import ReservationId, ReservationState

HELPED = 4
"""How many searches for victims one pass over the line makes; more reach further back in it, and make a tick slower."""

LOOKED = 32
"""How many gangs, the first in line, look in one pass whether there are any whose slots they may take."""


class Preemptor:
    """Finds victims for the first in line, in one pass over it."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._space = book.occupancy
        self._rules = book.policy.preemption
        self._left = HELPED
        self._looks = LOOKED
        self._victims: list[Entry] | None = None

    def help(self, entry: Entry, rank: Rank, now: int, *, own: bool) -> None:
        """Give notice to the cheapest set of gangs on whose slots an entitled request starts sooner.

        With `own` only where its tenant does not borrow.
        """
        if entry.firm or entry.earliest > now or not self._left or not self._looks or not self._running():
            return
        self._looks -= 1
        safe: list[int] = []
        best: tuple[float, Board, int, Choice] | None = None
        for board in self._space.pools_for(entry.request):
            if own and self._space.would_borrow(entry, board):
                continue
            candidates = self._candidates(entry, board, now, safe)
            if not candidates:
                continue
            self._left -= 1
            choice = self._on(entry, board, candidates, now)
            if choice is not None and (best is None or choice[1].cost < best[0]):
                best = (choice[1].cost, board, *choice)
        if best is not None:
            self._notify(entry, rank, *best[1:])
        elif safe and (entry.promise is None or min(safe) < entry.promise.start):
            self._book.retry(entry, min(safe))

    def _running(self) -> list[Entry]:
        """Return what may be preempted at all."""
        if self._victims is None:
            on = self._rules.by_priority or self._rules.reclaim
            running = self._book.granted() if on else []
            self._victims = [entry for entry in running if entry.request.preemptible and not entry.is_told]
        return self._victims

    def _candidates(self, entry: Entry, board: Board, now: int, safe: list[int]) -> dict[str, Entry]:
        """Return the gangs whose slots it may take; the moments up to which others have grace are added to `safe`."""
        grace, candidates = span_us(self._rules.grace), dict[str, Entry]()
        for victim in self._running():
            if not victim.is_told and victim.pool == board.pool.name and self._entitled(entry, victim, board):
                until = (victim.granted or 0) + grace
                if until > now:
                    safe.append(until)
                else:
                    candidates[victim.id] = victim
        return candidates

    def _entitled(self, entry: Entry, victim: Entry, board: Board) -> bool:
        """Tell whether a request may take a holder's slots."""
        rules, quotas, name = self._rules, self._space.quotas, board.pool.accelerator
        tenant, other = entry.request.tenant, victim.request.tenant
        cohort = quotas.cohort(tenant, name) if tenant != other else None
        shares, lent = cohort is not None and other in cohort.members, quotas.borrowed(other, name) > 0
        if rules.by_priority and victim.priority + rules.margin <= entry.priority:
            return not (quotas.owners_first and shares and not lent and self._space.would_borrow(entry, board))
        own = quotas.within_nominal(tenant, name, entry.request.gpus / board.pool.slots_per_gpu)
        return rules.reclaim and shares and lent and own

    def _on(self, entry: Entry, board: Board, candidates: dict[str, Entry], now: int) -> tuple[int, Choice] | None:
        """Return when and on whose slots it could start in a pool, if that is sooner than it would anyway."""
        name = board.pool.accelerator
        sooner = entry.promise.start - 1 if entry.promise is not None else FOREVER
        last = min(entry.until_on(name) or FOREVER, sooner)
        notices = {id: self._notice(victim) for id, victim in candidates.items()}
        put_back = self._space.lift(entry)
        try:
            for gone in sorted({now + notice for notice in notices.values()}):
                able = {id: victim for id, victim in candidates.items() if now + notices[id] <= gone <= last}
                chosen = self._choose(entry, board, able, gone, gone + entry.limit_on(name), now) if able else None
                if chosen is not None and chosen.victims:
                    return gone, chosen
        finally:
            put_back()
        return None

    def _choose(
        self, entry: Entry, board: Board, candidates: dict[str, Entry], gone: int, end: int, now: int
    ) -> Choice | None:
        """Return the cheapest victims that free both the slots and the quota."""
        tenant, name, spg = entry.request.tenant, board.pool.accelerator, board.pool.slots_per_gpu
        quotas = self._space.quotas
        own, shared = quotas.lacking(tenant, name, entry.request.gpus / spg, gone, end)
        cohort = quotas.cohort(tenant, name)
        # Where the tenant is at its own limit only its own gangs free quota, and they free the cohort's too.
        members = {tenant} if own or cohort is None else set(cohort.members)
        offered = [_candidate(v, now, "frees" if v.request.tenant in members else "") for v in candidates.values()]
        lacking = math.ceil(max(own, shared) * spg - 1e-6)
        return choose(board, entry.shape, offered, gone, end, must_free={"frees": lacking} if lacking else None)

    def _notice(self, victim: Entry) -> int:
        """Return the notice that a holder gets."""
        checkpoint = victim.request.checkpoint
        return max(span_us(self._rules.notice), 0 if checkpoint is None else span_us(checkpoint))

    def _notify(self, entry: Entry, rank: Rank, board: Board, gone: int, choice: Choice) -> None:
        """Give the victims notice, and promise their slots to the beneficiary."""
        book = self._book
        why = f"{entry.request.tenant} {entry.request.request_key} (priority {entry.priority}) needs its slots"
        for id in choice.victims:
            victim, state = book.live[ReservationId(id)], ReservationState.PREEMPTED
            book.give_notice(victim, gone, why=why, state=state, beneficiary=entry.request.request_key)
        end = gone + entry.limit_on(board.pool.accelerator)
        book.promise(entry, Promise(board.pool.name, choice.slots, gone, end, firm=True, rank=rank))


def _candidate(victim: Entry, now: int, group: str) -> Candidate:
    """Return a holder with the cost of taking its slots: the GPU-seconds of its work so far."""
    ran = (now - (victim.granted or now)) / SECOND
    return Candidate(
        id=victim.id,
        slots=victim.slots,
        hard_end=victim.hard_end or FOREVER,
        cost=ran * victim.holds(),
        tenant=group,
        granted=victim.granted or 0,
    )


def spare_victims(book: Book, now: int) -> None:
    """Let those stay whose beneficiary left, started, or has no promise any more: as long as their nodes do."""
    for entry in list(book.leaving.values()):
        leave = entry.leave
        if leave is None or leave.state is not ReservationState.PREEMPTED:
            continue
        beneficiary = book.live.get(id_of(leave.beneficiary))
        if beneficiary is None or not beneficiary.firm:
            tell_leaving(book, entry, now, spared=True)
