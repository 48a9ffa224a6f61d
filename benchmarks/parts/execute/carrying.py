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

from gangplan.execute.goals import goals
from gangplan.execute.kubernetes.settings import KarpenterNodes, KueueQuota
from gangplan.execute.kubernetes.target import ClusterTarget, open_cluster
from gangplan.execute.steps import steps_to

from benchmarks.parts.execute.world import COHORT, FLEET, POOLS
from gangplan.errors import ConflictError, GangplanError
from gangplan.kube.api import Api
from gangplan.types import Plan, Step

HOUR_S = 20.0
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


def target(api: Api) -> ClusterTarget:
    """Open the cluster as `targets.yaml` would say it."""
    nodes = {pool.name: KarpenterNodes(nodepool=pool.name) for pool in POOLS}
    quotas = {pool.name: KueueQuota(cohort=COHORT) for pool in POOLS}
    return open_cluster(nodes, quotas, FLEET, api=api, watched=True, clock=lambda: datetime.now(UTC))


class Carrier:
    """Carries a plan out in a thread of its own until the block ends; `taken` counts the steps by kind."""

    def __init__(self, api: Api, plan: Plan, clock: FastClock) -> None:
        self.taken: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.rounds: list[float] = []
        self._plan, self._clock, self._target = plan, clock, target(api)
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._target.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                for step in self._steps():
                    self._take(step)
            except GangplanError as error:
                self.refused[str(error)[:160]] += 1
            self.rounds.append(time.monotonic() - began)
            self._stop.wait(_PERIOD_S)

    def _steps(self) -> list[Step]:
        now = datetime.now(UTC)  # before the observation, which a node's settling needs
        observed = self._target.observe()
        found = steps_to(goals(self._plan, self._clock()), observed, (), now)
        return [step for step in found if not step.waits_for]

    def _take(self, step: Step) -> None:
        try:
            self._target.apply(step)
            self.taken[step.kind.value] += 1
        except ConflictError as error:  # something moved on since it was observed: the next round sees it
            self.refused[f"{step.kind.value}: {error}"[:160]] += 1
