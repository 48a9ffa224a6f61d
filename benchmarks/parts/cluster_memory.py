"""The memory of a process of ours that mirrors the pods and nodes of a large cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.cluster.objects import pod_spec
from tests.cluster.servers import fleet
from tests.cluster.servers.cluster import Cluster

from gangplan.progress import Progress

NODES, PODS = 1_000, 20_000
SPACE = "bench"

WATCHER = """
import sys, time
from gangplan.kube.api import connect
from gangplan.kube.inventory import NODES, PODS, node_from, pod_from
from gangplan.kube.mirror import Mirror
api = connect(kubeconfig=sys.argv[1])
mirrors = [Mirror(api, NODES, node_from, lambda *_: None), Mirror(api, PODS, pod_from, lambda *_: None)]
for mirror in mirrors:
    mirror.start()
for mirror in mirrors:
    mirror.ready.wait()
counts = [len(mirror.there) for mirror in mirrors]
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(*counts, peak)
"""


def watching_mb(cluster: Cluster, share: int, progress: Progress) -> tuple[float, str]:
    """Return the peak resident megabytes of such a process, and what it held."""
    for name in ("kwok", "scheduler", "controller-manager"):  # nothing is to play, place or evict these
        cluster.servers[name].stop()
    pool = fleet.DEFAULT.pools[0]
    cluster.create_all("/api/v1/nodes", (fleet.node(pool, 8 + index) for index in range(NODES - pool.max_nodes)))
    many = PODS // share
    cluster.create_all(f"/api/v1/namespaces/{SPACE}/pods", _pods(many, progress))
    command = [sys.executable, "-c", WATCHER, str(cluster.kubeconfig)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    nodes, pods, peak_kib = (int(word) for word in said)
    assert (nodes, pods) == (NODES, many)
    return peak_kib / 1024, f"{nodes:,} nodes, {pods:,} pods; peak, the first list included"


def _pods(many: int, progress: Progress) -> Iterator[dict[str, Any]]:
    for number in range(many):
        progress(number, many, "pods")
        yield _pod(number)


def _pod(number: int) -> dict[str, Any]:
    spec = pod_spec(1) | {"nodeName": f"h100-owned-{number % NODES}"}
    labels = {"app": f"job-{number // 8}", "team": f"t{number % 20}", "batch.kubernetes.io/job-name": f"j{number // 8}"}
    return {"metadata": {"name": f"p{number}", "labels": labels}, "spec": spec}
