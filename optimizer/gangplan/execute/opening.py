"""Opens the engines that targets.yaml names: each kind by its own room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gangplan.clock import Clock
from gangplan.execute.engines import Engine
from gangplan.execute.fleet_file import FleetFileTarget
from gangplan.execute.targets_file import Targets
from gangplan.types import Fleet


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What it takes to open engines; `watched` keeps copies of a cluster by watches, for a process that stays."""

    targets: Targets
    fleet: Fleet
    fleet_file: Path
    clock: Clock
    watched: bool = False


def _file(opening: Opening) -> Iterator[Engine]:
    """Open the fleet file."""
    pools = frozenset(opening.targets.nodes_of("file"))
    if pools:
        yield Engine(target=FleetFileTarget(opening.fleet_file, pools), orders=pools)


_OPENERS: tuple[Callable[[Opening], Iterator[Engine]], ...] = (_file,)
"""One for each room; each opens what the targets have of its kinds."""


def open_engines(opening: Opening) -> tuple[Engine, ...]:
    """Open the engines of all pools; those that were opened are closed again when one of them cannot be."""
    engines: list[Engine] = []
    try:
        for opener in _OPENERS:
            engines += opener(opening)
    except BaseException:
        close_engines(engines)
        raise
    return tuple(engines)


def close_engines(engines: list[Engine] | tuple[Engine, ...]) -> None:
    """Give back the connections of all engines."""
    for engine in engines:
        engine.target.close()
