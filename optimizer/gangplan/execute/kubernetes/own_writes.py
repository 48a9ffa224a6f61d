"""What this process has written of quotas itself, so that its own raises do not hold it up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from gangplan.errors import ConflictError
from gangplan.execute.kubernetes.quotas import PoolQuota
from gangplan.execute.kubernetes.seen import SeenPlace
from gangplan.types import Step, StepKind

COMPARED_S = 1.0
"""For so long a pool that was compared with the cluster counts as compared: its queues are raised one after another."""


@dataclass(kw_only=True)
class OwnWrites:
    """The quotas that were written since the last look, and the raises that Kueue need not have seen.

    What Kueue does not know of a raise, it does not grant. A lower quota, it may still grant.
    """

    _slots: dict[str, int] = field(default_factory=dict[str, int])
    _raised: dict[str, int] = field(default_factory=dict[str, int])
    _compared: dict[str, float] = field(default_factory=dict[str, float])

    def looked(self) -> None:
        """All is read anew."""
        self._slots.clear()
        self._compared.clear()

    def wrote(self, place: SeenPlace, step: Step, slots: int, generation: int) -> None:
        """Keep what was written of a place: its own slots, and the object's generation that has them."""
        sure = self.is_known(place)
        self._slots[place.shown] = slots
        if step.kind is StepKind.RAISE_QUOTA and sure:
            self._raised[place.shown] = generation
        else:
            self._raised.pop(place.shown, None)

    def slots(self, quota: PoolQuota) -> int:
        """Return what a place's own quota is by what was seen, and by what was written since."""
        return self._slots.get(quota.place.shown, quota.cell.slots)

    def is_known(self, place: SeenPlace) -> bool:
        """Whether Kueue grants no more at a place than its quota: it has seen it, or knows a lower one."""
        return place.observed or self._raised.get(place.shown) == place.generation

    def require_known(self, quotas: list[PoolQuota], step: Step) -> None:
        """Keep a raise back until Kueue counts by what was lowered elsewhere: till then it may grant that once more."""
        for each in quotas:
            if each.place.shown != step.place and not self.is_known(each.place):
                raise ConflictError(
                    f"{step.place}: not raised yet, since Kueue has not seen the quota of {each.place.shown}"
                )

    def compared(self, pool: str) -> None:
        """A pool was found as it was seen."""
        self._compared[pool] = time.monotonic()

    def is_compared(self, pool: str) -> bool:
        """Whether a pool was compared a moment ago."""
        return time.monotonic() - self._compared.get(pool, -COMPARED_S) < COMPARED_S
