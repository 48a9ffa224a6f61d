"""The fleet file as an engine: it only has a number of nodes for each pool, which takes effect when it is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from gangplan.config import read_fleet, write_fleet
from gangplan.errors import ConflictError, RejectedError
from gangplan.types import Observation, PoolNodes, Step, StepKind


@dataclass(frozen=True, kw_only=True)
class FileNodes:
    """Nodes that somebody else brings to the number in the fleet file."""

    kind: Literal["file"] = "file"

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


class FleetFileTarget:
    """The `nodes` of a fleet file; with `pools`, only of these."""

    name = "file"
    kinds = frozenset({StepKind.ORDER, StepKind.REMOVE})

    def __init__(self, path: Path, pools: frozenset[str] | None = None) -> None:
        self.path = path
        self._pools = pools

    def observe(self) -> Observation:
        """Return the pools' numbers."""
        fleet = read_fleet(self.path)
        return Observation(
            nodes=tuple(
                PoolNodes(pool=pool.name, ordered=fleet.nodes.get(pool.name, 0), named=False)
                for pool in fleet.pools
                if self._pools is None or pool.name in self._pools
            )
        )

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Write a pool's new number, the file in one step."""
        fleet = read_fleet(self.path)
        pool = fleet.pool(step.pool)
        now = fleet.nodes.get(pool.name, 0)
        if now == step.after:
            return
        if now != step.before:
            raise ConflictError(f"{self.path}: pool {pool.name} has {now} nodes, not {step.before}: read it again")
        if not 0 <= step.after <= pool.max_nodes:
            raise RejectedError(
                f"{self.path}: {step.after} nodes of pool {pool.name} are more than its max_nodes of {pool.max_nodes}: "
                "plan again with the present fleet"
            )
        if not dry_run:
            write_fleet(self.path, replace(fleet, nodes={**fleet.nodes, pool.name: step.after}))

    def check(self) -> tuple[str, ...]:
        """Return what keeps the file from being written."""
        read_fleet(self.path)
        return ()

    def close(self) -> None:
        """Nothing is open."""
