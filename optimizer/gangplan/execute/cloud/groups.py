"""What clouds have in common: groups of machines, and what a cloud must do with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

CORDONED = "gangplan.io/cordoned-at"
"""The tag of a machine that gangplan closed to new work, with the moment in ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine of a group. `guarded`: the cloud itself removes it only if it is broken, never to have fewer."""

    id: str
    usable: bool = True
    closed: bool = False
    leaving: bool = False
    guarded: bool = True
    cordoned_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group as its cloud has it: how many machines it was told to have, and may have, and those that there are.

    `shown` is its name for people. `trouble` says in the cloud's words why machines that were ordered do not come.
    `irrevocable` is for what to wait where those that have not come cannot be withdrawn now. `sight` tells one look at
    the group from others, where orders carry a token.
    """

    shown: str
    ordered: int
    least: int = 0
    most: int
    machines: tuple[Machine, ...] = ()
    trouble: str = ""
    irrevocable: str = ""
    sight: str = ""

    @property
    def staying(self) -> tuple[Machine, ...]:
        """The machines that nobody removes yet."""
        return tuple(machine for machine in self.machines if not machine.leaving)


class Cloud(Protocol):
    """The groups of one cloud, by the names of their pools; each call that writes changes one thing."""

    def read(self, pools: Collection[str], *, cordons: bool) -> Mapping[str, Group]:
        """Return the groups of these pools; when our cordons were made only with `cordons`, since that costs a call."""
        ...

    def pools(self) -> Collection[str]:
        """Return the pools whose groups it has."""
        ...

    def order(self, pool: str, group: Group, machines: int) -> None:
        """Tell the group how many machines it shall have: more than it was told, or as many as it has at least.

        Those that are there stay: what would make the cloud choose among them is refused (ConflictError).
        """
        ...

    def remove(self, pool: str, machines: Collection[str]) -> None:
        """Remove just these machines, and let the group have so many fewer."""
        ...

    def guard(self, pool: str, machines: Collection[str]) -> None:
        """Forbid the cloud to choose these machines when the group gets smaller."""
        ...

    def cordon(self, pool: str, machines: Collection[str], at: datetime | None) -> None:
        """Write on these machines that they are closed to new work since then; None takes that away."""
        ...

    def check(self, pool: str, *, least: int, most: int) -> tuple[str, ...]:
        """Return what would keep the group from having `least` to `most` machines, and who else changes it."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
