"""The commands about one gang: `gangplan reserve`, `what-if`, `resize` and `release`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from gangplan import summaries
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_ledger_here, settings_here
from gangplan.clock import DURATION, parse_span
from gangplan.errors import InputError, StaleTokenError, WaitTimeoutError
from gangplan.types import (
    WHOLE_GPU,
    GangRequest,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
    WorkloadClass,
    request_from,
)

if TYPE_CHECKING:
    from gangplan.reserve import Ledger

reserve_app = typer.Typer()

Id = Annotated[str | None, typer.Argument(help="The reservation; or give --key.")]
Key = Annotated[str | None, typer.Option(help="The request key it was made with.")]
GivenToken = Annotated[int | None, typer.Option(help="Its fencing token; default: the present one.")]

_CALLED = {
    **{name: f"--{name}" for name in ("duration", "walltime", "speed", "checkpoint", "deadline")},
    "earliest_start": "--earliest",
    "latest_start": "--latest",
}
"""How errors call the fields of a request that are options with another name."""


def _options(
    tenant: Annotated[str, typer.Option(help="Who asks.")],
    pods: Annotated[list[int], typer.Option(help="Pods in a pod set; repeat for more shapes.")],
    gpus: Annotated[list[int], typer.Option(help="GPUs (or --slot parts) of each pod; one for each --pods.")],
    accelerator: Annotated[list[str], typer.Option(help="Accelerator; repeat, the preferred first.")],
    duration: Annotated[str, typer.Option(help=f"Expected run time, {DURATION}.")],
    min_pods: Annotated[
        list[int] | None, typer.Option(help="The fewest it may be resized to, for each --pods.")
    ] = None,
    max_pods: Annotated[list[int] | None, typer.Option(help="The most it may be resized to, for each --pods.")] = None,
    walltime: Annotated[str | None, typer.Option(help="Hard limit over all renewals; default: the duration.")] = None,
    speed: Annotated[
        list[str] | None, typer.Option(help="Measured factor, like h100=2: twice as fast, half the time; repeat.")
    ] = None,
    slot: Annotated[str, typer.Option(help="What a pod's GPUs are: gpu, or a part, like 1g.10gb or 1/4.")] = WHOLE_GPU,
    key: Annotated[str | None, typer.Option(help="Request key: the same key is the same reservation.")] = None,
    priority: Annotated[int, typer.Option(help="The higher is served first.")] = 100,
    priority_class: Annotated[str, typer.Option(help="A class of the policy, whose priority counts instead.")] = "",
    preemptible: Annotated[bool, typer.Option(help="Its slots may be taken for a gang that is entitled.")] = False,
    checkpoint: Annotated[str | None, typer.Option(help="The least notice before that; default: the policy's.")] = None,
    workload_class: Annotated[
        WorkloadClass, typer.Option(help="What the work is bound by.")
    ] = WorkloadClass.THROUGHPUT,
    earliest: Annotated[str | None, typer.Option(help="Earliest start, like 2026-03-01T12:00:00Z.")] = None,
    latest: Annotated[str | None, typer.Option(help="Latest start; not started by then, it expires.")] = None,
    deadline: Annotated[str | None, typer.Option(help="When the walltime must be over; else it expires.")] = None,
    topology: Annotated[str, typer.Option(help="All pods in one node, nvlink or rack (:preferred).")] = "",
) -> None:
    """The options of a request; `_read` makes a request from their values."""


def _read(options: dict[str, Any]) -> GangRequest:
    """Make a request from the values of `_options`; those with the name of a field are taken as they are."""
    counts: list[list[int]] = [options.pop(name) or [] for name in ("pods", "gpus", "min_pods", "max_pods")]
    renamed = {
        "request_key": options.pop("key") or str(uuid.uuid4()),
        "accelerators": options.pop("accelerator"),
        "earliest_start": options.pop("earliest"),
        "latest_start": options.pop("latest"),
    }
    return request_from({**options, **renamed, "pod_sets": _pod_sets(*counts)}, called=_CALLED)


def _pod_sets(pods: list[int], gpus: list[int], least: list[int], most: list[int]) -> list[tuple[int | None, ...]]:
    """Return count, GPUs, least and most pods of each pod set; each option is given once for each --pods."""
    for name, given in (("--gpus", gpus), ("--min-pods", least), ("--max-pods", most)):
        if len(given) != len(pods) and (given or name == "--gpus"):
            raise InputError(name, given, f"must be given once for each --pods ({len(pods)})")
    unbounded = [None] * len(pods)
    return list(zip(pods, gpus, least or unbounded, most or unbounded, strict=True))


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a request; the command itself gets the request."""
    asked, own = signature(_options).parameters, signature(command).parameters

    @wraps(command)
    def run(**given: Any) -> None:
        command(_read({name: given.pop(name) for name in asked}), **given)

    hints = {**get_type_hints(_options, include_extras=True), **get_type_hints(command, include_extras=True)}
    together = [*asked.values(), *(option for name, option in own.items() if name != "request")]
    options = [option.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[option.name]) for option in together]
    made: Any = run
    made.__signature__ = signature(command).replace(parameters=options)
    made.__annotations__ = {option.name: option.annotation for option in options}
    return made


