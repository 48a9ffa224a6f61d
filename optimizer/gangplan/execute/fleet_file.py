"""Writes changes into a local fleet file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gangplan.config import read_fleet, write_fleet
from gangplan.errors import InputError
from gangplan.types import NodeChange


def apply_to_file(changes: tuple[NodeChange, ...], path: Path) -> tuple[NodeChange, ...]:
    """Set the file's `nodes` to the targets; return the changes that were made, from the numbers in the file.

    The file is written in one step. To apply the same changes twice changes nothing more.

    Raises
    ------
    InputError
        The file cannot be read, a pool is not in it, or a target is more than the pool's maximum.
    """
    fleet = read_fleet(path)
    for change in changes:
        most = fleet.pool(change.pool).max_nodes
        if not 0 <= change.target <= most:
            remedy = f"is not from 0 to the pool's max_nodes of {most}: plan again with the present fleet"
            raise InputError(f"target[{change.pool}]", change.target, remedy)
    made = tuple(
        replace(change, current=fleet.nodes.get(change.pool, 0))
        for change in changes
        if fleet.nodes.get(change.pool, 0) != change.target
    )
    if made:
        write_fleet(path, replace(fleet, nodes={**fleet.nodes, **{change.pool: change.target for change in made}}))
    return made
