"""The ledger's present state in memory: what waits, what runs, and each pool's board. No input or output here.

A store keeps one book, brings it up to date, lets one call at a time work on it, and writes what `changed`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from heapq import heappop, heappush
from typing import Any, NamedTuple

from gangplan.errors import InputError
from gangplan.reserve.admission.entry import Entry, Leave, Plan, Rank
from gangplan.reserve.admission.line import Line, Walk
from gangplan.reserve.moments import span_us, to_us
from gangplan.reserve.policy import Policy, Quotas
from gangplan.reserve.space import Board, Shape, Slots, Steps, ever_fits
from gangplan.types import CapacityCalendar, GangRequest, NodeState, ReservationId, ReservationState, Token

FIRST = -(2**60)
"""The points of those whose nodes went away: ahead of all others."""


class Document(NamedTuple):
    """A calendar, a policy or the nodes' states, as written; the newest of a kind is in force."""

    kind: str  # calendar, policy or nodes
    body: str
    by: str = ""
    why: str = ""


class Book:
    """All reservations that are not final, in the order of the line, and the boards that they stand on."""

    def __init__(self) -> None:
        self.calendar: CapacityCalendar | None = None
        self.policy = Policy()
        self.nodes: dict[str, NodeState] = {}  # by name, those that are not ready
        self.documents: list[Document] = []  # calendars, policies and nodes' states that are to be written
        self.boards: dict[str, Board] = {}
        self.by_accelerator: dict[str, list[Board]] = {}
        self._wholes: dict[str, float] = {}  # GPUs that there can be, by accelerator
        self.quotas = Quotas(self.policy)
        self.live: dict[ReservationId, Entry] = {}
        self.line = Line()
        self.planned: dict[ReservationId, Entry] = {}  # what waits with a promise
        self.arrivals = 0
        self.tokens = 0
        self.freed = False  # something became free since the whole line was last served
        self.unserved: set[ReservationId] = set()  # new, or lost its promise, since then
        self.lost: set[ReservationId] = set()  # those who lost a promise in this admission, and keep its rank for it
        self.unsaid: set[ReservationId] = set()  # those who are to be told why they wait
        self.leaving: set[ReservationId] = set()  # holders that were given notice
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._dues: list[tuple[int, ReservationId]] = []  # a heap; what no longer holds is passed over
        self.changed: dict[ReservationId, Entry] = {}

    # ------------------------------------------------------------ membership

    def add(self, entry: Entry) -> None:
        """Take in an entry as it stands, with its slots or its plan."""
        self.live[entry.id] = entry
        request = entry.request
        window = request.earliest_start, request.deadline
        kind = (entry.shape, request.accelerators, request.slot, tuple(request.speed.items()), window)
        entry.kind = self._kinds.setdefault(kind, len(self._kinds))
        self._rate(entry)
        self.arrivals = max(self.arrivals, entry.arrival)
        self.tokens = max(self.tokens, entry.token or 0)
        if entry.state.waits:
            self._enter_line(entry)
        elif entry.pool in self.boards and entry.hard_end is not None:
            self._hold(entry, entry.hard_end)
        if entry.leave is not None:
            self.leaving.add(entry.id)
        self._push_dues(entry)

    def _rate(self, entry: Entry) -> None:
        """Give an entry its priority and points by the policy; one rate of ageing for all keeps their order."""
        policy, request = self.policy, entry.request
        entry.priority = policy.priority_classes.get(request.priority_class, request.priority)
        age = 0 if policy.ageing is None else entry.submitted // span_us(policy.ageing)
        entry.points = FIRST if entry.state is ReservationState.INTERRUPTED else age - entry.priority
        entry.rank = (entry.points, 0.0, entry.arrival)

    def _enter_line(self, entry: Entry) -> None:
        self.line.add(entry)
        if entry.plan is None:
            self.unserved.add(entry.id)
            return
        entry.rank = entry.plan.rank or entry.rank
        self.planned[entry.id] = entry
        self.put_back(entry)

    def remove(self, id: ReservationId) -> None:
        """Forget an entry and free what it held, if it is here."""
        entry = self.live.pop(id, None)
        if entry is None:
            return
        self.unserved.discard(id)
        self.leaving.discard(id)
        if entry.state.waits:
            self.line.remove(entry)
            self.lift(entry)
            self.planned.pop(id, None)
        elif entry.pool in self.boards and entry.hard_end is not None:
            self._drop(entry, entry.hard_end)
        self.freed = True

    def in_order(self) -> list[Entry]:
        """Return what waits, the first to be served first."""
        return [entry for entry, _ in self.walk(self.line, counts=lambda _: True)]

    def walk(self, line: Line, counts: Callable[[Entry], bool]) -> Walk:
        """Return a walk along a line that counts what each tenant holds."""
        return Walk(line, self.share, self.part, counts)

    def promised(self) -> list[Entry]:
        """Return those whose promise a higher rank may displace, or has just displaced, the first in rank first."""
        lost = (entry for id in self.lost if (entry := self.live.get(id)) and entry.state.waits and not entry.plan)
        return sorted([*filter(_displaceable, self.planned.values()), *lost], key=_rank)

    def rank_promises(self) -> None:
        """Let each promise rank as it did when it was made, or better, where its tenant's share has fallen since."""
        shares: dict[str, float] = {}
        for entry in sorted(filter(_displaceable, self.planned.values()), key=lambda one: (one.points, one.arrival)):
            tenant = entry.request.tenant
            share = shares.get(tenant)
            share = self.share(tenant) if share is None else share
            shares[tenant] = share + self.part(entry)
            there = (entry.points, share, entry.arrival)
            entry.rank = there if entry.plan is None or entry.plan.rank is None else min(there, entry.plan.rank)

    def granted(self) -> list[Entry]:
        """Return what holds slots now."""
        return [entry for entry in self.live.values() if entry.state is ReservationState.GRANTED]

    # ------------------------------------------------------------ shares

    def share(self, tenant: str) -> float:
        """Return a tenant's dominant share of what it holds, over its weight."""
        used = self.quotas.used.get(tenant, {})
        shares = (gpus / self._whole(name) for name, gpus in used.items())
        return max(shares, default=0.0) / self.policy.tenant(tenant).weight

    def part(self, entry: Entry) -> float:
        """Return what a gang adds to its tenant's share, on the accelerator that it prefers."""
        whole = self._whole(entry.request.accelerators[0])
        return entry.shape.gpus / whole / self.policy.tenant(entry.request.tenant).weight

    def _whole(self, accelerator: str) -> float:
        """Return the GPUs that there can be of an accelerator; counted once for each calendar."""
        if accelerator not in self._wholes:
            boards = self.by_accelerator.get(accelerator, ())
            self._wholes[accelerator] = sum(most_nodes(board) * board.pool.gpus_per_node for board in boards) or 1.0
        return self._wholes[accelerator]

    # ------------------------------------------------------------ changes

    def touch(self, entry: Entry) -> None:
        """Mark an entry to be written, and remember when time alone will change it."""
        self.changed[entry.id] = entry
        self._push_dues(entry)

    def _push_dues(self, entry: Entry) -> None:
        for moment in entry.dues():
            heappush(self._dues, (moment, entry.id))

    def next_due(self) -> int | None:
        """Return the next moment at which time alone changes something."""
        while self._dues:
            moment, id = self._dues[0]
            entry = self.live.get(id)
            if entry is not None and moment and moment in entry.dues():
                return moment
            heappop(self._dues)
        return None

    def pop_due(self, now: int) -> Entry | None:
        """Return an entry that something is due for by `now`, each moment of it once."""
        due = self.next_due()
        return None if due is None or due > now else self.live[heappop(self._dues)[1]]

    def enter(self, request: GangRequest, *, id: ReservationId, body: str, now: int) -> Entry:
        """Let a new request wait."""
        entry = Entry(id=id, request=request, body=body, arrival=self.arrivals + 1, submitted=now)
        self.add(entry)
        self.touch(entry)
        return entry

    def grant(self, entry: Entry, board: Board, slots: Slots, now: int, end: int) -> None:
        """Give a waiting gang its slots, with a token that none had before."""
        self.line.remove(entry)
        self.unserved.discard(entry.id)
        self.tokens += 1
        again = entry.state is ReservationState.INTERRUPTED
        lasts = entry.duration_on(board.pool.accelerator)
        entry.state = ReservationState.GRANTED
        entry.token = Token(self.tokens)
        entry.pool, entry.slots = board.pool.name, slots
        entry.granted, entry.hard_end = now, end
        entry.expires = min(end, now + (min(lasts, span_us(self.policy.claim)) if again else lasts))
        entry.plan = entry.reason = entry.retry = entry.guess = None
        self._hold(entry, end)
        self.touch(entry)

    def end(self, entry: Entry, state: ReservationState, at: int) -> None:
        """End a waiting or granted reservation, and free what it held."""
        self.remove(entry.id)
        entry.state, entry.ended = state, at
        entry.plan = entry.reason = entry.leave = entry.guess = None
        self.touch(entry)

    def interrupt(self, entry: Entry) -> None:
        """Take a holder's slots away, and let it wait ahead of all others; its token is good for nothing more."""
        self.remove(entry.id)
        entry.state = ReservationState.INTERRUPTED
        entry.token = entry.pool = entry.granted = entry.hard_end = entry.expires = entry.leave = entry.reason = None
        entry.slots = ()
        entry.moves += 1
        self.add(entry)
        self.touch(entry)

    def give_notice(
        self, entry: Entry, until: int, *, why: str, state: ReservationState, beneficiary: str = ""
    ) -> None:
        """Tell a holder that its slots are taken at `until`, and what it is then; no renewal passes that."""
        assert entry.expires is not None  # noqa: S101
        assert entry.hard_end is not None  # noqa: S101
        self._drop(entry, entry.hard_end)
        entry.leave = Leave(until, why, state, beneficiary, expires=entry.expires, hard_end=entry.hard_end)
        entry.hard_end = min(entry.hard_end, until)
        entry.expires = min(entry.expires, until)
        self._hold(entry, entry.hard_end)
        self.freed = True  # what it would have held after that
        self.leaving.add(entry.id)
        self.touch(entry)

    def take_notice_back(self, entry: Entry) -> bool:
        """Let a holder stay as long as it could before; False when others were promised its slots meanwhile."""
        leave, board = entry.leave, self.boards.get(entry.pool or "")
        if leave is None or board is None or entry.hard_end is None:
            return False
        longer = leave.hard_end > entry.hard_end
        if longer and not self.is_free(entry, board, entry.slots, entry.hard_end, leave.hard_end):
            return False
        self._drop(entry, entry.hard_end)
        entry.hard_end, entry.expires, entry.leave = leave.hard_end, leave.expires, None
        self._hold(entry, entry.hard_end)
        self.leaving.discard(entry.id)
        self.touch(entry)
        return True

    def set_plan(self, entry: Entry, plan: Plan | None) -> None:
        """Promise a start, or take the promise back."""
        if entry.plan is not None:
            self.lift(entry)
            self.forget_plan(entry)
        if plan is not None:
            entry.plan = plan
            entry.guess = None
            self.unsaid.add(entry.id)
            self.planned[entry.id] = entry
            self.unserved.discard(entry.id)
            self.put_back(entry)
            entry.first_eta = plan.start if entry.first_eta is None else entry.first_eta
            self.touch(entry)

    def forget_plan(self, entry: Entry) -> None:
        """Drop a promise whose slots are lifted already."""
        entry.plan = entry.reason = None
        self.planned.pop(entry.id, None)
        self.unserved.add(entry.id)
        self.lost.add(entry.id)
        self.touch(entry)

    def lift(self, entry: Entry) -> None:
        """Take an entry's promised slots off the board for a moment; `put_back` or `forget_plan` follows."""
        plan = entry.plan
        if plan is not None and (board := self.boards.get(plan.pool)):
            board.unplan(entry.id, plan.slots, plan.start, plan.end)
            gpus = -gpus_of(board, plan.slots)
            self.quotas.plan(entry.request.tenant, board.pool.accelerator, gpus, plan.start, plan.end)

    def put_back(self, entry: Entry) -> None:
        """Put an entry's promised slots on the board."""
        plan = entry.plan
        if plan is not None and (board := self.boards.get(plan.pool)):
            board.plan(entry.id, plan.slots, plan.start, plan.end)
            gpus = gpus_of(board, plan.slots)
            self.quotas.plan(entry.request.tenant, board.pool.accelerator, gpus, plan.start, plan.end)

    def in_quota(self, entry: Entry, board: Board, start: int) -> bool:
        """Tell whether the tenant's quota has room for a gang in a pool, from `start` for its walltime there."""
        request, name = entry.request, board.pool.accelerator
        gpus = request.gpus / board.pool.slots_per_gpu
        return self.quotas.allows(request.tenant, name, gpus, start, start + entry.limit_on(name))

    def is_free(self, entry: Entry, board: Board, slots: Slots, start: int, end: int) -> bool:
        """Tell whether slots, and the tenant's quota of them, are free from `start` up to `end`."""
        gpus, name = gpus_of(board, slots), board.pool.accelerator
        return board.is_free(slots, start, end) and self.quotas.allows(entry.request.tenant, name, gpus, start, end)

    def _hold(self, entry: Entry, end: int) -> None:
        board = self.boards.get(entry.pool or "")
        if board is not None:
            board.hold(entry.id, entry.slots, end)
            name = board.pool.accelerator
            self.quotas.hold(entry.request.tenant, name, gpus_of(board, entry.slots), end)

    def _drop(self, entry: Entry, end: int) -> None:
        board = self.boards.get(entry.pool or "")
        if board is not None:
            board.drop(entry.id, entry.slots, end)
            name = board.pool.accelerator
            self.quotas.hold(entry.request.tenant, name, -gpus_of(board, entry.slots), end)

    def resize(self, entry: Entry, slots: Slots) -> None:
        """Let a holder hold other slots of its pool."""
        assert entry.hard_end is not None  # noqa: S101
        self.freed = self.freed or sum(s.gpus for s in slots) < entry.holds()
        self._drop(entry, entry.hard_end)
        entry.slots = slots
        self._hold(entry, entry.hard_end)
        self.touch(entry)

    # ------------------------------------------------------------ calendar, policy, nodes

    def publish(self, calendar: CapacityCalendar) -> None:
        """Let a new calendar hold from now on; promises that it cannot keep are taken back, the last in rank first."""
        check_calendar(calendar)
        self.load(calendar, self.policy, self.nodes)
        self.review()

    def review(self) -> None:
        """Take back the promises that can no longer be kept, the last in rank first."""
        planned = sorted(self.planned.values(), key=_rank)
        for entry in planned:
            self.lift(entry)
        for entry in planned:
            plan = entry.plan
            board = None if plan is None else self.boards.get(plan.pool)
            if plan is None or board is None or not self.is_free(entry, board, plan.slots, plan.start, plan.end):
                self.forget_plan(entry)
            else:
                self.put_back(entry)

    def copy(self) -> Book:
        """Return a book in the same state, to try something on."""
        other = Book()
        other.live = {id: copy(entry) for id, entry in self.live.items()}
        other.load(self.calendar, self.policy, dict(self.nodes))
        other.arrivals, other.tokens = self.arrivals, self.tokens
        return other

    def load(self, calendar: CapacityCalendar | None, policy: Policy, nodes: dict[str, NodeState]) -> None:
        """Build the boards anew, by a calendar, a policy and the nodes' states, and put on them what there is."""
        entries = list(self.live.values())
        self.calendar, self.policy, self.nodes = calendar, policy, nodes
        pools = calendar.pools if calendar is not None else ()
        self.boards = {pool.name: Board(pool, steps_of(calendar, pool.name)) for pool in pools if calendar is not None}
        self._wholes = {}
        self.by_accelerator = {}
        for board in sorted(self.boards.values(), key=lambda board: (board.pool.price_per_node_hour, board.pool.name)):
            self.by_accelerator.setdefault(board.pool.accelerator, []).append(board)
            board.set_out(self.out_of(board.pool.name))
        self.quotas = Quotas(policy)
        self.live, self.line, self.planned = {}, Line(), {}
        for entry in entries:
            self.add(entry)
        self.freed = True

    def out_of(self, pool: str) -> set[int]:
        """Return the numbers of a pool's nodes that take no gang."""
        return {
            int(name.rpartition("-")[2])
            for name, state in self.nodes.items()
            if state is not NodeState.READY and name.rpartition("-")[0] == pool
        }

    def pools_for(self, request: GangRequest) -> list[Board]:
        """Return the boards that may serve a request, the preferred first."""
        slot = request.slot
        return [
            board
            for name in request.accelerators
            for board in self.by_accelerator.get(name, ())
            if board.pool.slot == slot
        ]

    def check_servable(self, request: GangRequest, entry: Entry) -> None:
        """Refuse what no calendar, and no quota, could ever serve; with no calendar yet, let it wait."""
        classes = self.policy.priority_classes
        if request.priority_class and request.priority_class not in classes:
            known = ", ".join(classes) or "none"
            raise InputError("priority_class", request.priority_class, f"is not in the policy: use one of {known}")
        if self.calendar is None:
            return
        boards = self.pools_for(request)
        if not boards:
            raise self._no_pool(request)
        if not any(ever_fits(board.pool, most_nodes(board), entry.shape) for board in boards):
            wish = " + ".join(f"{pods.count} x {pods.gpus_per_pod} GPUs" for pods in request.pod_sets)
            room = ", ".join(
                f"{board.pool.name} has {most_nodes(board)} x {board.pool.slots_per_node}" for board in boards
            )
            close = request.topology
            together = f" in one {close.level}" if close is not None and close.required else ""
            raise InputError("pod_sets", wish + together, f"is more than any pool can ever hold: {room}; ask for less")
        most = max(self.quotas.most(request.tenant, board.pool.accelerator) for board in boards)
        least = min(request.gpus / board.pool.slots_per_gpu for board in boards)
        if least > most:
            remedy = f"may hold at most {most:g} GPUs of {', '.join(request.accelerators)}: ask for less, or for quota"
            raise InputError("tenant", f"{request.tenant} asks for {least:g}", remedy)

    def _no_pool(self, request: GangRequest) -> InputError:
        """Say which accelerators, or which slots of them, there are."""
        pools = [board.pool for name in request.accelerators for board in self.by_accelerator.get(name, ())]
        if pools:
            known = ", ".join(sorted({pool.slot for pool in pools}))
            return InputError("slot", request.slot, f"is not what these pools are divided into: use one of {known}")
        known = ", ".join(sorted(self.by_accelerator))
        return InputError("accelerators", ", ".join(request.accelerators), f"is in no pool: use one of {known}")


