"""Whether a series can be learned, or is forecast by the naive members alone, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gangplan.forecast.series.arrays import Floats, Ints, Key
from gangplan.forecast.series.panel import Panel

LEAST_HOURS = 240  # ten days: less cannot show a weekly cycle and its errors
VANISHED_HOURS = 168


@dataclass(frozen=True, kw_only=True)
class SeriesStatus:
    """A series, and in `problem` why it is not learned; empty when it is. One that has vanished is forecast as 0."""

    key: Key
    problem: str = ""
    vanished: bool = False

    @property
    def note(self) -> str:
        """The problem as a sentence that names the series."""
        return f"{' / '.join(self.key)}: {self.problem}"


def status_of_series(panel: Panel) -> tuple[SeriesStatus, ...]:
    """Judge every series by what the panel holds of it."""
    return tuple(_judge(key, row) for key, row in zip(panel.keys, panel.values, strict=True))


def learnable_rows(panel: Panel) -> Ints:
    """Return the rows of the series that can be learned."""
    return np.array([row for row, status in enumerate(status_of_series(panel)) if not status.problem], dtype=np.int64)


def _judge(key: Key, values: Floats) -> SeriesStatus:
    """Judge one series (GPUs by hour)."""
    known = np.flatnonzero(~np.isnan(values))
    silent = values.size if not known.size else values.size - 1 - int(known[-1])
    if not known.size or silent >= VANISHED_HOURS:
        problem = f"vanished, no sample for {silent} h: forecast as 0; mend its telemetry if it still runs"
        return SeriesStatus(key=key, problem=problem, vanished=True)
    if known.size < LEAST_HOURS:
        problem = f"{known.size} h of history, {LEAST_HOURS} are needed: naive forecast, wide where its errors are few"
        return SeriesStatus(key=key, problem=problem)
    highest, lowest = values[known].max(), values[known].min()
    if highest == 0:
        return SeriesStatus(key=key, problem="no demand in any hour: forecast as 0")
    if highest == lowest:
        return SeriesStatus(key=key, problem=f"constant at {highest:g} GPUs: repeated as it is")
    return SeriesStatus(key=key)
