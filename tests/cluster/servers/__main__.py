"""`make cluster`: a GPU cluster on this machine, without Docker and without root, until Ctrl-C.

python -m tests.cluster.servers [--fleet FILE] [--real-nodes 2] [--karpenter] [--wait-for-pods-ready 5m] [--build]

Real nodes need root; the others are played.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from threading import Event

from gangplan.errors import GangplanError
from tests.cluster.servers import build, fleet, steps_image
from tests.cluster.servers.cluster import Cluster, Options
from tests.cluster.servers.network import MOST_NODES
from tests.cluster.servers.node import node
from tests.cluster.servers.node.images import SHELL
from tests.cluster.servers.process import NotStarted

_LOOK_S = 0.5


def main() -> int:
    """Start the cluster, say how to use it, and stop it when asked to."""
    parser = argparse.ArgumentParser(prog="make cluster", description="A GPU cluster to try gangplan on.")
    parser.add_argument("--fleet", default="", help="fleet file, or a node table with sn, gpu and model (8 x 8 H100)")
    parser.add_argument("--real-nodes", type=int, default=0, metavar="N", help="nodes that run their pods; needs root")
    parser.add_argument("--wait-for-pods-ready", default="", help="switch Kueue's waitForPodsReady on, like 5m")
    parser.add_argument("--karpenter", action="store_true", help="start Karpenter, which orders played nodes")
    parser.add_argument("--build", action="store_true", help="only build the servers, and the images of the steps")
    asked = parser.parse_args()
    if why := build.missing() or (node.missing() if asked.real_nodes else ""):
        print(why, file=sys.stderr)
        return 3
    try:
        real = min(asked.real_nodes, MOST_NODES)
        wanted = fleet.with_real(fleet.read(asked.fleet), real)
        options = Options(wait_for_pods_ready=asked.wait_for_pods_ready, real_nodes=real, karpenter=asked.karpenter)
        build.servers(tuple(build.TOOLS) if asked.build else build.USUAL)
        return build_images() if asked.build else run(wanted, options)
    except (GangplanError, build.CannotBuild, NotStarted) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def build_images() -> int:
    """Build the images of the steps, where this machine can."""
    if not steps_image.missing():
        for target in steps_image.TARGETS:
            steps_image.archive(target)
    return 0


def run(wanted: fleet.Fleet, options: Options) -> int:
    """Run the cluster until SIGINT or SIGTERM, or until a server of it ends by itself."""
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    start = time.monotonic()
    cluster = Cluster(options)
    cluster.start(lambda what: print(f"starting {what}", flush=True))
    try:
        cluster.start_nodes()
        furnish(cluster, wanted)
        print(words(cluster, wanted, time.monotonic() - start), flush=True)
        while not stop.wait(_LOOK_S):
            if ended := [one.name for one in (*cluster.servers.values(), *cluster.nodes) if not one.runs]:
                print(f"error: {', '.join(ended)} ended by itself: see {cluster.logs}", file=sys.stderr)
                return 1
    finally:
        print("stopping", flush=True)
        cluster.stop()
    return 0


def furnish(cluster: Cluster, wanted: fleet.Fleet) -> None:
    """Make the fleet's nodes and the tenants' queues."""
    cluster.apply(fleet.queues(wanted))
    cluster.create_all("/api/v1/nodes", fleet.nodes(wanted))


def words(cluster: Cluster, wanted: fleet.Fleet, seconds: float) -> str:
    """Say what there is and how to use it."""
    counts = [(pool, wanted.nodes.get(pool.name, pool.max_nodes)) for pool in wanted.pools]
    shown = ", ".join(f"{count} x {pool.gpus_per_node} {pool.accelerator}" for pool, count in counts[:6])
    more = f" and {len(counts) - 6} pools more" if len(counts) > 6 else ""
    return "\n".join(
        [
            f"ready after {seconds:.1f} s: {shown}{more}",
            f"queues: {', '.join(f'{tenant}/{fleet.QUEUE}' for tenant in fleet.TENANTS)}",
            f"export KUBECONFIG={cluster.kubeconfig}",
            f"export GANGPLAN_LEDGER=kueue://gangplan/{fleet.TENANTS[0]}/{fleet.QUEUE}",
            *(f"{one.name} runs its pods: image {SHELL}" for one in cluster.nodes),
            f"kubectl: {cluster.binary('kubectl')}",
            f"logs: {cluster.logs}",
            "Ctrl-C stops it",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
