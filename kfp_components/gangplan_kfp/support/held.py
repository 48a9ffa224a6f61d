"""What a step inside does before its own command begins: it finds its run's slots, or asks for them again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

from gangplan import client
from gangplan.errors import GangplanError, InputError, Refusal, UnavailableError
from gangplan.reserve import open_ledger
from gangplan.types import Reservation, ReservationState
from gangplan_kfp.support.lease import Gang, wait_for
from gangplan_kfp.support.steps import settings_from

if TYPE_CHECKING:
    from gangplan.clock import Clock
    from gangplan.reserve import Ledger

POD_NODE = "GANGPLAN_POD_NODE"
"""The environment variable with the node of the step's pod, from its field `spec.nodeName`."""

USAGE = "give it as --gang TEXT -- COMMAND..., with the output `gang` of reserve_gang"


def run_on_slots(words: Sequence[str]) -> int:
    """Run a command on the slots of a gang, whose lease is renewed meanwhile, and return the exit code.

    It is the command's own; MUST_LEAVE (75) where the slots were lost or could not be had again in time, with one line
    that says why, so that a retry of the step tries again. A wrong parameter is 2.
    """
    try:
        gang, command = _arguments(words)
        process = client.prepare(command)  # first: a process that has threads should not fork
        return _on_slots(gang, process)
    except GangplanError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return client.MUST_LEAVE if isinstance(error, (Refusal, UnavailableError)) else error.exit_code


def _arguments(words: Sequence[str]) -> tuple[Gang, list[str]]:
    """Read the command line."""
    if len(words) < 4 or words[0] != "--gang" or words[2] != "--":
        raise InputError("held", " ".join(words[:3]), USAGE)
    return Gang.read(words[1]), list(words[3:])


def _on_slots(gang: Gang, process: client.Process) -> int:
    """Take the slots up, and let the command begin on them."""
    settings, node = settings_from(ledger=gang.ledger, home=gang.home), os.environ.get(POD_NODE, "")
    signal.signal(signal.SIGTERM, _end)  # the first process of a container would not hear it
    with open_ledger(settings.ledger_url, clock=settings.clock) as book:
        held = _taken_up(book, gang, settings.clock, node)
        code = client.run_held(book, held, process, ttl=gang.ttl, pod_node=node, clock=settings.clock)
        if code == client.MUST_LEAVE:
            os._exit(code)  # a ledger that is away could not be closed
        return code


def _end(number: int, frame: FrameType | None) -> None:
    """End before the command has begun."""
    raise SystemExit(128 + number)


def _taken_up(book: Ledger, gang: Gang, clock: Clock, node: str) -> Reservation:
    """Return the slots of the run, asked for again where they went back; those asked for in vain are nobody's."""
    until = clock() + timedelta(seconds=gang.patience_s)
    asked = client.ask_again(book, gang.key, until, gang.ttl)
    try:
        held = client.claim(book, wait_for(book, asked, until, clock, _say), gang.ttl)
        _require_here(held, gang, node)
    except BaseException:
        if asked.id != gang.reservation:
            client.end(book, book.get(asked.id))
        raise
    return held


def _require_here(held: Reservation, gang: Gang, node: str) -> None:
    """Refuse to begin without slots, or on another node than theirs."""
    key, nodes = held.request.request_key, [place.node for place in held.placements if place.node]
    if held.state is not ReservationState.GRANTED:
        raise Refusal(f"{key}: its slots did not come back within {gang.patience_s:g} s: {held.state.value}")
    if gang.real_nodes and node and nodes and node not in nodes:
        where = ", ".join(dict.fromkeys(nodes))
        raise Refusal(f"{key}: its slots are on {where} now, and this pod is on {node}: start the run anew")


def _say(line: str) -> None:
    print(f"gangplan: {line}", file=sys.stderr, flush=True)
