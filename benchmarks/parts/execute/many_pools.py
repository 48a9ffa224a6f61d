"""The steps to a plan with a thousand pools, from what their engines have."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import replace
from datetime import datetime

from benchmarks.parts.execute.day import START
from benchmarks.parts.execute.world import POOLS
from benchmarks.parts.figures import Figure
from gangplan.execute import Engine, steps
from gangplan.execute.engines import look
from gangplan.progress import Progress
from gangplan.testing import a_plan
from gangplan.types import Grant, Observation, Plan, PoolNode, PoolNodes, Quota, Step, StepKind

POOL_COUNT, HOURS, NODES, SEED = 1_000, 24, 10, 7
_TIMES = 9


def apply(share: int, progress: Progress) -> list[Figure]:
    """Return the seconds from a plan of 24 hours and an observation to the steps, shown in full."""
    pools = tuple(replace(POOLS[0], name=f"pool-{number}", max_nodes=20) for number in range(POOL_COUNT))
    draw = random.Random(SEED)
    counts = {pool.name: [draw.randint(0, 20) for _ in range(HOURS)] for pool in pools}
    planned, seen = a_plan(START, counts, pools), observation(pools, START, draw)
    carrying = _Shown(planned, Engine(target=_Told(seen)))
    took: list[float] = []
    worked: list[float] = []
    found = 0
    for number in range(_TIMES):
        progress(number, _TIMES, "diffs")
        began, working = time.perf_counter(), time.process_time()
        found = len(carrying.steps())
        took.append(time.perf_counter() - began)
        worked.append(time.process_time() - working)
    sizes = f"{POOL_COUNT * NODES:,} nodes, {2 * POOL_COUNT:,} quotas, {len(seen.grants):,} grants"
    peer = f"{statistics.median(worked):.2f} s of the processor; {found:,} steps; {sizes}"
    return [Figure(name="apply_1000_s", value=statistics.median(took), unit="s", bar="<= 0.5", peer=peer)]


class _Told:
    """An engine that has said what it has."""

    name = "told"
    kinds = frozenset(StepKind)

    def __init__(self, seen: Observation) -> None:
        self._seen = seen

    def observe(self) -> Observation:
        """Return it."""
        return self._seen

    def apply(self, step: Step, *, dry_run: bool = False) -> None:
        """Take nothing: a diff changes nothing."""

    def check(self) -> tuple[str, ...]:
        """Nothing is in the way."""
        return ()

    def close(self) -> None:
        """Nothing is open."""


class _Shown:
    """What `gangplan apply` shows before it asks."""

    def __init__(self, planned: Plan, engine: Engine) -> None:
        self._planned, self._engine = planned, engine

    def steps(self) -> list[Step]:
        """Look, and find the steps."""
        seen = look((self._engine,))
        return list(seen.held_back(steps(self._planned, seen.observation, (), START)))


def observation(pools: tuple[object, ...], now: datetime, draw: random.Random) -> Observation:
    """Return ten nodes of each pool, two queues of it, and gangs on half of the nodes."""
    names = [f"pool-{number}" for number in range(len(pools))]
    nodes = tuple(
        PoolNodes(pool=name, ordered=NODES, nodes=tuple(PoolNode(name=f"{name}-{index}") for index in range(NODES)))
        for name in names
    )
    quotas = tuple(
        Quota(pool=name, place=f"{name}-{queue}", group=name, slots=40, used=20) for name in names for queue in "ab"
    )
    grants = tuple(
        Grant(name=f"{name}-gang-{index}", pool=name, slots=8, nodes={f"{name}-{2 * index}": 8})
        for name in names
        for index in range(draw.randint(3, 5))
    )
    return Observation(nodes=nodes, quotas=quotas, grants=grants)
