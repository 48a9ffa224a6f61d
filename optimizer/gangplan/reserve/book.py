"""The ledger's present state in memory: what waits, what runs, and each pool's board. No input or output here.

A store keeps one book, brings it up to date, lets one call at a time work on it, and writes what `changed`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heappop, heappush
from typing import NamedTuple

from gangplan.errors import InputError
from gangplan.reserve.board import Board, Shape, Slots, Steps, ever_fits
from gangplan.reserve.entry import Entry, Plan
from gangplan.reserve.moments import to_us
from gangplan.reserve.policy import Policy
from gangplan.types import CapacityCalendar, GangRequest, NodeState, ReservationId, ReservationState, Token


class Document(NamedTuple):
    """A calendar, a policy or the nodes' states: as written; the newest of a kind is in force."""

    kind: str  # calendar, policy or nodes
    body: str
    by: str = ""
    why: str = ""


class Book:
    """All reservations that are not final, in rank order, and the boards that they stand on."""

    def __init__(self) -> None:
        self.calendar: CapacityCalendar | None = None
        self.policy = Policy()
        self.nodes: dict[str, NodeState] = {}  # by name, those that are not ready
        self.documents: list[Document] = []  # calendars, policies and nodes' states that are to be written
        self.boards: dict[str, Board] = {}
        self.by_accelerator: dict[str, list[Board]] = {}
        self.live: dict[ReservationId, Entry] = {}
        self.waiting: list[tuple[int, float, int, ReservationId]] = []  # rank, then id
        self.planned: dict[ReservationId, Entry] = {}  # what waits with a promise
        self.arrivals = 0
        self.tokens = 0
        self.freed = False  # something became free since the whole line was last served
        self.unserved: set[ReservationId] = set()  # new, or lost its promise, since then
        self._kinds: dict[tuple[Shape, tuple[str, ...]], int] = {}
        self._dues: list[tuple[int, ReservationId]] = []  # a heap; what no longer holds is passed over
        self.changed: dict[ReservationId, Entry] = {}

    # ------------------------------------------------------------ membership

    def add(self, entry: Entry) -> None:
        """Take in an entry as it stands, with its slots or its plan."""
        self.live[entry.id] = entry
        entry.kind = self._kinds.setdefault((entry.shape, entry.request.accelerators), len(self._kinds))
        self.arrivals = max(self.arrivals, entry.arrival)
        self.tokens = max(self.tokens, entry.token or 0)
        if entry.state is ReservationState.WAITING:
            insort(self.waiting, (*entry.rank, entry.id))
            if entry.plan is None:
                self.unserved.add(entry.id)
            if entry.plan is not None:
                self.planned[entry.id] = entry
                self.put_back(entry)
        elif entry.pool in self.boards and entry.hard_end is not None:
            self.boards[entry.pool].hold(entry.id, entry.slots, entry.hard_end)
        self._push_dues(entry)

    def remove(self, id: ReservationId) -> None:
        """Forget an entry and free what it held, if it is here."""
        entry = self.live.pop(id, None)
        if entry is None:
            return
        self.unserved.discard(id)
        if entry.state is ReservationState.WAITING:
            del self.waiting[bisect_left(self.waiting, (*entry.rank, entry.id))]
            self.lift(entry)
            self.planned.pop(id, None)
        elif entry.pool in self.boards and entry.hard_end is not None:
            self.boards[entry.pool].drop(entry.id, entry.slots, entry.hard_end)
        self.freed = True

    def in_order(self) -> list[Entry]:
        """Return what waits, the first in rank first."""
        return [self.live[id] for *_, id in self.waiting]

    def position(self, entry: Entry) -> int:
        """Return how many wait ahead of an entry."""
        return bisect_left(self.waiting, (*entry.rank, entry.id))

    def granted(self) -> list[Entry]:
        """Return what holds slots now."""
        return [entry for entry in self.live.values() if entry.state is ReservationState.GRANTED]

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
        del self.waiting[bisect_left(self.waiting, (*entry.rank, entry.id))]
        self.unserved.discard(entry.id)
        self.tokens += 1
        entry.state = ReservationState.GRANTED
        entry.token = Token(self.tokens)
        entry.pool, entry.slots = board.pool.name, slots
        entry.granted, entry.hard_end = now, end
        entry.expires = min(end, now + entry.duration)
        entry.first_eta = now if entry.first_eta is None else entry.first_eta
        entry.plan = entry.reason = None
        board.hold(entry.id, slots, end)
        self.touch(entry)

    def end(self, entry: Entry, state: ReservationState, at: int) -> None:
        """End a waiting or granted reservation, and free what it held."""
        self.remove(entry.id)
        entry.state, entry.ended = state, at
        entry.plan = entry.reason = None
        self.touch(entry)

    def set_plan(self, entry: Entry, plan: Plan | None) -> None:
        """Promise a start, or take the promise back."""
        if entry.plan is not None:
            self.lift(entry)
            self.forget_plan(entry)
        if plan is not None:
            entry.plan = plan
            self.planned[entry.id] = entry
            self.put_back(entry)
            entry.first_eta = plan.start if entry.first_eta is None else entry.first_eta
            self.touch(entry)

    def forget_plan(self, entry: Entry) -> None:
        """Drop a promise whose slots are lifted already."""
        entry.plan = entry.reason = None
        self.planned.pop(entry.id, None)
        self.unserved.add(entry.id)
        self.touch(entry)

    def lift(self, entry: Entry) -> None:
        """Take an entry's promised slots off the board for a moment; `put_back` or `forget_plan` follows."""
        if entry.plan is not None and entry.plan.pool in self.boards:
            self.boards[entry.plan.pool].unplan(entry.id, entry.plan.slots, entry.plan.start, entry.plan.end)

    def put_back(self, entry: Entry) -> None:
        """Put an entry's promised slots on the board."""
        if entry.plan is not None and entry.plan.pool in self.boards:
            self.boards[entry.plan.pool].plan(entry.id, entry.plan.slots, entry.plan.start, entry.plan.end)

    # ------------------------------------------------------------ calendar

    def publish(self, calendar: CapacityCalendar) -> None:
        """Let a new calendar hold from now on; promises that it cannot keep are taken back, the last in rank first."""
        self.load_calendar(calendar)
        for entry in self.in_order():
            plan = entry.plan
            if plan is None:
                continue
            self.lift(entry)
            board = self.boards.get(plan.pool)
            if board is None or not board.is_free(plan.slots, plan.start, plan.end):
                self.forget_plan(entry)
            else:
                self.put_back(entry)

    def load_calendar(self, calendar: CapacityCalendar) -> None:
        """Build the boards of a calendar and put on them what there is."""
        check_calendar(calendar)
        entries = list(self.live.values())
        self.calendar = calendar
        self.boards = {pool.name: Board(pool, steps_of(calendar, pool.name)) for pool in calendar.pools}
        self.by_accelerator = {}
        for board in sorted(self.boards.values(), key=lambda board: (board.pool.price_per_node_hour, board.pool.name)):
            self.by_accelerator.setdefault(board.pool.accelerator, []).append(board)
        self.live, self.waiting, self.planned = {}, [], {}
        for entry in entries:
            self.add(entry)
        self.freed = True

    def pools_for(self, request: GangRequest) -> list[Board]:
        """Return the boards that may serve a request, the preferred first."""
        return [board for name in request.accelerators for board in self.by_accelerator.get(name, ())]

    def check_servable(self, request: GangRequest, entry: Entry) -> None:
        """Refuse what no calendar could ever serve; with no calendar yet, let it wait."""
        if self.calendar is None:
            return
        boards = self.pools_for(request)
        if not boards:
            known = ", ".join(sorted(self.by_accelerator))
            raise InputError("accelerators", ", ".join(request.accelerators), f"is in no pool: use one of {known}")
        if not any(ever_fits(board.pool, most_nodes(board), entry.shape) for board in boards):
            wish = " + ".join(f"{pods.count} x {pods.gpus_per_pod} GPUs" for pods in request.pod_sets)
            room = ", ".join(
                f"{board.pool.name} has {most_nodes(board)} x {board.pool.gpus_per_node}" for board in boards
            )
            close = request.topology
            together = f" in one {close.level}" if close is not None and close.required else ""
            raise InputError("pod_sets", wish + together, f"is more than any pool can ever hold: {room}; ask for less")


def most_nodes(board: Board) -> int:
    """Return the most nodes that a pool could come to have."""
    return max(board.pool.max_nodes, board.steps.most)


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
