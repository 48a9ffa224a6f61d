"""From a raised quota to the next gang that is admitted."""

from __future__ import annotations

import statistics
import time
from threading import Event

from tests.cluster.objects import bare

from benchmarks.parts.execute.carrying import engine
from benchmarks.parts.execute.history import workload_from
from benchmarks.parts.execute.world import POOLS, QUEUES, SPACE, world
from benchmarks.parts.figures import Figure
from gangplan.execute import Target
from gangplan.kube.mirror import Mirror
from gangplan.progress import Progress
from gangplan.reserve.kueue.objects import names
from gangplan.types import Quota, Step, StepKind

ROUNDS = 100
_LONGEST_S = 60.0
_GPUS = 8


def admission(share: int, progress: Progress) -> list[Figure]:
    """Return the milliseconds from our write of a quota, its own time included, until a waiting gang is admitted."""
    rounds = max(ROUNDS // share, 20)
    heard = Event()
    with world(static=True) as cluster:
        for number in range(rounds + 1):
            cluster.api.create(names.workloads(SPACE), bare(SPACE, f"w{number}", _GPUS, queue=QUEUES[0]))
        mirror = Mirror(
            cluster.api,
            names.workloads(SPACE),
            lambda item: True if workload_from(item).granted else None,
            lambda *_: heard.set(),
        )
        target = engine(cluster.api).target
        mirror.start()
        mirror.ready.wait(_LONGEST_S)
        try:
            millis = [1000 * _once(target, number, heard, progress, rounds) for number in range(rounds)]
        finally:
            mirror.close()
            target.close()
    peer = f"{rounds} times, p95 {statistics.quantiles(millis, n=20)[18]:.0f} ms; our write's own time is part of it"
    return [Figure(name="quota_to_admission_ms", value=statistics.median(millis), unit="ms", bar="<= 100", peer=peer)]


def _once(target: Target, number: int, heard: Event, progress: Progress, rounds: int) -> float:
    """Raise the quota by one gang, and return how long it takes until one more is admitted."""
    progress(number, rounds, "raised quotas")
    quota = _quota(target)
    while quota.slots != number * _GPUS:  # the watch has not told yet of the round before
        time.sleep(0.01)
        quota = _quota(target)
    step = Step(
        kind=StepKind.RAISE_QUOTA,
        pool=quota.pool,
        place=quota.place,
        before=quota.slots,
        after=quota.slots + _GPUS,
        why="the benchmark raises it",
    )
    heard.clear()
    began = time.monotonic()
    target.apply(step)
    if not heard.wait(_LONGEST_S):
        raise TimeoutError(f"no gang was admitted within {_LONGEST_S:.0f} s of a raised quota")
    return time.monotonic() - began


def _quota(target: Target) -> Quota:
    return next(quota for quota in target.observe().quotas if quota.pool == POOLS[0].name)
