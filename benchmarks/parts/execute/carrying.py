"""How a plan is carried out on the benchmarks' cluster: by our steps on our targets, on a clock that runs faster.

An hour of the plan passes in `HOUR_S`. Only the plan's hours do: all that waits for an engine waits as long as always.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Self

from benchmarks.parts.execute.world import COHORT, FLEET, POOLS
from gangplan.execute import Carrying, Engine, KarpenterNodes, KueueQuota, goals, open_cluster
from gangplan.kube.api import Api
from gangplan.types import Plan

HOUR_S = 30.0
_PERIOD_S = 0.25


@dataclass(frozen=True, kw_only=True)
class FastClock:
    """A clock on which the hours of a plan pass in `hour_s`, from `start` on."""

    start: datetime
    hour_s: float = HOUR_S
    began: float = field(default_factory=time.monotonic)

    def __call__(self) -> datetime:
        """Return the moment of the plan."""
        return self.start + timedelta(hours=(time.monotonic() - self.began) / self.hour_s)

    def at(self, hour: int) -> float:
        """Return when an hour of the plan begins, as `time.monotonic` has it."""
        return self.began + hour * self.hour_s


def engine(api: Api) -> Engine:
    """Open the cluster as `targets.yaml` would say it."""
    nodes = {pool.name: KarpenterNodes(nodepool=pool.name) for pool in POOLS}
    quotas = {pool.name: KueueQuota(cohort=COHORT) for pool in POOLS}
    return Engine(target=open_cluster(nodes, quotas, FLEET, api=api, watched=True, clock=present), at_once=16)


def present() -> datetime:
    """Return the machine's moment."""
    return datetime.now(UTC)


class Carrier:
    """Carries a plan out in a thread of its own until the block ends; `taken` counts the steps by kind."""

    def __init__(self, api: Api, plan: Plan, clock: FastClock) -> None:
        self.taken: Counter[str] = Counter()
        self.put_off: Counter[str] = Counter()
        self._engine = engine(api)
        self._carrying = Carrying(engines=(self._engine,), wanted=lambda _: goals(plan, clock()), clock=present)
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._engine.target.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            carried = self._carrying.once()
            self.taken.update(step.kind.value for step in carried.done)
            self.put_off.update(f"{each.step.kind.value}: {each.words}"[:160] for each in carried.refused)
            self.put_off.update(carried.unreachable.values())
            self._stop.wait(_PERIOD_S)
