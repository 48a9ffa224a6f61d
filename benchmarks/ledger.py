"""The ledger's figures: Kueue's load through real clients, grants a second, submit to grant, ticks, idle clients.

`python -m benchmarks.ledger [sqlite] [postgresql] [--only NAME,...] [--rounds N]` runs them over these databases, with
clients and leader on the same cores. NAMEs: baseline, virtual, large-scale, grants, submit, ticks, big, idle. The two
loads are in real time and run `--rounds` times (1); of the others each figure is the median of three rounds, or of 200
ticks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from benchmarks.parts.databases import databases
from benchmarks.parts.figures import Figure, report
from benchmarks.parts.idle import CLIENTS as IDLE_CLIENTS, idle_share
from benchmarks.parts.load import clients
from benchmarks.parts.load.floor import Course, floor_of
from benchmarks.parts.load.kueue_load import BASELINE, LARGE_SCALE, MS, Load, gangs_of, out_of_step
from benchmarks.parts.load.virtual import virtual_course
from benchmarks.parts.ticks import Size, ticks_at
from gangplan.reserve import open_ledger
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import PodSet, ReservationState

KINDS = ("sqlite", "postgresql")
ROUNDS = 3
GRANTS = 6_000
CLIENTS = 64
PROCESSES = 1
RATE = 200
JITTER = MS
"""Microseconds by which runs end late at most, in the floor that stands beside the one in step."""

PACED = 1_000
HOUR = timedelta(hours=1)
ONE = (PodSet(count=1, gpus_per_pod=1),)
SIZES = {
    "tick_small": Size(nodes=100, waiting=1_000, windows=50),
    "tick_nodes": Size(nodes=1_000, waiting=1_000, windows=50),
    "tick_waiting": Size(nodes=100, waiting=10_000, windows=50),
    "tick_windows": Size(nodes=100, waiting=1_000, windows=500),
    "tick": Size(nodes=1_000, waiting=10_000, windows=500),
}
"""A small one, ten times more of each, and of all."""

BIG = Size(nodes=10_000, waiting=100_000, windows=5_000, clients=1_024)
"""Ten times more again; filled by more clients, since each of them waits for a tick."""


def course_through(url: str, load: Load) -> tuple[Course, tuple[float, float]]:
    """Return the course of a load through a ledger, and its latencies; what the ledger says of it is checked."""
    with open_ledger(url) as ledger:
        clients.prepare(ledger, load)
    seen = clients.drive(url, load, processes=PROCESSES)
    with open_ledger(url) as ledger:
        clients.check(ledger, load)
    return clients.course_of(seen), clients.latency_of(seen)


def baseline(kind: str, urls: Iterator[str], rounds: int) -> list[Figure]:
    """Return the makespan over the floor's, and how much longer than there a size waits on average."""
    gangs = gangs_of(BASELINE)
    floor, uneven = floor_of(BASELINE, gangs), floor_of(BASELINE, out_of_step(gangs, JITTER))
    runs = [course_through(next(urls), BASELINE) for _ in range(rounds)]
    courses = [course for course, _ in runs]
    late, told = (1000 * statistics.median(each) for each in zip(*(latency for _, latency in runs), strict=True))
    over = statistics.median(course.makespan / floor.makespan for course in courses)
    longer = {
        size: statistics.median(course.waits[size] for course in courses) - wait for size, wait in floor.waits.items()
    }
    worst = max(longer, key=lambda size: longer[size])
    peer = f"{rounds} round(s); floor {floor.makespan:.1f} s; Kueue's CI {BASELINE.ci_s / floor.makespan:.1f}"
    waits = ", ".join(
        f"{size} {floor.waits[size] + longer[size]:.2f} of {floor.waits[size]:.2f} ({uneven.waits[size]:.2f})"
        for size in longer
    )
    waits += f"; in brackets the floor with {JITTER / MS:g} ms of jitter, of {uneven.makespan:.1f} s"
    return [
        Figure(name=f"baseline_over_floor_{kind}", value=over, unit="", bar="<= 1.15", peer=peer),
        Figure(
            name=f"baseline_wait_excess_s_{kind}", value=longer[worst], unit="s", bar="<= 1", peer=f"{worst}; {waits}"
        ),
        Figure(
            name=f"baseline_release_late_ms_{kind}", value=late, unit="ms", peer="from a run's end to its call, mean"
        ),
        Figure(name=f"baseline_grant_heard_ms_{kind}", value=told, unit="ms", peer="from its tick's moment on, mean"),
    ]


def virtual(kind: str, urls: Iterator[str], rounds: int) -> list[Figure]:
    """Return how much longer than in the floor a size waits in virtual time; on no database, so with SQLite's alone."""
    if kind != "sqlite":
        return []
    gangs = gangs_of(BASELINE)
    floor = floor_of(BASELINE, gangs)
    figures: list[Figure] = []
    for name, late in (("virtual_wait_excess_s", 0), ("virtual_wait_excess_1ms_late_s", MS)):
        course = virtual_course(BASELINE, gangs, late=late)
        longer = {size: wait - floor.waits[size] for size, wait in course.waits.items()}
        worst = max(longer, key=lambda size: longer[size])
        waits = ", ".join(f"{size} {course.waits[size]:.2f} of {wait:.2f}" for size, wait in floor.waits.items())
        figures.append(
            Figure(name=name, value=longer[worst], unit="s", peer=f"{worst}; {waits}; {course.makespan:.1f} s")
        )
    return figures