def _rank(entry: Entry) -> Rank:
    return entry.rank


def _displaceable(entry: Entry) -> bool:
    return entry.displaceable


def most_nodes(board: Board) -> int:
    """Return the most nodes that a pool could come to have."""
    return max(board.pool.max_nodes, board.steps.most)


def gpus_of(board: Board, slots: Slots) -> float:
    """Return the GPUs that slots are, whole or in parts."""
    return sum(slot.gpus for slot in slots) / board.pool.slots_per_gpu


def steps_of(calendar: CapacityCalendar, pool: str) -> Steps:
    """Return a pool's node count over time; between two intervals that do not touch there are no nodes."""
    spans = sorted((to_us(i.start), to_us(i.end), i.nodes) for i in calendar.intervals if i.pool == pool)
    steps: list[tuple[int, int]] = []
    for index, (start, end, nodes) in enumerate(spans):
        if not steps or steps[-1][1] != nodes:
            steps.append((start, nodes))
        if index + 1 < len(spans) and spans[index + 1][0] > end:
            steps.append((end, 0))
    return Steps(steps)


def check_calendar(calendar: CapacityCalendar) -> None:
    """Refuse a calendar that says two things of one pool and moment."""
    last: dict[str, int] = {}
    for interval in sorted(calendar.intervals, key=lambda i: i.start):
        if to_us(interval.start) < last.get(interval.pool, 0):
            raise InputError(
                "intervals", f"{interval.pool} {interval.start.isoformat()}", "overlaps the one before: leave one out"
            )
        last[interval.pool] = to_us(interval.end)
    names = [pool.name for pool in calendar.pools]
    for name in names:
        if names.count(name) > 1:
            raise InputError("pools.name", name, "stands twice: give each pool a name of its own")


__all__ = ["FIRST", "Book", "Document", "Shape", "check_calendar", "gpus_of"]
