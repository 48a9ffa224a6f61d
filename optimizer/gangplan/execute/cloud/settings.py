"""Which group of machines of a cloud a pool is, as the targets file says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gangplan.errors import InputError
from gangplan.types import require_at_least, require_text


@dataclass(frozen=True, kw_only=True)
class Ec2Group:
    """An Auto Scaling group of Amazon EC2.

    With a launch `template` there is no Auto Scaling group: machines are launched from it one order at a time, and
    `group` is the word in their tag `gangplan.io/group`.
    """

    kind: Literal["ec2"]
    region: str
    group: str
    template: str = ""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("region", "group"):
            require_text(f"nodes.{name}", getattr(self, name), 1, 255)


@dataclass(frozen=True, kw_only=True)
class GceGroup:
    """A zonal managed instance group of Compute Engine.

    With `flex_start_hours`, machines are asked for by resize requests: all of a request come together, when there is
    room for them, and run for so many hours at most. `endpoint` is that of Private Service Connect, or a server of
    tests as `http://127.0.0.1:8080`.
    """

    kind: Literal["gce"]
    project: str
    zone: str
    group: str
    flex_start_hours: float | None = None
    endpoint: str = ""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name in ("project", "zone", "group"):
            require_text(f"nodes.{name}", getattr(self, name), 1, 255)
        if self.flex_start_hours is not None:
            require_at_least("nodes.flex_start_hours", self.flex_start_hours, 1 / 6)
            if self.flex_start_hours > 7 * 24:
                remedy = "is longer than the seven days that Compute Engine allows: give at most 168"
                raise InputError("nodes.flex_start_hours", self.flex_start_hours, remedy)