def large_scale(kind: str, urls: Iterator[str], rounds: int) -> list[Figure]:
    """Return the makespan of the large load."""
    floor = floor_of(LARGE_SCALE, gangs_of(LARGE_SCALE))
    took = statistics.median(course_through(next(urls), LARGE_SCALE)[0].makespan for _ in range(rounds))
    peer = f"{rounds} round(s); floor {floor.makespan:.1f} s; Kueue's CI {LARGE_SCALE.ci_s:,.0f} s"
    return [Figure(name=f"large_scale_s_{kind}", value=took, unit="s", bar="<= 295", peer=peer)]


def grants(kind: str, urls: Iterator[str], rounds: int) -> list[Figure]:
    """Return how many gangs many clients get granted a second."""
    bar = ">= 3000" if kind == "sqlite" else ">= 2000"
    value = statistics.median(grants_per_second(next(urls)) for _ in range(ROUNDS))
    return [Figure(name=f"grants_per_s_{kind}", value=value, unit="1/s", bar=bar)]


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


def submit(kind: str, urls: Iterator[str], rounds: int) -> list[Figure]:
    """Return the percentiles of submit to granted."""
    waits = [submit_latencies(next(urls)) for _ in range(ROUNDS)]
    p50, p99 = (statistics.median(statistics.quantiles(w, n=100)[at] for w in waits) for at in (49, 98))
    return [
        Figure(name=f"submit_p50_ms_{kind}", value=p50, unit="ms", bar="<= 10", peer="Kueue at 50/s: 15"),
        Figure(name=f"submit_p99_ms_{kind}", value=p99, unit="ms", bar="<= 50", peer="Kueue at 50/s: 131"),
    ]


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


def ticks(kind: str, urls: Iterator[str], rounds: int) -> list[Figure]:
    """Return the 99th percentile of a tick at each size, and the memory of the largest; on SQLite alone."""
    if kind != "sqlite":
        return []
    figures: list[Figure] = []
    for name, size in SIZES.items():
        seen = ticks_at(next(urls), size)
        bar = "<= 100" if name == "tick" else ""
        figures.append(Figure(name=f"{name}_p99_ms", value=_p99(seen.wall), unit="ms", bar=bar, peer=str(size)))
        figures.append(Figure(name=f"{name}_p99_cpu_ms", value=_p99(seen.processor), unit="ms", peer=str(size)))
    return [*figures, Figure(name="leader_memory_mb", value=seen.memory_mb, unit="MB", bar="<= 500", peer=str(size))]


def big(kind: str, urls: Iterator[str], rounds: int) -> list[Figure]:
    """Return the 99th percentile of a tick of the largest cluster, and its leader's memory; on SQLite alone."""
    if kind != "sqlite":
        return []
    seen, size = ticks_at(next(urls), BIG), str(BIG)
    return [
        Figure(name="tick_p99_big_ms", value=_p99(seen.wall), unit="ms", bar="<= 600", peer=size),
        Figure(name="tick_p99_big_cpu_ms", value=_p99(seen.processor), unit="ms", peer=size),
        Figure(name="leader_memory_big_mb", value=seen.memory_mb, unit="MB", bar="<= 2048", peer=size),
    ]


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def idle(kind: str, urls: Iterator[str], rounds: int) -> list[Figure]:
    """Return what waiting clients cost."""
    share = idle_share(next(urls))
    peer = f"{IDLE_CLIENTS:,} waiting, the leader in it"
    return [Figure(name=f"idle_core_share_{kind}", value=share, unit="", bar="<= 0.05", peer=peer)]


PARTS: dict[str, Callable[[str, Iterator[str], int], list[Figure]]] = {
    "baseline": baseline,
    "virtual": virtual,
    "large-scale": large_scale,
    "grants": grants,
    "submit": submit,
    "ticks": ticks,
    "big": big,
    "idle": idle,
}


def measure(kind: str, parts: list[str], rounds: int) -> list[Figure]:
    """Return a database's figures."""
    with databases(kind) as urls:
        return [figure for part in parts for figure in PARTS[part](kind, urls, rounds)]


def main() -> None:
    """Measure what was asked for and report it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description="The ledger's figures.")
    parser.add_argument("kinds", nargs="*", choices=(*KINDS, []), metavar="sqlite|postgresql", default=[])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by commas: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=1, help="how often the loads in real time run (1)")
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}: use {', '.join(PARTS)}")
    report("ledger", [figure for kind in asked.kinds or KINDS for figure in measure(kind, parts, asked.rounds)])


if __name__ == "__main__":
    main()
