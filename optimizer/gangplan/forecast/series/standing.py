"""How a series stands: whether it can be learned, or falls back to the naive members, and why, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gangplan.forecast.series.arrays import Floats, Key
from gangplan.forecast.series.panel import Panel

LEAST_HOURS = 240  # ten days: less cannot show a weekly cycle and its errors
GONE_HOURS = 168


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A series, and in `word` why it is not learned; empty when it is."""

    key: Key
    word: str = ""
    gone: bool = False

    @property
    def learnable(self) -> bool:
        """Whether the trees speak for it."""
        return not self.word

    @property
    def note(self) -> str:
        """The whole sentence for a reader."""
        return f"{' / '.join(self.key)}: {self.word}"


def standings(panel: Panel) -> tuple[Standing, ...]:
    """Judge every series by what the panel holds of it."""
    return tuple(_judge(key, row) for key, row in zip(panel.keys, panel.values, strict=True))


def _judge(key: Key, row: Floats) -> Standing:
    """Judge one series."""
    known = np.flatnonzero(~np.isnan(row))
    if not known.size or row.size - 1 - known[-1] >= GONE_HOURS:
        silent = row.size if not known.size else row.size - 1 - int(known[-1])
        word = f"vanished, no sample for {silent} h: forecast as 0; mend its telemetry if it still runs"
        return Standing(key=key, word=word, gone=True)
    values = row[known]
    if known.size < LEAST_HOURS:
        word = f"{known.size} h of history, {LEAST_HOURS} are needed: naive forecast, wide where its errors are few"
        return Standing(key=key, word=word)
    if values.max() == 0:
        return Standing(key=key, word="no demand in any hour: forecast as 0")
    if values.max() == values.min():
        return Standing(key=key, word=f"constant at {values[0]:g} GPUs: repeated as it is")
    return Standing(key=key)
