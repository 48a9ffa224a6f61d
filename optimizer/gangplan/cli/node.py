"""The commands `gangplan node ...`: mark a node as lost, draining or ready, and see what becomes of its gangs."""

from __future__ import annotations

from typing import Annotated

import typer

from gangplan import summaries
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, emit, open_ledger_here
from gangplan.types import NodeState, ReservationState

node_app = typer.Typer(help="Nodes that go away and come back.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The node: <pool>-<number>, as in a reservation's placements.")]
Why = Annotated[str, typer.Option(help="The reason, kept with the change.")]


@node_app.command("lost", epilog="Example:  gangplan node lost h100-owned-3 --why 'ECC errors'")
def lost(name: Name, why: Why = "", as_json: AsJson = False) -> None:
    """Take a node out at once: its gangs get other slots, or wait for them ahead of all others."""
    _mark(name, NodeState.LOST, why, as_json)


@node_app.command("drain", epilog="Example:  gangplan node drain h100-owned-3 --why 'driver update'")
def drain(name: Name, why: Why = "", as_json: AsJson = False) -> None:
    """Let a node take no more gangs: those on it get notice, and then slots elsewhere."""
    _mark(name, NodeState.DRAINING, why, as_json)


@node_app.command("ready", epilog="Example:  gangplan node ready h100-owned-3")
def ready(name: Name, why: Why = "", as_json: AsJson = False) -> None:
    """Let a node take gangs again; the notice of those still on it is taken back."""
    _mark(name, NodeState.READY, why, as_json)


@node_app.command("list", epilog="Example:  gangplan node list")
def list_nodes(as_json: AsJson = False) -> None:
    """List the nodes that take no gang."""
    with open_ledger_here() as ledger:
        nodes = {name: state.value for name, state in sorted(ledger.nodes().items())}
    emit(as_json, nodes, screen.nodes)


def _mark(name: str, state: NodeState, why: str, as_json: bool) -> None:
    with open_ledger_here() as ledger:
        granted = ledger.list(ReservationState.GRANTED)
        before = [gang.id for gang in granted if any(place.node == name for place in gang.placements)]
        ledger.mark_node(name, state, why=why)
        gangs = [ledger.get(id) for id in before]
    summary = {"node": name, "state": state.value, "gangs": [summaries.of_reservation(gang) for gang in gangs]}
    emit(as_json, summary, lambda _: screen.marked(name, state.value, gangs))
