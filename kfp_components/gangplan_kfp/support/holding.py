"""What reserve_gang, wait_for_gang and release_gang do: reserve a gang once, wait for a bounded time, give it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from gangplan import client
from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.errors import Refusal, WaitTimeoutError
from gangplan.reserve import KueueLedger, Ledger, open_ledger
from gangplan.types import (
    WHOLE_GPU,
    GangRequest,
    Reservation,
    ReservationState,
    request_from as gang_request_from,
    require_at_least,
)
from gangplan_kfp.support.lease import (
    Gang,
    attempt_of,
    handover_of,
    request_key,
    require_no_secret,
    standing,
    wait_for,
)
from gangplan_kfp.support.steps import say, settings_from

_CALLED = {
    "pod_sets.count": "pods",
    "pod_sets.gpus_per_pod": "gpus_per_pod",
    "pod_sets.min_count": "min_pods",
    "pod_sets.max_count": "max_pods",
}
"""Parameters that are named otherwise than the request's fields."""


class Outputs(NamedTuple):
    """The outputs of the components that reserve; what is not known before a grant is empty until then."""

    reservation_id: str
    token: int = 0
    pool: str = ""
    nodes: Sequence[str] = ()
    expires_at: str = ""
    gang: str = ""
    node_affinity: Mapping[str, Any] = {}
    node_selector: Mapping[str, str] = {}
    tolerations: Sequence[Mapping[str, Any]] = ()
    accelerator: str = ""
    accelerators_per_pod: str = ""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A reservation of a run, how steps hold it and where they run, and the lines that were logged while it waited."""

    reservation: Reservation
    gang: Gang
    place: client.PodPlace | None  # None while it waits
    lines: tuple[str, ...]

    def outputs(self) -> Outputs:
        """Return the component's outputs."""
        held, place = self.reservation, self.place
        waits = Outputs(reservation_id=held.id, nodes=[], gang=self.gang.text(), tolerations=[])
        if place is None:
            return waits
        [(accelerator, count)] = place.resources.items()
        return waits._replace(
            token=int(held.token or 0),
            pool=",".join(dict.fromkeys(placement.pool for placement in held.placements)),
            nodes=[placement.node for placement in held.placements],
            expires_at="" if held.expires_at is None else held.expires_at.isoformat(),
            node_affinity=dict(place.node_affinity),
            node_selector=place.node_selector,
            tolerations=list(place.tolerations),
            accelerator=accelerator,
            accelerators_per_pod=count,
        )


def request_from(
    *,
    run_id: str,
    name: str = "gang",
    part: str | float = "",
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


def take(
    request: GangRequest,
    *,
    timeout_seconds: int,
    ledger: str,
    home: str,
    handover: str = "",
    node_label: str = "",
    wait: bool = True,
) -> Taken:
    """Submit the request and wait for its grant; a step that runs again keeps its place in the queue.

    Without `wait` it only takes its place in line. With a handover, the lease ends so long after the grant was claimed,
    if no step of the run renews it; without, after the request's duration.

    Raises WaitTimeoutError, with the request out of the line, when the slots did not come within `timeout_seconds`
    of the first try, and Refusal when somebody else ended the request meanwhile.
    """
    require_at_least("timeout_seconds", timeout_seconds, 0)
    settings, gang = _settings(ledger, home), _gang(request.request_key, ledger, home, handover)
    if gang.ttl is not None:
        request = replace(request, claim_within=gang.ttl)
    with open_ledger(settings.ledger_url, clock=settings.clock) as book:
        until = settings.clock() + timedelta(seconds=timeout_seconds)
        asked = client.submit(book, request, until, attempt_of(gang.key))
        deadline = _deadline(asked, until)
        if not wait:
            say(standing(asked, deadline))
            return _taken(book, client.claim(book, asked, gang.ttl), gang, node_label)
        held, lines = _granted(book, asked, deadline, gang.ttl, timeout_seconds, settings.clock)
        return _taken(book, held, gang, node_label, lines)


def wait_on(
    *,
    run_id: str,
    name: str,
    part: str,
    timeout_seconds: int,
    ledger: str,
    home: str,
    handover: str = "",
    node_label: str = "",
) -> Taken:
    """Wait for the grant of what another step of the run has asked for; where that has ended, ask for it again."""
    require_at_least("timeout_seconds", timeout_seconds, 0)
    settings, gang = _settings(ledger, home), _gang(request_key(run_id, name, part), ledger, home, handover)
    with open_ledger(settings.ledger_url, clock=settings.clock) as book:
        until = settings.clock() + timedelta(seconds=timeout_seconds)
        asked = client.ask_again(book, gang.key, until, gang.ttl)
        held, lines = _granted(book, asked, until, gang.ttl, timeout_seconds, settings.clock)
        return _taken(book, held, gang, node_label, lines)


def give_back(*, run_id: str, name: str, part: str = "", ledger: str, home: str) -> str:
    """Release what the run holds, or cancel what it waits for; return the final state, or `none`."""
    key, settings = request_key(run_id, name, part), _settings(ledger, home)
    with open_ledger(settings.ledger_url, clock=settings.clock) as book:
        client.give_back(book, key)
        reservations = client.lives(book, key)
    state = reservations[-1].state.value if reservations else "none"
    say(f"{key}: nothing was reserved" if state == "none" else f"{key}: {state}")
    return state


def _settings(ledger: str, home: str) -> Settings:
    return settings_from(ledger=require_no_secret(ledger), home=home)


def _gang(key: str, ledger: str, home: str, handover: str) -> Gang:
    """Return what the steps inside will know; the reservation is not known yet."""
    lasts = handover_of(handover)
    return Gang(key=key, reservation="", ledger=ledger, home=home, handover_s=lasts.total_seconds() if lasts else 0.0)


def _granted(
    book: Ledger, asked: Reservation, until: datetime, ttl: timedelta | None, timeout_seconds: int, clock: Clock
) -> tuple[Reservation, tuple[str, ...]]:
    """Wait for a grant, claim it, and return it with what was said meanwhile; in vain, leave the line and say why."""
    lines: list[str] = []

    def note(line: str) -> None:
        lines.append(line)
        say(line)

    last = client.claim(book, wait_for(book, asked, until, clock, note), ttl)
    if last.state is not ReservationState.GRANTED:
        client.end(book, last)
        raise _refusal(last, timeout_seconds, lines)
    return last, tuple(lines)


def _taken(book: Ledger, held: Reservation, gang: Gang, node_label: str, lines: tuple[str, ...] = ()) -> Taken:
    """Return what the steps inside need to know.

    Nodes are theirs only where the cluster knows them: those of Kueue, or those that a label of its nodes names.
    """
    if held.state is not ReservationState.GRANTED:
        return Taken(reservation=held, gang=replace(gang, reservation=held.id), place=None, lines=lines)
    label = node_label or client.HOST
    place = client.pod_place(book, held, node_label=label)
    known = bool(node_label) or isinstance(book, KueueLedger)
    if not known:
        place = replace(place, node_affinity={})
    gang = replace(gang, reservation=held.id, real_nodes=known and label == client.HOST)
    return Taken(reservation=held, gang=gang, place=place, lines=lines)


def _deadline(asked: Reservation, until: datetime) -> datetime:
    """Return until when the step waits: a step that runs again has the time that its first run left.

    A step whose nodes were lost has its full time to wait for others in their place.
    """
    latest = asked.request.latest_start
    if latest is None:
        raise Refusal(f"{asked.request.request_key}: was reserved by something else: give this step a name of its own")
    return until if asked.interruptions else latest - client.ABANDONED_AFTER


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
