"""The commands `gangplan node ...`: mark a node as lost, draining or ready, and see what becomes of its gangs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from gangplan import summaries
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_ledger_here, settings_here
from gangplan.clock import parse_span, parse_utc
from gangplan.types import NodeState, ReservationState

node_app = typer.Typer(help="Nodes that go away and come back.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The node: <pool>-<number>, as in a reservation's placements.")]
Why = Annotated[str, typer.Option(help="The reason, kept with the change.")]
Back = Annotated[
    str | None,
    typer.Option(
        help="When it is expected back: in 2h, or at 2026-03-01T12:00:00Z. Default for a lost node: the policy's."
    ),
]


@node_app.command("lost", epilog="Example:  gangplan node lost h100-owned-3 --why reboot --back 15m")
def lost(name: Name, why: Why = "", back: Back = None, as_json: AsJson = False) -> None:
    """Take a node out at once: its gangs get other slots, or wait for them ahead of all others."""
    _mark(name, NodeState.LOST, why, as_json, back=back)


@node_app.command("drain", epilog="Example:  gangplan node drain h100-owned-3 --why firmware --at 24h --back 26h")
def drain(
    name: Name,
    why: Why = "",
    at: Annotated[str | None, typer.Option(help="When the drain begins, as --back says it; default: now.")] = None,
    back: Back = None,
    as_json: AsJson = False,
) -> None:
    """Let a node take no more gangs: those on it get notice, and then slots elsewhere; with --at, from then on."""
    _mark(name, NodeState.DRAINING, why, as_json, at=at, back=back)


@node_app.command("ready", epilog="Example:  gangplan node ready h100-owned-3")
def ready(name: Name, why: Why = "", as_json: AsJson = False) -> None:
    """Let a node take gangs again; the notice of those still on it is taken back."""
    _mark(name, NodeState.READY, why, as_json)


@node_app.command("list", epilog="Example:  gangplan node list")
def list_nodes(as_json: AsJson = False) -> None:
    """List the nodes that take no gang, or will take none."""
    with open_ledger_here() as ledger:
        outages = sorted(ledger.outages().items())
    emit(as_json, {name: summaries.of_outage(outage) for name, outage in outages}, screen.nodes)


def _mark(
    name: str, state: NodeState, why: str, as_json: bool, *, at: str | None = None, back: str | None = None
) -> None:
    begin, end = _moment("--at", at), _moment("--back", back)
    with open_ledger_here() as ledger:
        granted = ledger.list(ReservationState.GRANTED)
        before = [gang.id for gang in granted if any(place.node == name for place in gang.placements)]
        ledger.mark_node(name, state, why=why, begin=begin, back=end)
        gangs = [ledger.get(id) for id in before]
    summary = {"node": name, "state": state.value, "gangs": [summaries.of_reservation(gang) for gang in gangs]}
    emit(as_json, summary, lambda _: screen.marked(name, state.value, gangs, begin))


def _moment(option: str, given: str | None) -> datetime | None:
    """Read a moment: a time, or how long from now."""
    if given is None:
        return None
    from_now = given[:1].isdigit() and given[-1:] in "smhd"
    return settings_here().clock() + parse_span(option, given) if from_now else parse_utc(option, given)
