"""What operators and elastic gangs do to a book: a new policy, a node's state, a gang's size."""

from __future__ import annotations

from gangplan.errors import InputError, NoRoomError, StaleTokenError
from gangplan.reserve import codec
from gangplan.reserve.admission import Book, Document, Entry, most_nodes
from gangplan.reserve.commands.gang import Lookup, holding
from gangplan.reserve.moments import span_us
from gangplan.reserve.policy import Policy
from gangplan.reserve.space import Board, Shape, Slot, Slots
from gangplan.types import NodeState, ReservationId, ReservationState, Token, require_items

# ---------------------------------------------------------------- elastic gangs


def resize(book: Book, lookup: Lookup, id: ReservationId, token: Token, pods: tuple[int, ...], now: int) -> Entry:
    """Give a running gang another number of pods, by pod set, within what its request allows.

    What shrinks is free at once; what grows starts at once beside the rest, or is refused.
    """
    entry = holding(lookup, id, token)
    if entry.state is not ReservationState.GRANTED:
        raise StaleTokenError(f"token: {token} of {id} ended ({entry.state}): its gang cannot be resized")
    _check_pods(entry, pods)
    board = book.boards.get(entry.pool or "")
    counts = [sum(slot.pods for slot in entry.slots if slot.pod_set == at) for at in range(len(pods))]
    smaller = [max(0, have - want) for have, want in zip(counts, pods, strict=True)]
    larger = [max(0, want - have) for have, want in zip(counts, pods, strict=True)]
    slots = _less(entry, smaller)
    if any(larger):
        slots = _merged(slots, _more(book, board, entry, slots, larger, now))
    if slots != entry.slots:
        book.resize(entry, slots)
    return entry


def _check_pods(entry: Entry, pods: tuple[int, ...]) -> None:
    """Refuse sizes that the request does not allow."""
    sets = entry.request.pod_sets
    require_items("pods", pods, int, "whole numbers, one for each pod set")
    if len(pods) != len(sets):
        raise InputError("pods", list(pods), f"must be {len(sets)} numbers, one for each pod set of the request")
    for at, (count, wish) in enumerate(zip(pods, sets, strict=True)):
        if not wish.least <= count <= wish.most:
            remedy = f"must be from {wish.least} to {wish.most}, as min_count and max_count of the request say"
            raise InputError(f"pods[{at}]", count, remedy)


def _less(entry: Entry, smaller: list[int]) -> Slots:
    """Return the slots without so many pods, taken first where the gang has the fewest: whole nodes come free."""
    kept: list[Slot] = []
    left = list(smaller)
    for slot in sorted(entry.slots, key=lambda slot: (slot.pods, -slot.node)):
        gone = min(left[slot.pod_set], slot.pods)
        left[slot.pod_set] -= gone
        if slot.pods > gone:
            each = slot.gpus // slot.pods
            kept.append(Slot(slot.node, slot.pod_set, slot.pods - gone, each * (slot.pods - gone)))
    order = {(slot.node, slot.pod_set): at for at, slot in enumerate(entry.slots)}
    return tuple(sorted(kept, key=lambda slot: order[slot.node, slot.pod_set]))


def _more(book: Book, board: Board | None, entry: Entry, slots: Slots, larger: list[int], now: int) -> Slots:
    """Return slots for so many pods more, from now to the lease's hard end, or refuse."""
    wish = ", ".join(f"{count} pods more of pod set {at}" for at, count in enumerate(larger) if count)
    gpus = sum(count * pods.gpus_per_pod for count, pods in zip(larger, entry.request.pod_sets, strict=True))
    if board is None or entry.hard_end is None:
        raise NoRoomError(f"resize: {wish}: its pool is not in the present calendar: stay as it is")
    tenant, name = entry.request.tenant, board.pool.accelerator
    if not book.quotas.allows(tenant, name, gpus / board.pool.slots_per_gpu, now, entry.hard_end):
        raise NoRoomError(f"resize: {wish}: {tenant}'s quota of {name} has no room now: ask for less, or later")
    extra = board.fit_more(slots, _shape_of_more(entry, larger, gpus), now, entry.hard_end)
    if extra is None:
        raise NoRoomError(f"resize: {wish}: {gpus} GPUs do not fit in {board.pool.name} now: ask for less, or later")
    return extra


