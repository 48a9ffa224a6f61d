"""Power as it was measured: how fast work runs and what a GPU draws under a cap; and the carbon of a region's grid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from itertools import pairwise
from typing import ClassVar

from gangplan.clock import HOUR, require_utc
from gangplan.errors import InputError
from gangplan.types.checks import require_at_least, require_name, require_positive, require_whole
from gangplan.types.demand import WorkloadClass

LEAST_SAMPLES = 5
"""A point of a curve is the median of at least so many measurements: fewer say more about one job than about a cap."""


class Knob(StrEnum):
    """What is set on a GPU, so that it draws less."""

    CAP = "cap_watts"
    CLOCK = "clock_mhz"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPoint:
    """The speed at one setting, beside that at the curve's highest, and the watts that one GPU draws then."""

    setting: int
    speed: float
    watts: float
    samples: int

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        require_whole("points.setting", self.setting, 1)
        require_positive("points.speed", self.speed)
        require_positive("points.watts", self.watts)
        require_whole("points.samples", self.samples, LEAST_SAMPLES)


@dataclass(frozen=True, kw_only=True)
class PowerCurve:
    """What work of a class does on an accelerator under caps (or locked clocks), measured on one day and before.

    `points` go from the lowest setting to the highest. The highest is the GPU without a cap: its speed is 1. A higher
    setting is never slower, and never draws less.
    """

    workload_class: WorkloadClass
    accelerator: str
    measured: date
    points: tuple[PowerPoint, ...]
    knob: Knob = Knob.CAP

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        require_name("curves.accelerator", self.accelerator)
        name = f"curves[{self.workload_class}/{self.accelerator}].points"
        if len(self.points) < 2:
            raise InputError(name, f"{len(self.points)} points", "must be 2 or more: one without a cap, one with")
        for low, high in pairwise(self.points):
            if high.setting <= low.setting:
                raise InputError(f"{name}.setting", high.setting, f"must be greater than {low.setting}, before it")
            for field in ("speed", "watts"):
                if getattr(high, field) < getattr(low, field):
                    remedy = (
                        f"is less than {getattr(low, field):g} at the lower {self.knob} {low.setting}: measure again"
                    )
                    raise InputError(f"{name}.{field}", getattr(high, field), remedy)
        if self.points[-1].speed != 1:
            remedy = "must be 1 at the highest setting: all speeds are beside that of the GPU without a cap"
            raise InputError(f"{name}.speed", self.points[-1].speed, remedy)

    @property
    def caps(self) -> tuple[PowerPoint, ...]:
        """The points that are caps: all but the highest."""
        return self.points[:-1]

    def saved_watts(self, point: PowerPoint) -> float:
        """Return the watts that one GPU draws less than without a cap."""
        return self.points[-1].watts - point.watts


@dataclass(frozen=True, kw_only=True)
class GridCarbon:
    """Grams of CO2 for each kWh of a region's grid, and their source.

    `hourly` begins at `start`. Hours that it does not have count as `typical` for their hour of the day, in UTC.
    """

    source: str
    typical: tuple[float, ...]
    start: datetime | None = None
    hourly: tuple[float, ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if len(self.typical) != 24:
            raise InputError("grid.typical", f"{len(self.typical)} values", "must be 24, one for each hour of the day")
        for grams in (*self.typical, *self.hourly):
            require_at_least("grid.g_per_kwh", grams, 0)
        if self.start is not None:
            require_utc("grid.start", self.start)

    def at(self, hour: datetime) -> float:
        """Return the grams of an hour."""
        place = -1 if self.start is None else int((hour - self.start) // HOUR)
        return self.hourly[place] if 0 <= place < len(self.hourly) else self.typical[hour.hour]

    def known(self, hour: datetime) -> bool:
        """Tell whether the series has that hour itself."""
        return self.start is not None and 0 <= (hour - self.start) // HOUR < len(self.hourly)
