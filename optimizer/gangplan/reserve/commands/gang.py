"""The commands of whoever reserves: ask for a gang, keep it, give it back, let it grow and shrink."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import ClassVar

from gangplan.clock import from_us, span_us, to_us
from gangplan.errors import InputError, KeyConflictError, NoRoomError, StaleTokenError
from gangplan.reserve.admission import Book, Entry
from gangplan.reserve.codec import id_of, request_text
from gangplan.reserve.commands.command import Command, HolderCommand, Lookup, ReservationCommand, require_entry
from gangplan.reserve.space import Slot, Slots
from gangplan.reserve.takeover import require_owner, require_present
from gangplan.types import (
    GangRequest,
    ReservationId,
    ReservationState,
    require_attempt,
    require_items,
    require_positive,
    require_type,
    require_whole,
)


@dataclass(frozen=True)
class Submit(Command):
    """Let a request wait; one whose key is known gets the reservation that there is, for the attempt that asks."""

    name: ClassVar[str] = "submit"
    request: GangRequest
    attempt: str = ""

    def __post_init__(self) -> None:
        require_type("request", self.request, GangRequest, "a GangRequest")
        require_attempt(self.attempt)

    @property
    def subject(self) -> ReservationId:
        """The reservation that the request's key stands for."""
        return id_of(self.request.request_key)

    @cached_property
    def body(self) -> str:
        """The request's one text."""
        return request_text(self.request)

    def run(self, book: Book, lookup: Lookup, now: int) -> Entry:
        """See `Command.run`."""
        id, request = self.subject, self.request
        known = lookup(id)
        if known is None:
            return self.enter(book, id, now)
        if not known.state.final:
            require_owner(request.request_key, known.attempt, self.attempt)
        if known.body != self.body:
            raise KeyConflictError(
                f"request_key: {request.request_key!r} was used with another body: give a new request its own key"
            )
        if self.attempt not in ("", known.attempt) and not known.state.final:
            book.take_over(known, self.attempt, now)
        return known

    def enter(self, book: Book, id: ReservationId, now: int) -> Entry:
        """Let the request wait as a new one, or refuse it."""
        request = self.request
        fresh = Entry(id=id, request=request, body=self.body, arrival=0, submitted=now)
        _refuse_late(request, fresh.latest, now)
        book.check_servable(request, fresh.shape)
        return book.enter(request, id=id, body=self.body, now=now, attempt=self.attempt)


def _refuse_late(request: GangRequest, latest: int | None, now: int) -> None:
    """Refuse a request whose last start that would do is past."""
    if latest is None or latest >= now:
        return
    window, deadline = request.latest_start, request.deadline
    if deadline is not None and (window is None or to_us(window) > latest):
        raise InputError("deadline", deadline.isoformat(), "cannot be met any more: give a later one, or none")
    raise InputError("latest_start", from_us(latest).isoformat(), "is past: give a later one, or none")


@dataclass(frozen=True)
class Renew(HolderCommand):
    """Move a lease's end to `ttl` (default: the request's duration) from now, never past the hard walltime.

    The first one claims the grant.
    """

    name: ClassVar[str] = "renew"
    ttl: timedelta | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ttl is not None:
            require_type("ttl", self.ttl, timedelta, "a timedelta")
            require_positive("ttl", self.ttl.total_seconds())

    def run(self, book: Book, lookup: Lookup, now: int) -> Entry:
        """See `Command.run`."""
        entry = self.held_entry(lookup)
        if entry.state is not ReservationState.GRANTED or entry.hard_end is None:
            raise StaleTokenError(
                f"token: {self.token} of {self.id} ended ({entry.state}): its lease cannot be renewed"
            )
        book.renew(entry, entry.duration if self.ttl is None else span_us(self.ttl), now)
        return entry


@dataclass(frozen=True)
class Release(HolderCommand):
    """Give the slots back; what ended already stays as it ended."""

    name: ClassVar[str] = "release"

    def run(self, book: Book, lookup: Lookup, now: int) -> Entry:
        """See `Command.run`."""
        entry = self.held_entry(lookup)
        if entry.state is ReservationState.GRANTED:
            book.end(entry, ReservationState.RELEASED, now)
        return entry


@dataclass(frozen=True)
class Cancel(ReservationCommand):
    """End what waits or holds slots, for this attempt alone if one is named; what ended already stays as it ended."""

    name: ClassVar[str] = "cancel"
    attempt: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attempt is not None:
            require_attempt(self.attempt)

    def run(self, book: Book, lookup: Lookup, now: int) -> Entry:
        """See `Command.run`."""
        entry = require_entry(lookup(self.id), self.id)
        require_present(self.id, entry.attempt, self.attempt)
        if not entry.state.final:
            book.end(entry, ReservationState.CANCELLED, now)
        return entry


@dataclass(frozen=True)
class Resize(HolderCommand):
    """Give a running gang another number of pods, by pod set, within what its request allows.

    What shrinks is free at once; what grows starts at once beside the rest, or is refused.
    """

    name: ClassVar[str] = "resize"
    pods: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_items("pods", self.pods, int, "whole numbers, one for each pod set")
        for count in self.pods:
            require_whole("pods", count, 1)

    def run(self, book: Book, lookup: Lookup, now: int) -> Entry:
        """See `Command.run`."""
        entry = self.held_entry(lookup)
        if entry.state is not ReservationState.GRANTED:
            raise StaleTokenError(f"token: {self.token} of {self.id} ended ({entry.state}): its gang cannot be resized")
        slots = _resized(book, entry, self.pods, now)
        if slots != entry.slots:
            book.resize(entry, slots)
        return entry


def _resized(book: Book, entry: Entry, pods: tuple[int, ...], now: int) -> Slots:
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
    coming = tuple((size, more[at], at) for size, _, at in entry.shape.pods if more[at])
    shape = entry.shape._replace(pods=coming, gpus=gpus)  # as close to the gang as the request asks
    extra = board.fit_more(slots, shape, now, entry.hard_end)
    if extra is None:
        raise NoRoomError(f"resize: {wish}: {gpus} GPUs do not fit in {board.pool.name} now: ask for less, or later")
    return extra


def _merged(slots: Slots, extra: Slots) -> Slots:
    """Return the slots of both, those of one node and pod set as one."""
    together: dict[tuple[int, int], Slot] = {}
    for slot in (*slots, *extra):
        there = together.get((slot.node, slot.pod_set), Slot(slot.node, slot.pod_set, 0, 0))
        both = Slot(slot.node, slot.pod_set, there.pods + slot.pods, there.gpus + slot.gpus)
        together[slot.node, slot.pod_set] = both
    return tuple(together.values())
