"""The figures of a real cluster: our ledger on Kueue beside a bare client, our own ledger beside Kueue, memory, start.

`python -m benchmarks.cluster [--only NAME,...] [--share N]` starts a cluster for each part; NAMEs: start,
overhead, latency, memory, baseline. The bare client creates Workloads, watches them, and deletes them: over the same
connection code as the ledger's, but with nothing of leases, tokens, states or a history. Of overhead and latency both
clients are measured in many short rounds, by turns: three times 1,000, as one thousand differs from the next by a
tenth. `--share 10` runs a tenth of the loads, to see that all works.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from tests.cluster.servers import build, fleet
from tests.cluster.servers.cluster import Cluster

from benchmarks.parts.cluster_memory import watching_mb
from benchmarks.parts.figures import Figure
from benchmarks.parts.load import cluster_clients as clients
from benchmarks.parts.load.kueue_load import BASELINE
from benchmarks.parts.running import measure, names_in, parser_of
from gangplan.progress import Progress

ROUNDS, THREADS = 60, 16
COUNT = 50
PACED, RATE = 50, 50


def overhead(cluster: Cluster, share: int, progress: Progress) -> list[Figure]:
    """Return how much longer reserve-and-release takes through the ledger than by a bare client."""
    rounds = max(2, ROUNDS // share)
    ours, bare = clients.in_turns(cluster, rounds, lambda one: clients.through(one, COUNT, THREADS), progress)
    peer = f"{rounds * COUNT:,} of each, ours {sum(ours):.1f} s, bare {sum(bare):.1f} s"
    return [Figure(name="kueue_overhead", value=sum(ours) / sum(bare), unit="", bar="<= 1.2", peer=peer)]


def latency(cluster: Cluster, share: int, progress: Progress) -> list[Figure]:
    """Return submit to granted at a steady rate, ours beside the bare client's."""
    rounds = max(2, ROUNDS // share)
    both = clients.in_turns(cluster, rounds, lambda one: clients.paced(one, PACED, THREADS, RATE), progress)
    ours, bare = ([wait for waits in one for wait in waits] for one in both)
    half = statistics.median(ours), statistics.median(bare)
    tails = [statistics.quantiles(waits, n=100)[98] for waits in (ours, bare)]
    peer = f"at {RATE}/s: ours {half[0]:.1f} ms, bare {half[1]:.1f} ms; p99 {tails[0]:.0f} and {tails[1]:.0f} ms"
    return [Figure(name="kueue_p50_ratio", value=half[0] / half[1], unit="", bar="<= 1.3", peer=peer)]


def baseline(cluster: Cluster, share: int, progress: Progress) -> list[Figure]:
    """Return the makespan of Kueue's own load through our SQLite ledger beside the one through Kueue here."""
    load = replace(BASELINE, kinds=tuple(replace(kind, count=kind.count // share) for kind in BASELINE.kinds))
    kueue = clients.kueue_makespan(cluster, load, progress)
    cluster.stop()  # ours is not to share the cores with it
    ours = clients.own_makespan(load)
    peer = f"ours {ours:.1f} s, Kueue {kueue:.1f} s (its CI {load.ci_s:.0f} s)"
    return [Figure(name="baseline_vs_kueue", value=ours / kueue, unit="", bar="<= 0.25", peer=peer)]


def memory(cluster: Cluster, share: int, progress: Progress) -> list[Figure]:
    """Return the memory of a process of ours that watches a large cluster."""
    value, peer = watching_mb(cluster, share, progress)
    return [Figure(name="controller_memory_mb", value=value, unit="MB", bar="<= 400", peer=peer)]


def start() -> Figure:
    """Return the seconds from `make cluster` with a warm cache to the first admitted Workload."""
    began = time.monotonic()
    with Cluster() as cluster:
        clients.furnish(cluster, fleet.DEFAULT)
        clients.first_admitted(cluster)
        took = time.monotonic() - began
    peer = "warm cache, to the first admitted Workload"
    return Figure(name="cluster_start_s", value=took, unit="s", bar="<= 15", peer=peer)


PARTS: dict[str, Callable[[Cluster, int, Progress], list[Figure]]] = {
    "overhead": overhead,
    "latency": latency,
    "memory": memory,
    "baseline": baseline,
}


def main() -> None:
    """Measure what was asked for and report it."""
    parser = parser_of("cluster", "The figures of a real cluster.", ("start", *PARTS))
    asked = parser.parse_args()
    names = names_in(parser, asked.only)
    build.servers()  # built once for all, which is not what is measured
    measure("cluster", {name: partial(_part, name, asked.share) for name in ("start", *PARTS) if name in names})


def _part(name: str, share: int, progress: Progress) -> list[Figure]:
    """Measure one part on a cluster of its own."""
    if name == "start":
        return [start()]
    with Cluster() as cluster:
        clients.furnish(cluster, fleet.DEFAULT)
        return PARTS[name](cluster, share, progress)


if __name__ == "__main__":
    main()
