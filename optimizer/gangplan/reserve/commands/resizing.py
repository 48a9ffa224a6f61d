"""The slots of a gang that shrinks or grows while it runs."""

from __future__ import annotations

from gangplan.errors import InputError, NoRoomError
from gangplan.reserve.admission import Book, Entry
from gangplan.reserve.space import Shape, Slot, Slots


def resized(book: Book, entry: Entry, pods: tuple[int, ...], now: int) -> Slots:
    """Return the slots of a running gang with so many pods in each pod set, or refuse."""
    _check_pods(entry, pods)
    held = [sum(slot.pods for slot in entry.slots if slot.pod_set == at) for at in range(len(pods))]
    fewer = [max(0, have - want) for have, want in zip(held, pods, strict=True)]
    more = [max(0, want - have) for have, want in zip(held, pods, strict=True)]
    slots = _without(entry, fewer)
    return _merged(slots, _more(book, entry, slots, more, now)) if any(more) else slots


def _check_pods(entry: Entry, pods: tuple[int, ...]) -> None:
    """Refuse sizes that the request does not allow."""
    sets = entry.request.pod_sets
    if len(pods) != len(sets):
        raise InputError("pods", list(pods), f"must be {len(sets)} numbers, one for each pod set of the request")
    for at, (count, wish) in enumerate(zip(pods, sets, strict=True)):
        if not wish.least <= count <= wish.most:
            remedy = f"must be from {wish.least} to {wish.most}, as min_count and max_count of the request say"
            raise InputError(f"pods[{at}]", count, remedy)


def _without(entry: Entry, fewer: list[int]) -> Slots:
    """Return the slots without so many pods, taken first where the gang has the fewest: whole nodes come free."""
    kept: list[Slot] = []
    left = list(fewer)
    for slot in sorted(entry.slots, key=lambda slot: (slot.pods, -slot.node)):
        gone = min(left[slot.pod_set], slot.pods)
        left[slot.pod_set] -= gone
        if slot.pods > gone:
            each = slot.gpus // slot.pods
            kept.append(Slot(slot.node, slot.pod_set, slot.pods - gone, each * (slot.pods - gone)))
    order = {(slot.node, slot.pod_set): at for at, slot in enumerate(entry.slots)}
    return tuple(sorted(kept, key=lambda slot: order[slot.node, slot.pod_set]))


def _more(book: Book, entry: Entry, slots: Slots, more: list[int], now: int) -> Slots:
    """Return slots for so many pods more, from now to the lease's hard end, or refuse."""
    board = book.occupancy.boards.get(entry.pool or "")
    wish = ", ".join(f"{count} pods more of pod set {at}" for at, count in enumerate(more) if count)
    gpus = sum(count * pods.gpus_per_pod for count, pods in zip(more, entry.request.pod_sets, strict=True))
    if board is None or entry.hard_end is None:
        raise NoRoomError(f"resize: {wish}: its pool is not in the present calendar: stay as it is")
    tenant, name = entry.request.tenant, board.pool.accelerator
    if not book.occupancy.quotas.allows(tenant, name, gpus / board.pool.slots_per_gpu, now, entry.hard_end):
        raise NoRoomError(f"resize: {wish}: {tenant}'s quota of {name} has no room now: ask for less, or later")
    extra = board.fit_more(slots, _shape_of_more(entry, more, gpus), now, entry.hard_end)
    if extra is None:
        raise NoRoomError(f"resize: {wish}: {gpus} GPUs do not fit in {board.pool.name} now: ask for less, or later")
    return extra


def _shape_of_more(entry: Entry, more: list[int], gpus: int) -> Shape:
    """Return the shape of the pods that come, as close to the gang as the request asks."""
    pods = tuple((size, more[at], at) for size, _, at in entry.shape.pods if more[at])
    return entry.shape._replace(pods=pods, gpus=gpus)


def _merged(slots: Slots, extra: Slots) -> Slots:
    """Return the slots of both, those of one node and pod set as one."""
    together: dict[tuple[int, int], Slot] = {}
    for slot in (*slots, *extra):
        there = together.get((slot.node, slot.pod_set), Slot(slot.node, slot.pod_set, 0, 0))
        both = Slot(slot.node, slot.pod_set, there.pods + slot.pods, there.gpus + slot.gpus)
        together[slot.node, slot.pod_set] = both
    return tuple(together.values())
