"""The figures of a real cluster: our ledger on Kueue beside a bare client, our own ledger beside Kueue, memory, start.

`python -m benchmarks.cluster [--only NAME,...]` starts a cluster on this machine; NAMEs: overhead, latency, baseline,
memory, start. The bare client creates Workloads, watches them, and deletes them: over the same connection code as the
ledger's, but with nothing of leases, tokens or states. Of overhead and latency each figure is the median of three
rounds, taken in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from tests.cluster.servers import fleet
from tests.cluster.servers.cluster import Cluster

from benchmarks import _cluster_clients as clients
from benchmarks._cluster_memory import watching_mb
from benchmarks._figures import Figure, report
from benchmarks._kueue_load import BASELINE

ROUNDS = 3
COUNT, THREADS, WARM = 1_000, 16, 100
PACED, RATE = 500, 50


def overhead(cluster: Cluster) -> list[Figure]:
    """Return how much longer reserve-and-release takes through the ledger than by a bare client."""
    for warm in (clients.through_bare, clients.through_ledger):
        warm(cluster, WARM, THREADS)
    rounds = [
        (clients.through_ledger(cluster, COUNT, THREADS), clients.through_bare(cluster, COUNT, THREADS))
        for _ in range(ROUNDS)
    ]
    ratio = statistics.median(ours / bare for ours, bare in rounds)
    seconds = ", ".join(f"{ours:.1f}/{bare:.1f} s" for ours, bare in rounds)
    return [Figure(name="kueue_overhead", value=ratio, unit="", bar="<= 1.2", peer=f"{COUNT:,}; ours/bare {seconds}")]


def latency(cluster: Cluster) -> list[Figure]:
    """Return submit to granted at a steady rate, ours beside the bare client's."""
    rounds = [
        (clients.paced_ledger(cluster, PACED, RATE), clients.paced_bare(cluster, PACED, RATE)) for _ in range(ROUNDS)
    ]
    ours, bare = (statistics.median(statistics.median(one[at]) for one in rounds) for at in (0, 1))
    tails = [statistics.median(statistics.quantiles(one[at], n=100)[98] for one in rounds) for at in (0, 1)]
    peer = f"at {RATE}/s: ours {ours:.1f} ms, bare {bare:.1f} ms; p99 {tails[0]:.0f} and {tails[1]:.0f} ms"
    ratio = statistics.median(statistics.median(one) / statistics.median(other) for one, other in rounds)
    return [Figure(name="kueue_p50_ratio", value=ratio, unit="", bar="<= 1.3", peer=peer)]


def baseline(cluster: Cluster) -> list[Figure]:
    """Return the makespan of Kueue's own load through our SQLite ledger beside the one through Kueue here."""
    kueue = clients.kueue_makespan(cluster, BASELINE)
    cluster.stop()  # ours is not to share the cores with it
    ours = clients.own_makespan(BASELINE)
    peer = f"ours {ours:.1f} s, Kueue {kueue:.1f} s (its CI {BASELINE.ci_s:.0f} s)"
    return [Figure(name="baseline_vs_kueue", value=ours / kueue, unit="", bar="<= 0.25", peer=peer)]


def memory(cluster: Cluster) -> list[Figure]:
    """Return the memory of a process of ours that watches a large cluster."""
    value, peer = watching_mb(cluster)
    return [Figure(name="controller_memory_mb", value=value, unit="MB", bar="<= 400", peer=peer)]


def start() -> Figure:
    """Return the seconds from `make cluster` with a warm cache to the first admitted Workload."""
    began = time.monotonic()
    with Cluster() as cluster:
        clients.furnish(cluster, fleet.DEFAULT)
        clients.first_admitted(cluster)
        took = time.monotonic() - began
    return Figure(name="cluster_start_s", value=took, unit="s", bar="<= 15")


PARTS: dict[str, Callable[[Cluster], list[Figure]]] = {
    "overhead": overhead,
    "latency": latency,
    "memory": memory,
    "baseline": baseline,
}


def main() -> None:
    """Measure what was asked for and report it."""
    names = ("start", *PARTS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description="The figures of a real cluster.")
    parser.add_argument("--only", default=",".join(names), help="parts, by commas: " + ", ".join(names))
    parts = parser.parse_args().only.split(",")
    if unknown := set(parts) - set(names):
        parser.error(f"--only: unknown: {', '.join(sorted(unknown))}: use {', '.join(names)}")
    figures = [start()] if "start" in parts else []
    for name, part in PARTS.items():
        if name in parts:
            with Cluster() as cluster:
                clients.furnish(cluster, fleet.DEFAULT)
                figures += part(cluster)
            print(f"{figures[-1].name}: {figures[-1].value:.3g} ({figures[-1].peer})", flush=True)
    report("cluster", figures)


if __name__ == "__main__":
    main()
