"""What reserve_gang and release_gang do: take a gang once for each run, wait with a bound, give it back by its key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gangplan.clock import Clock, system_clock
from gangplan.errors import InputError, NotFoundError, Refusal, WaitTimeoutError
from gangplan.reserve import Ledger, open_ledger
from gangplan.types import (
    GangRequest,
    PodSet,
    Reservation,
    ReservationState,
    WorkloadClass,
    require_at_least,
    require_name,
    require_positive,
)
from gangplan_kfp.edge import say, settings_from

LOOK_EVERY = timedelta(seconds=5)
"""How often a waiting step looks for a changed ETA or reason."""

ABANDONED_AFTER = timedelta(minutes=1)
"""A request that outlives its step's patience by this much was left by a step that died: the ledger expires it."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A granted reservation and what was said while it waited."""

    reservation: Reservation
    told: tuple[str, ...]

    def outputs(self) -> tuple[str, int, str, list[str], str]:
        """Return what the component hands on: id, token, pool, nodes, end of the lease."""
        held = self.reservation
        pools = dict.fromkeys(placement.pool for placement in held.placements)
        nodes = [placement.node for placement in held.placements]
        until = "" if held.expires_at is None else held.expires_at.isoformat()
        return held.id, int(held.token or 0), ",".join(pools), nodes, until


def request_key(run_id: str, name: str) -> str:
    """Return the key that reserve and release of one run share."""
    if not run_id or "{{" in run_id:
        raise InputError("run_id", run_id, "is no run's id: pass dsl.PIPELINE_JOB_ID_PLACEHOLDER")
    return f"kfp/{run_id}/{require_name('name', name)}"


def request_from(
    *,
    run_id: str,
    name: str,
    tenant: str,
    accelerators: list[str],
    pods: int,
    gpus_per_pod: int,
    duration_minutes: int,
    priority: int,
    workload_class: str,
    same_rack: bool,
    preemptible: bool,
) -> GangRequest:
    """Make the request from a component's parameters; a wrong one is named as it is called there."""
    require_at_least("pods", pods, 1)
    require_at_least("gpus_per_pod", gpus_per_pod, 1)
    require_positive("duration_minutes", duration_minutes)
    if workload_class not in list(WorkloadClass):
        raise InputError("workload_class", workload_class, f"is unknown: use one of {', '.join(WorkloadClass)}")
    return GangRequest(
        request_key=request_key(run_id, name),
        tenant=tenant,
        pod_sets=(PodSet(count=pods, gpus_per_pod=gpus_per_pod),),
        accelerators=tuple(accelerators),
        duration=timedelta(minutes=duration_minutes),
        priority=priority,
        workload_class=WorkloadClass(workload_class),
        same_rack=same_rack,
        preemptible=preemptible,
    )


def take(request: GangRequest, *, timeout_seconds: int, ledger: str, home: str, clock: Clock = system_clock) -> Taken:
    """Submit the request and wait for its grant; a step that runs again takes up its place where it left it.

    Raises WaitTimeoutError, with the request out of the line, when the slots did not come within `timeout_seconds`
    of the first try, and Refusal when this run's reservation has ended already.
    """
    require_at_least("timeout_seconds", timeout_seconds, 0)
    with open_ledger(settings_from(ledger=ledger, home=home).ledger_url, clock=clock) as book:
        asked = _submit(book, request, clock() + timedelta(seconds=timeout_seconds))
        told: list[str] = []
        last = _wait(book, asked, clock, told.append)
        got = _end(book, last, only_waiting=True)
        if got.state is not ReservationState.GRANTED:
            raise _refusal(last, timeout_seconds)
        return Taken(reservation=got, told=tuple(told))


def give_back(*, run_id: str, name: str, ledger: str, home: str) -> str:
    """Release what the run holds, or take it out of the line; return the state that it ended in, or `none`."""
    key = request_key(run_id, name)
    with open_ledger(settings_from(ledger=ledger, home=home).ledger_url) as book:
        try:
            found = book.find(key)
        except NotFoundError:
            say(f"{key}: nothing was reserved, nothing to release")
            return "none"
        ended = _end(book, found)
    say(f"{key}: {ended.state.value}")
    return ended.state.value


def _submit(book: Ledger, request: GangRequest, deadline: datetime) -> Reservation:
    """Submit with the latest start by which an abandoned request expires; a repeated step keeps the first one's."""
    try:
        latest = book.find(request.request_key).request.latest_start
    except NotFoundError:
        latest = (deadline + ABANDONED_AFTER).replace(microsecond=0)
    return book.submit(replace(request, latest_start=latest))


def _wait(book: Ledger, asked: Reservation, clock: Clock, note: Callable[[str], None]) -> Reservation:
    """Wait until it is no longer waiting or the patience is over; say state, ETA and reason when they change."""
    said = ""
    while True:
        if (line := standing(asked)) != said:
            said = line
            note(f"{clock():%H:%M:%S} {line}")
            say(line)
        left = _deadline(asked) - clock()
        if asked.state is not ReservationState.WAITING or left <= timedelta(0):
            return asked
        try:
            asked = book.wait(asked.id, timeout=min(left, LOOK_EVERY))
        except WaitTimeoutError:
            asked = book.get(asked.id)


def _deadline(asked: Reservation) -> datetime:
    """Return when the step's patience ends."""
    latest = asked.request.latest_start
    if latest is None:
        raise Refusal(f"{asked.request.request_key}: was reserved by something else: give this step a name of its own")
    return latest - ABANDONED_AFTER


def _end(book: Ledger, found: Reservation, *, only_waiting: bool = False) -> Reservation:
    """Take it out of the line or release it; what was granted a moment ago counts as granted."""
    if found.state is ReservationState.WAITING:
        try:
            found = book.cancel(found.id)
        except Refusal:
            found = book.get(found.id)
    if found.state is ReservationState.GRANTED and found.token is not None and not only_waiting:
        return book.release(found.id, found.token)
    return found


def standing(reservation: Reservation) -> str:
    """Say in a line where a reservation stands: granted where and until when, or why it waits and until when."""
    if reservation.state is ReservationState.GRANTED:
        return f"granted: {_places(reservation)}, until {_minute(reservation.expires_at)}"
    if reservation.state is not ReservationState.WAITING:
        return reservation.state.value
    why = "" if reservation.reason is None else f": {reservation.reason.message}"
    return f"waiting{why}; expected to start {_minute(reservation.eta)}"


def _refusal(last: Reservation, timeout_seconds: int) -> Refusal:
    """Say why the gang was not granted."""
    asked = last.request
    if last.state is not ReservationState.WAITING:
        return Refusal(f"{asked.request_key}: this run's reservation has {last.state.value} already: start a new run")
    gang = f"{asked.gpus} GPUs of {' or '.join(asked.accelerators)}"
    return WaitTimeoutError(f"timeout_seconds: {gang} did not come within {timeout_seconds} s: {standing(last)}")


def _places(reservation: Reservation) -> str:
    """Name the nodes with their GPUs."""
    return ", ".join(f"{p.gpus} GPUs on {p.node}" for p in reservation.placements)


def _minute(moment: datetime | None) -> str:
    """Write a time for a person."""
    return "at an unknown time" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
