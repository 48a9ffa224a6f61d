"""What reserve_gang and release_gang do: reserve a gang once for each run, wait for a bounded time, give it back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import quote

from gangplan import client
from gangplan.clock import Clock
from gangplan.errors import InputError, Refusal, WaitTimeoutError
from gangplan.reserve import Ledger, open_ledger
from gangplan.types import (
    WHOLE_GPU,
    GangRequest,
    PipelineOwner,
    Reservation,
    ReservationState,
    request_from as gang_request_from,
    require_at_least,
    require_name,
)
from gangplan_kfp.support.steps import say, settings_from

LOOK_EVERY = timedelta(seconds=5)
"""How often a waiting step asks for a changed ETA or reason."""

_CALLED = {
    "pod_sets.count": "pods",
    "pod_sets.gpus_per_pod": "gpus_per_pod",
    "pod_sets.min_count": "min_pods",
    "pod_sets.max_count": "max_pods",
}
"""Parameters that are named otherwise than the request's fields."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A granted reservation, and the lines that were logged while it waited."""

    reservation: Reservation
    lines: tuple[str, ...]

    def outputs(self) -> tuple[str, int, str, list[str], str]:
        """Return the component's outputs: id, token, pool, nodes, end of the lease."""
        held = self.reservation
        pools = dict.fromkeys(placement.pool for placement in held.placements)
        nodes = [placement.node for placement in held.placements]
        until = "" if held.expires_at is None else held.expires_at.isoformat()
        return held.id, int(held.token or 0), ",".join(pools), nodes, until


def request_key(run_id: str, name: str, part: object = "") -> str:
    """Return the request key that reserve_gang and release_gang of one run share."""
    if not run_id or "{{" in run_id:
        raise InputError("run_id", run_id, "is no run's id: pass dsl.PIPELINE_JOB_ID_PLACEHOLDER")
    last = f"/{require_name('part', str(part))}" if part != "" else ""
    return f"kfp/{run_id}/{require_name('name', name)}{last}"


def _attempt(request: GangRequest) -> str:
    """Return who asks: the run, by which a controller finds what it left. Its retries are one attempt."""
    run, _, name = request.request_key.removeprefix("kfp/").rpartition("/")
    return f"{PipelineOwner(run=run)}/{quote(name, safe='')}/1"


def request_from(
    *,
    run_id: str,
    name: str = "gang",
    tenant: str,
    accelerators: list[str],
    pods: int,
    gpus_per_pod: int,
    duration: str,
    min_pods: int = 0,
    max_pods: int = 0,
    walltime: str = "",
    priority: int = 100,
    priority_class: str = "",
    workload_class: str = "throughput",
    topology: str = "",
    speed: str = "",
    slot: str = WHOLE_GPU,
    deadline: str = "",
    preemptible: bool = False,
    checkpoint: str = "",
    part: object = "",
) -> GangRequest:
    """Make the request from a component's parameters; a wrong one is named as it is called there.

    Nought pods and empty texts are what was not given.
    """
    given = {
        "request_key": request_key(run_id, name, part),
        "tenant": tenant,
        "pod_sets": [(pods, gpus_per_pod, min_pods or None, max_pods or None)],
        "accelerators": accelerators,
        "duration": duration,
        "walltime": walltime or None,
        "priority": priority,
        "priority_class": priority_class,
        "workload_class": workload_class,
        "topology": topology,
        "speed": speed or None,
        "slot": slot,
        "deadline": deadline or None,
        "preemptible": preemptible,
        "checkpoint": checkpoint or None,
    }
    return gang_request_from(given, called=_CALLED)


