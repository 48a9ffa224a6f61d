"""Who holds what, and who may: the boards of a calendar's pools and the quotas of a policy, kept in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from gangplan.errors import InputError
from gangplan.reserve.admission.entry import Entry
from gangplan.reserve.policy import Policy, Quotas
from gangplan.reserve.space import Board, Marks, Shape, Slots, ever_fits, spans_of, steps_of
from gangplan.types import CapacityCalendar, FreeCapacity, GangRequest, Limit, ReservationState

Undo = Callable[[], None]
"""Takes a trial change back."""


class Occupancy:
    """The slots and the quota that reservations hold or are promised, under one calendar and one policy."""

    def __init__(self, calendar: CapacityCalendar | None, policy: Policy) -> None:
        self.policy = policy
        self.quotas = Quotas(policy)
        self.boards: dict[str, Board] = {}
        self.by_accelerator: dict[str, list[Board]] = {}  # the cheapest first
        self._totals: dict[str, float] = {}  # cache of `_total`
        if calendar is not None:
            self.boards = {pool.name: Board(pool, steps_of(calendar, pool.name)) for pool in calendar.pools}
        for board in sorted(self.boards.values(), key=lambda board: (board.pool.price_per_node_hour, board.pool.name)):
            self.by_accelerator.setdefault(board.pool.accelerator, []).append(board)

    def set_nodes(self, marks: Marks) -> None:
        """Let exactly the nodes that are marked take no gang in the times that their marks say."""
        for pool, board in self.boards.items():
            board.set_out(spans_of(marks, pool))

    # ------------------------------------------------------------ what an entry takes

    def put(self, entry: Entry) -> None:
        """Let the slots that an entry holds, or is promised, count as taken."""
        self._count(entry, 1)

    def take(self, entry: Entry) -> None:
        """Free the slots that an entry holds, or is promised."""
        self._count(entry, -1)

    def lift(self, entry: Entry) -> Undo:
        """Free an entry's promised slots for a trial; the answer puts them back."""
        self.take(entry)
        return partial(self.put, entry)

    def _count(self, entry: Entry, sign: int) -> None:
        """Count an entry's slots on their board and in its tenant's quota, or (sign -1) no longer."""
        tenant, promise = entry.request.tenant, entry.promise
        if promise is not None:
            board = self.boards.get(promise.pool)
            if board is not None:
                (board.plan if sign > 0 else board.unplan)(entry.id, promise.slots, promise.start, promise.end)
                gpus = sign * gpus_of(board, promise.slots)
                self.quotas.plan(tenant, board.pool.accelerator, gpus, promise.start, promise.end)
        elif entry.state is ReservationState.GRANTED and entry.hard_end is not None:
            board = self.boards.get(entry.pool or "")
            if board is not None:
                (board.hold if sign > 0 else board.drop)(entry.id, entry.slots, entry.hard_end)
                gpus = sign * gpus_of(board, entry.slots)
                self.quotas.hold(tenant, board.pool.accelerator, gpus, entry.hard_end)

    # ------------------------------------------------------------ questions

    def pools_for(self, request: GangRequest) -> list[Board]:
        """Return the boards that may serve a request, the preferred first."""
        return [
            board
            for name in request.accelerators
            for board in self.by_accelerator.get(name, ())
            if board.pool.slot == request.slot
        ]

    def free_capacity(self, start: int, end: int) -> Iterator[FreeCapacity]:
        """Yield the planned and held slots of each pool from `start` up to `end`."""
        for board in self.boards.values():
            yield from board.free_capacity(start, end)

    def in_quota(self, entry: Entry, board: Board, start: int, *, own: bool = False) -> bool:
        """Tell whether the tenant's quota (`own`: nominal) has room for a gang in a pool, for its walltime there."""
        request, name = entry.request, board.pool.accelerator
        gpus = request.gpus / board.pool.slots_per_gpu
        return self.quotas.allows(request.tenant, name, gpus, start, start + entry.limit_on(name), own=own)

    def may_fit_now(self, entry: Entry) -> bool:
        """Tell by counts alone whether any pool may have the slots now; what is promised on them does not count."""
        return any(entry.shape.fits_in([len(nodes) for nodes in b.by_free]) for b in self.pools_for(entry.request))

    def may_own(self, entry: Entry) -> bool:
        """Tell whether a gang may ever start without borrowing."""
        return not all(self.would_borrow(entry, board, held=False) for board in self.pools_for(entry.request))

    def may_borrow(self, entry: Entry) -> bool:
        """Tell whether a gang may ever start by borrowing."""
        tenant = entry.request.tenant
        return any(self.quotas.may_borrow(tenant, name) for name in entry.request.accelerators)

    def would_borrow(self, entry: Entry, board: Board, *, held: bool = True) -> bool:
        """Tell whether a gang has to borrow in a pool, with what its tenant holds now or (not `held`) by itself."""
        request, name = entry.request, board.pool.accelerator
        gpus = request.gpus / board.pool.slots_per_gpu
        return self.quotas.may_borrow(request.tenant, name) and not self.quotas.within_nominal(
            request.tenant, name, gpus - (0 if held else self.quotas.held(request.tenant, name))
        )

    def is_free(self, entry: Entry, board: Board, slots: Slots, start: int, end: int, *, keep: bool = False) -> bool:
        """Tell whether slots, and the tenant's quota of them, are free; `keep` is that of `Board.free_over`."""
        gpus, name = gpus_of(board, slots), board.pool.accelerator
        allowed = self.quotas.allows(entry.request.tenant, name, gpus, start, end)
        return allowed and board.is_free(slots, start, end, keep=keep)

    def can_keep(self, entry: Entry) -> bool:
        """Tell whether the slots of a lifted promise are still free for it, on nodes that are there or may be back."""
        promise = entry.promise
        board = None if promise is None else self.boards.get(promise.pool)
        if promise is None or board is None:
            return False
        return self.is_free(entry, board, promise.slots, promise.start, promise.end, keep=True)

    # ------------------------------------------------------------ shares

    def share(self, tenant: str) -> float:
        """Return a tenant's dominant share of what it holds, over its weight."""
        used = self.quotas.used.get(tenant, {})
        shares = (gpus / self._total(name) for name, gpus in used.items())
        return max(shares, default=0.0) / self.policy.tenant(tenant).weight

    def part(self, entry: Entry) -> float:
        """Return what a gang adds to its tenant's share, on the accelerator that it prefers."""
        total = self._total(entry.request.accelerators[0])
        return entry.shape.gpus / total / self.policy.tenant(entry.request.tenant).weight

    def _total(self, accelerator: str) -> float:
        """Return the most GPUs that there can be of an accelerator, or 1 where there are none."""
        if accelerator not in self._totals:
            boards = self.by_accelerator.get(accelerator, ())
            self._totals[accelerator] = sum(board.most_nodes * board.pool.gpus_per_node for board in boards) or 1.0
        return self._totals[accelerator]

    # ------------------------------------------------------------ refusals

    def refusal(self, request: GangRequest, shape: Shape) -> tuple[Limit, InputError] | None:
        """Say why a request can never start: no pool could hold it, or its tenant's quota could never allow it."""
        boards = self.pools_for(request)
        if not boards:
            return Limit.CALENDAR, self._no_pool(request)
        if not any(ever_fits(board.pool, board.most_nodes, shape) for board in boards):
            wish = " + ".join(f"{pods.count} x {pods.gpus_per_pod} GPUs" for pods in request.pod_sets)
            room = ", ".join(f"{board.pool.name} has {board.most_nodes} x {board.whole}" for board in boards)
            topology = request.topology
            together = f" in one {topology.level}" if topology is not None and topology.required else ""
            remedy = f"is more than any pool can ever hold: {room}; ask for less"
            return Limit.CALENDAR, InputError("pod_sets", wish + together, remedy)
        most = max(self.quotas.most(request.tenant, board.pool.accelerator) for board in boards)
        least = min(request.gpus / board.pool.slots_per_gpu for board in boards)
        if least > most:
            remedy = f"may hold at most {most:g} GPUs of {', '.join(request.accelerators)}: ask for less, or for quota"
            return Limit.QUOTA, InputError("tenant", f"{request.tenant} asks for {least:g}", remedy)
        return None

    def _no_pool(self, request: GangRequest) -> InputError:
        """Say which accelerators, or which slots of them, there are."""
        pools = [board.pool for name in request.accelerators for board in self.by_accelerator.get(name, ())]
        if pools:
            slots = sorted({pool.slot for pool in pools})
            return InputError.unknown("slot", request.slot, "not what these pools are divided into", slots)
        asked = ", ".join(request.accelerators)
        return InputError.unknown("accelerators", asked, "in no pool", sorted(self.by_accelerator))


def gpus_of(board: Board, slots: Slots) -> float:
    """Return the GPUs that slots are, whole or in parts."""
    return sum(slot.gpus for slot in slots) / board.pool.slots_per_gpu
