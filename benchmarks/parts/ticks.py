"""One tick of a large and full cluster: what a release costs that frees slots, admits, and is committed."""

from __future__ import annotations

import gc
import multiprocessing
import random
import resource
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import FakeClock, a_calendar, a_pool, a_request
from gangplan.types import GangRequest, PodSet, Reservation, ReservationState

TICKS = 200
TENANTS = 8
HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much the ledger has to look after, and how many clients fill it side by side."""

    nodes: int
    waiting: int
    windows: int
    clients: int = 64

    def __str__(self) -> str:
        return f"{self.nodes:,} nodes x 8, {self.waiting:,} waiting, {self.windows:,} windows"


@dataclass(frozen=True, kw_only=True)
class Ticks:
    """Milliseconds of each tick by wall and by processor, and the most memory that the process came to."""

    wall: list[float]
    processor: list[float]
    memory_mb: float


def ticks_at(url: str, size: Size) -> Ticks:
    """Measure ticks at a size in a process of their own, so that its memory is the leader's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, url, size).result()


def _measure(url: str, size: Size) -> Ticks:
    """Fill a ledger and release gangs one by one; a clock that stands still between them lets nothing else happen.

    What the leader loaded is kept out of the garbage collector's way, as a long-lived leader does.
    """
    clock, dice = FakeClock(), random.Random(7)
    with open_ledger(url, clock=clock) as ledger:
        ledger.publish(a_calendar([a_pool(gpus_per_node=8, max_nodes=size.nodes)]))
        _fill(ledger, clock, dice, size)
        gc.collect()
        gc.freeze()
        running: list[Reservation] = []
        times: list[tuple[float, float]] = []
        for number in range(TICKS):
            if number % 20 == 0:
                running = list(ledger.list(ReservationState.GRANTED))
            clock.advance(timedelta(seconds=1))
            times.append(_release(ledger, running.pop(dice.randrange(len(running)))))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Ticks(wall=[wall for wall, _ in times], processor=[used for _, used in times], memory_mb=memory)


def _release(ledger: Ledger, done: Reservation) -> tuple[float, float]:
    """Release a gang; return the milliseconds that it took, by wall and by processor."""
    assert done.token is not None
    start, used = time.perf_counter(), time.process_time()
    ledger.release(done.id, done.token)
    return (time.perf_counter() - start) * 1000, (time.process_time() - used) * 1000


def _fill(ledger: Ledger, clock: FakeClock, dice: random.Random, size: Size) -> None:
    """Fill the cluster, then promise windows, then let a line build up; many clients, so that it takes seconds."""
    early = [_wish(dice, f"r{n}") for n in range(size.nodes * 2)]
    ahead = [_wish(dice, f"w{n}", earliest_start=clock() + dice.randrange(9, 100) * HOUR) for n in range(size.windows)]
    line = [_wish(dice, f"q{n}", priority=dice.choice([50, 100, 200])) for n in range(size.waiting)]
    with ThreadPoolExecutor(size.clients) as clients:
        for wishes in (early, ahead, line):
            list(clients.map(ledger.submit, wishes))


def _wish(dice: random.Random, key: str, **more: Any) -> GangRequest:
    pods = PodSet(count=dice.choice([1, 1, 2, 4]), gpus_per_pod=dice.choice([1, 2, 4, 8]))
    duration = timedelta(minutes=dice.choice([30, 60, 120, 240, 480]))
    return a_request(key, pod_sets=(pods,), duration=duration, tenant=f"t{dice.randrange(TENANTS)}", **more)