@reserve_app.command(
    epilog="Example:  gangplan reserve --tenant vision --pods 2 --gpus 4 --accelerator h100 --duration 2h --wait 10m"
)
@_asking
def reserve(
    request: GangRequest,
    wait: Annotated[str, typer.Option(help=f"How long to wait for the slots, {DURATION}; 0s returns at once.")] = "0s",
    as_json: AsJson = False,
) -> None:
    """Reserve a gang of GPU slots, whole or not at all; exit code 3 unless it is granted."""
    patience = parse_span("--wait", wait)
    with open_ledger_here() as ledger:
        reservation = ledger.submit(request, settings_here().attempt)
        if patience and reservation.state.waits:
            with suppress(WaitTimeoutError):  # the request stays in the queue
                ledger.wait(reservation.id, timeout=patience)
            reservation = ledger.get(reservation.id)
    emit_reservation(as_json, reservation)
    if reservation.state is not ReservationState.GRANTED:
        raise typer.Exit(3)


@reserve_app.command(
    "what-if",
    epilog="Example:  gangplan what-if --tenant vision --pods 2 --gpus 4 --accelerator h100 --duration 2h",
)
@_asking
def what_if(request: GangRequest, as_json: AsJson = False) -> None:
    """Say when a gang would start if it were asked for now, and why not at once; nothing is written."""
    with open_ledger_here() as ledger:
        starts, reason = ledger.what_if(request)
    emit(as_json, summaries.of_prospect(starts, reason), lambda summary: screen.prospect(summary, reason))


@reserve_app.command(epilog="Example:  gangplan resize --key nightly-train --pods 4")
def resize(
    pods: Annotated[list[int], typer.Option(help="The pods of each pod set from now on; repeat in their order.")],
    id: Id = None,
    key: Key = None,
    token: GivenToken = None,
    as_json: AsJson = False,
) -> None:
    """Let a running gang have more or fewer pods, within what its request allows; exit code 3 when they do not fit."""
    require_one(id, key)
    with open_ledger_here() as ledger:
        gang = find(ledger, id, key)
        if gang.token is None:
            raise StaleTokenError(f"{gang.id} holds no slots ({gang.state}): only a running gang can be resized")
        resized = ledger.resize(gang.id, gang.token if token is None else Token(token), tuple(pods))
    emit_reservation(as_json, resized)


@reserve_app.command(epilog="Example:  gangplan release --key nightly-train")
def release(id: Id = None, token: GivenToken = None, key: Key = None, as_json: AsJson = False) -> None:
    """Give the slots back (or take a waiting request out of the line); twice is the same as once."""
    require_one(id, key)
    with open_ledger_here() as ledger:
        gang = find(ledger, id, key)
        if gang.token is None:
            ended = ledger.cancel(gang.id)
        else:
            ended = ledger.release(gang.id, gang.token if token is None else Token(token))
    emit_reservation(as_json, ended)


def emit_reservation(as_json: bool, reservation: Reservation) -> None:
    """Print a reservation."""
    emit(as_json, summaries.of_reservation(reservation), lambda _: screen.reservation(reservation))


def require_one(id: str | None, key: str | None) -> None:
    """Refuse commands that give both id and key, or neither, before a store is opened."""
    if (id is None) == (key is None):
        raise InputError("id", id or "", "or --key must be given, one of them")


def find(ledger: Ledger, id: str | None, key: str | None) -> Reservation:
    """Return a reservation by its id or its request key, one of which is given."""
    return ledger.get(ReservationId(id)) if id is not None else ledger.find(key or "")
