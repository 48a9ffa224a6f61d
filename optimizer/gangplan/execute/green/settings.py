"""What `power` in targets.yaml says: the pools whose nodes get the plan's caps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from gangplan.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PowerSettings:
    """The pools whose nodes are labelled with the plan's caps."""

    pools: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def require_known(self, known: Iterable[str]) -> None:
        """Refuse a pool that is not in the fleet."""
        names = list(known)
        for place, name in enumerate(self.pools):
            if name not in names:
                raise InputError.unknown(f"power.pools.{place}", name, "not in the fleet", names)