def take(request: GangRequest, *, timeout_seconds: int, ledger: str, home: str) -> Taken:
    """Submit the request and wait for its grant; a step that runs again keeps its place in the queue.

    Raises WaitTimeoutError, with the request out of the line, when the slots did not come within `timeout_seconds`
    of the first try, and Refusal when somebody else ended the request meanwhile.
    """
    require_at_least("timeout_seconds", timeout_seconds, 0)
    settings = settings_from(ledger=ledger, home=home)
    clock = settings.clock
    with open_ledger(settings.ledger_url, clock=clock) as book:
        until = clock() + timedelta(seconds=timeout_seconds)
        asked = client.submit(book, request, until, _attempt(request))
        lines: list[str] = []
        last = client.claim(book, _wait(book, asked, _deadline(asked, until), clock, lines.append))
        if last.state is not ReservationState.GRANTED:
            client.end(book, last)
            raise _refusal(last, timeout_seconds, lines)
        return Taken(reservation=last, lines=tuple(lines))


def give_back(*, run_id: str, name: str, part: object = "", ledger: str, home: str) -> str:
    """Release what the run holds, or cancel what it waits for; return the final state, or `none`."""
    key = request_key(run_id, name, part)
    settings = settings_from(ledger=ledger, home=home)
    with open_ledger(settings.ledger_url, clock=settings.clock) as book:
        client.give_back(book, key)
        reservations = client.lives(book, key)
    state = reservations[-1].state.value if reservations else "none"
    say(f"{key}: nothing was reserved" if state == "none" else f"{key}: {state}")
    return state


def _wait(book: Ledger, asked: Reservation, until: datetime, clock: Clock, note: Callable[[str], None]) -> Reservation:
    """Wait until the reservation no longer waits or the time is over; log state, ETA and reason when they change."""
    last = ""
    while True:
        if (line := standing(asked, until, _expected(book, asked))) != last:
            last = line
            note(line)
            say(line)
        left = until - clock()
        if not asked.state.waits or left <= timedelta(0):
            return asked
        try:
            asked = book.wait(asked.id, timeout=min(left, LOOK_EVERY))
        except WaitTimeoutError:
            asked = book.get(asked.id)


def _expected(book: Ledger, asked: Reservation) -> datetime | None:
    """Return the ETA; without one, because the step's time is over before, when the request would start."""
    if asked.state is not ReservationState.WAITING or asked.eta is not None:
        return asked.eta
    patient = replace(asked.request, request_key=f"{asked.request.request_key}?", latest_start=None, deadline=None)
    return book.what_if(patient)[0]


def _deadline(asked: Reservation, until: datetime) -> datetime:
    """Return until when the step waits: a step that runs again has the time that its first run left.

    A step whose nodes were lost has its full time to wait for others in their place.
    """
    latest = asked.request.latest_start
    if latest is None:
        raise Refusal(f"{asked.request.request_key}: was reserved by something else: give this step a name of its own")
    return until if asked.interruptions else latest - client.ABANDONED_AFTER


def standing(reservation: Reservation, until: datetime, expected: datetime | None = None) -> str:
    """Return one line about a reservation: on which nodes and until when it is granted, or until when and why it waits.

    `until` is when the step stops waiting.
    """
    if reservation.state is ReservationState.GRANTED:
        return f"granted: {client.places_text(reservation)}, until {client.time_text(reservation.expires_at)}"
    if not reservation.state.waits:
        return reservation.state.value
    late = "" if expected is None or expected <= until else ", after this step's patience ends"
    eta = client.eta_text(reservation, expected=expected)
    return client.wait_text(reservation, f"{eta}{late}", name_slots=False)


def _refusal(last: Reservation, timeout_seconds: int, lines: list[str]) -> Refusal:
    """Return the error that says why the gang was not granted."""
    asked = last.request
    waited = next((line for line in reversed(lines) if line.startswith("waiting")), "it did not wait")
    if last.state is ReservationState.EXPIRED:
        return Refusal(f"{asked.request_key}: the last start that would do has passed: {waited}")
    if not last.state.waits:
        return Refusal(f"{asked.request_key}: was {last.state.value} by somebody else while it waited: retry the run")
    gang = f"{asked.gpus} GPUs of {' or '.join(asked.accelerators)}"
    return WaitTimeoutError(f"timeout_seconds: {gang} did not come within {timeout_seconds} s: {waited}")
