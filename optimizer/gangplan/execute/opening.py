"""Opens the engines that targets.yaml names: each kind by its own room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gangplan.clock import Clock
from gangplan.errors import GangplanError
from gangplan.execute.cloud import Joined, machine_of, open_ec2, open_gce
from gangplan.execute.devices import LayoutTarget
from gangplan.execute.engines import Engine
from gangplan.execute.fleet_file import FleetFileTarget
from gangplan.execute.green import CapTarget
from gangplan.execute.kubernetes import ClusterTarget, FixedNodes, nothing_heard, open_cluster
from gangplan.execute.prewarm import ServingTarget
from gangplan.execute.targets_file import Targets
from gangplan.kube import Api, connect
from gangplan.types import Fleet

_CLOUDS = ("ec2", "gce")
_AT_ONCE = 16  # pools of a cluster that are changed at the same time


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What it takes to open engines.

    `watched` keeps copies of a cluster by watches, for a process that stays; `heard` is called at each change that they
    tell. `connection` connects to a cluster by its context.
    """

    targets: Targets
    fleet: Fleet
    fleet_file: Path
    clock: Clock
    watched: bool = False
    heard: Callable[[], None] = nothing_heard
    connection: Callable[[str], Api] = connect


def _file(opening: Opening, _opened: Sequence[Engine]) -> Iterator[Engine]:
    """Open the fleet file."""
    pools = frozenset(opening.targets.nodes_of("file"))
    if pools:
        yield Engine(target=FleetFileTarget(opening.fleet_file, pools), orders=pools)


def _cluster(opening: Opening, _opened: Sequence[Engine]) -> Iterator[Engine]:
    """Open the cluster; machines of clouds that are nodes of it are seen and cordoned there, and ordered elsewhere."""
    targets = opening.targets
    own, quotas = targets.nodes_of("fixed", "karpenter", "scale"), targets.quotas_of("kueue")
    if own or quotas:
        joined = {pool: FixedNodes() for pool in targets.nodes_of(*_CLOUDS)}
        nodes = {**own, **joined}
        cluster = open_cluster(
            nodes,
            quotas,
            opening.fleet,
            api=opening.connection(targets.cluster),
            watched=opening.watched,
            heard=opening.heard,
            clock=opening.clock,
        )
        orders = frozenset(targets.nodes_of("karpenter", "scale"))
        yield Engine(target=cluster, orders=orders, at_once=_AT_ONCE)


def _clouds(opening: Opening, opened: Sequence[Engine]) -> Iterator[Engine]:
    """Open the clouds' groups of machines."""
    for kind, open_groups in (("ec2", open_ec2), ("gce", open_gce)):
        pools = opening.targets.nodes_of(kind)
        if pools:
            target = open_groups(pools, opening.fleet, clock=opening.clock, joined=_joined(opened))
            yield Engine(target=target, orders=frozenset(pools))


def _joined(opened: Sequence[Engine]) -> Joined | None:
    """Return who tells the nodes of a pool by their machines; nobody where no cluster was opened."""
    cluster = next((engine.target for engine in opened if isinstance(engine.target, ClusterTarget)), None)
    if cluster is None:
        return None
    return lambda pool: {machine_of(machine): node for machine, node in cluster.machines(pool).items()}


def _serving(opening: Opening, _opened: Sequence[Engine]) -> Iterator[Engine]:
    """Open the servers whose minimums follow the plan."""
    targets = opening.targets
    if targets.serving:
        yield Engine(target=ServingTarget(targets.serving, opening.fleet, opening.connection(targets.cluster)))


_OPENERS: tuple[Callable[[Opening, Sequence[Engine]], Iterator[Engine]], ...] = (_file, _cluster, _clouds, _serving)
"""One for each room; each opens what the targets have of its kinds, and may use what was opened before it."""


def open_engines(opening: Opening) -> tuple[Engine, ...]:
    """Open the engines of all pools; those that were opened are closed again when one of them cannot be."""
    engines: list[Engine] = []
    try:
        for opener in _OPENERS:
            engines += opener(opening, engines)
    except BaseException:
        close_engines(engines)
        raise
    return tuple(engines)


def check_engines(opening: Opening) -> dict[str, tuple[str, ...]]:
    """Return by engine what would keep plans from being carried out there; one that cannot be opened says why."""
    engines: list[Engine] = []
    found: dict[str, tuple[str, ...]] = {}
    try:
        for opener in _OPENERS:
            try:
                engines += opener(opening, engines)
            except GangplanError as error:
                found[opener.__name__.strip("_")] = (str(error),)
        checks = [(engine.target.name, engine.target.check) for engine in engines]
        for name, check in [*checks, *_beside(opening)]:
            found[name] = _said(check)
    finally:
        close_engines(engines)
    return found


_Check = Callable[[], tuple[str, ...]]


def _said(check: _Check) -> tuple[str, ...]:
    try:
        return check()
    except GangplanError as error:
        return (str(error),)


def _beside(opening: Opening) -> Iterator[tuple[str, _Check]]:
    """Give what follows plans and is no engine of steps: caps and layouts."""
    targets = opening.targets
    if targets.power.pools:
        yield "power", lambda: CapTarget(opening.connection(targets.cluster), targets.power.pools).check()
    for group in targets.layouts:
        name = f"layouts of {', '.join(group.configs)}"
        yield name, lambda group=group: LayoutTarget(opening.connection(targets.cluster), group).check()


def close_engines(engines: Sequence[Engine]) -> None:
    """Give back the connections of all engines."""
    for engine in engines:
        engine.target.close()