def _shape_of_more(entry: Entry, larger: list[int], gpus: int) -> Shape:
    """Return the shape of the pods that come, as close to the gang as the request asks."""
    pods = tuple((size, larger[at], at) for size, _, at in entry.shape.pods if larger[at])
    return entry.shape._replace(pods=pods, gpus=gpus)


def _merged(slots: Slots, extra: Slots) -> Slots:
    """Return the slots of both, those of one node and pod set as one."""
    together: dict[tuple[int, int], Slot] = {}
    for slot in (*slots, *extra):
        there = together.get((slot.node, slot.pod_set), Slot(slot.node, slot.pod_set, 0, 0))
        both = Slot(slot.node, slot.pod_set, there.pods + slot.pods, there.gpus + slot.gpus)
        together[slot.node, slot.pod_set] = both
    return tuple(together.values())


# ---------------------------------------------------------------- nodes


def mark_node(book: Book, lookup: Lookup, node: str, state: NodeState, now: int) -> None:
    """Take a node out, or back in: a lost one interrupts its gangs at once, a draining one after notice."""
    pool, number = _node_of(book, node)
    nodes = {name: seen for name, seen in book.nodes.items() if name != node}
    if state is not NodeState.READY:
        nodes[node] = state
    if nodes == book.nodes:
        return
    book.documents.append(Document("nodes", codec.nodes_text(nodes)))
    book.nodes = nodes
    book.boards[pool].set_out(book.out_of(pool))
    for entry in [entry for entry in book.granted() if entry.pool == pool and _is_on(entry, number)]:
        _tell(book, entry, node, state, now)
    book.review()
    book.freed = True


def _node_of(book: Book, node: str) -> tuple[str, int]:
    """Return a node's pool and number, or refuse its name."""
    pool, _, number = node.rpartition("-")
    board = book.boards.get(pool)
    if board is None:
        known = ", ".join(book.boards) or "none: publish a calendar first"
        raise InputError("node", node, f"is no <pool>-<number> of the pools there are: {known}")
    most = most_nodes(board)
    if not number.isdigit() or str(int(number)) != number or int(number) >= most:
        raise InputError("node", node, f"is not there: {pool} has the numbers 0 to {most - 1}")
    return pool, int(number)


def _is_on(entry: Entry, number: int) -> bool:
    return any(slot.node == number for slot in entry.slots)


def _tell(book: Book, entry: Entry, node: str, state: NodeState, now: int) -> None:
    """Do to one gang what its node's new state means for it."""
    leave = entry.leave
    if state is NodeState.LOST:
        book.interrupt(entry)
    elif state is NodeState.DRAINING and leave is None:
        until, why = now + span_us(book.policy.drain), f"node {node} is draining"
        book.give_notice(entry, until, why=why, state=ReservationState.INTERRUPTED)
    elif state is NodeState.READY and leave is not None and leave.state is ReservationState.INTERRUPTED:
        out = book.out_of(entry.pool or "")
        if not any(_is_on(entry, number) for number in out):
            book.take_notice_back(entry)


# ---------------------------------------------------------------- policy


def set_policy(book: Book, lookup: Lookup, policy: Policy, by: str, why: str, now: int) -> None:
    """Let a policy hold from now on: running gangs keep their slots, promises beyond the new quotas are drawn again."""
    book.documents.append(Document("policy", codec.policy_text(policy), by, why))
    book.load(book.calendar, policy, book.nodes)
    book.review()
