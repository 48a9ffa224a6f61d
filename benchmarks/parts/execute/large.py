"""A large cluster: 200 pools of Karpenter with 1,000 nodes, 500 queues, 20,000 pods, and a controller beside it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from tests.cluster.objects import bare, pod_spec
from tests.cluster.servers import fleet, karpenter
from tests.cluster.servers.cluster import Cluster, Options

from benchmarks.parts.execute.apiserver import Audit, p99
from benchmarks.parts.execute.home import Controller, Home
from benchmarks.parts.figures import FOLDER, Figure
from gangplan.progress import Progress
from gangplan.reserve.kueue.objects import names
from gangplan.types import Fleet, Pool, PoolKind

POOLS, NODES_EACH, QUEUES_EACH, PODS_EACH = 200, 5, (2, 3), 20
"""Pools, nodes of each pool, queues of a pool by turns, pods on each node."""

SPACE, GPUS = "bench", 8
START_HOURS = 2
_WITHOUT = ("karpenter", "scheduler", "controller-manager")
_PATIENCE_S = 900.0
_UNCHANGED_S = 60.0
_STORM_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Large:
    """The sizes, and who has which names."""

    pools: int

    @property
    def names(self) -> list[str]:
        """The pools."""
        return [f"pool-{number:03}" for number in range(self.pools)]

    def queues(self, pool: str) -> list[str]:
        """Return a pool's queues."""
        return [f"{pool}-{place}" for place in range(QUEUES_EACH[int(pool[-3:]) % 2])]

    def plan(self, *, storm: bool) -> tuple[dict[str, int], dict[str, int]]:
        """Return the nodes of each pool now and soon, before the storm or after it.

        It gives half of the pools their fifth node, which is there, and orders a sixth; from the others it takes the
        fifth, which nobody uses.
        """
        now, soon = (5, 6) if storm else (4, 5)
        grows = {name: int(name[-3:]) % 4 < 2 for name in self.names}
        shrunk = 4 if storm else 5
        return (
            {name: now if grows[name] else shrunk for name in self.names},
            {name: soon if grows[name] else shrunk for name in self.names},
        )

    @property
    def fleet(self) -> Fleet:
        """The fleet file."""
        pools = tuple(
            Pool(
                name=name,
                accelerator="h100",
                gpus_per_node=GPUS,
                kind=PoolKind.ON_DEMAND,
                price_per_node_hour=55.04,
                max_nodes=2 * NODES_EACH,
                lead_time_hours=START_HOURS,
                startup_minutes_p50=60 * START_HOURS,
                startup_minutes_p95=60 * START_HOURS,
            )
            for name in self.names
        )
        return Fleet(pools=pools, nodes=dict.fromkeys(self.names, NODES_EACH))

    @property
    def targets(self) -> dict[str, Any]:
        """What targets.yaml says."""
        return {
            name: {
                "nodes": {"kind": "karpenter", "nodepool": name},
                "quota": {"kind": "kueue", "queues": dict.fromkeys(self.queues(name), 1), "flavor": name},
            }
            for name in self.names
        }


def large(share: int, progress: Progress, *, parts: Sequence[str] = ("unchanged", "storm")) -> list[Figure]:
    """Return the figures of a plan that does not change, and of one that changes everything."""
    size = Large(pools=max(POOLS // share, 4))
    with TemporaryDirectory() as folder, _cluster(size, progress) as cluster:
        home = Home(folder=Path(folder), fleet=size.fleet, targets=size.targets)
        home.publish(*size.plan(storm=False))
        audit = Audit(cluster)
        figures: list[Figure] = []
        with Controller(cluster, home, f"kueue://gangplan/{SPACE}/{size.queues(size.names[0])[0]}") as controller:
            controller.wait_for("gangplan_passes_total", 3, _PATIENCE_S)
            if "unchanged" in parts:
                figures += _unchanged(size, controller, audit, progress)
            if "storm" in parts:
                figures += _storm(size, home, cluster, controller, audit, progress)
        return figures


def _unchanged(size: Large, controller: Controller, audit: Audit, progress: Progress) -> list[Figure]:
    """Watch a controller that has nothing to do."""
    audit.skip()
    took: list[float] = []
    until, passes = time.monotonic() + _UNCHANGED_S, controller.figure("gangplan_passes_total")
    while time.monotonic() < until:
        progress(_UNCHANGED_S - (until - time.monotonic()), _UNCHANGED_S, "nothing changes")
        now = controller.figure("gangplan_passes_total")
        if now > passes:
            passes = now
            took.append(controller.figure("gangplan_pass_seconds"))
        time.sleep(0.25)
    writes = audit.writes()
    resident, most = controller.memory_mb()
    nodes = size.pools * NODES_EACH
    sizes = f"{nodes:,} nodes, {nodes * PODS_EACH:,} pods, {sum(len(size.queues(name)) for name in size.names)} queues"
    longest = f"{len(took)} passes in {_UNCHANGED_S:.0f} s, the longest {max(took):.2f} s; {sizes}"
    shown = f"but for its Lease; {sizes}" + "".join(f"; {write.shown}" for write in writes[:3])
    return [
        Figure(name="reconcile_unchanged_s", value=statistics.median(took), unit="s", bar="<= 1", peer=longest),
        Figure(name="reconcile_unchanged_writes", value=len(writes), unit="writes", bar="<= 0", peer=shown),
        Figure(
            name="controller_memory_mb", value=most, unit="MB", bar="<= 400", peer=f"at most; now {resident:.0f} MB"
        ),
    ]


def _storm(
    size: Large, home: Home, cluster: Cluster, controller: Controller, audit: Audit, progress: Progress
) -> list[Figure]:
    """Publish a plan that changes every pool and every queue, and wait until it is carried out."""
    now, soon = size.plan(storm=True)
    before = cluster.kubectl("get", "--raw", "/metrics")
    home.publish(now, soon)
    audit.skip()
    began = time.time()
    deadline = began + _STORM_S
    while len(_right(cluster, now, soon)) < size.pools:
        progress(min(time.time() - began, _STORM_S), _STORM_S, "everything changes")
        if time.time() > deadline:
            break
        time.sleep(1.0)
    writes = audit.writes()
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = [f"{write.at - began:7.2f} {write.shown}" for write in writes]
    (FOLDER / "execute-storm.txt").write_text("\n".join([*lines, ""]))
    if not writes:
        raise RuntimeError("a plan that changes everything made the controller write nothing")
    last = max(write.at for write in writes) - began
    slow = p99(before, cluster.kubectl("get", "--raw", "/metrics"))
    missed = size.pools - len(_right(cluster, now, soon))
    queues = sum(len(size.queues(name)) for name in size.names)
    peer = f"{queues} queues, {size.pools} node pools, {len(writes):,} writes; {missed} pools not reached"
    return [
        Figure(name="reconcile_storm_s", value=last, unit="s", bar="<= 30", peer=peer),
        Figure(name="apiserver_p99_s", value=slow, unit="s", bar="<= 1", peer="of all calls but watches in the storm"),
    ]


def _right(cluster: Cluster, now: dict[str, int], soon: dict[str, int]) -> set[str]:
    """Return the pools whose quotas and replicas are the plan's."""
    pools = cluster.api.items(f"{karpenter.API}/nodepools")
    right = {one["metadata"]["name"] for one in pools if one["spec"]["replicas"] == soon[one["metadata"]["name"]]}
    quotas: dict[str, int] = {}
    for one in cluster.api.items(f"{names.API}/clusterqueues"):
        flavor = one["spec"]["resourceGroups"][0]["flavors"][0]
        quotas[flavor["name"]] = quotas.get(flavor["name"], 0) + int(flavor["resources"][0]["nominalQuota"])
    return {name for name in right if quotas[name] == now[name] * GPUS}


# ------------------------------------------------------------ the cluster


@contextmanager
def _cluster(size: Large, progress: Progress) -> Iterator[Cluster]:
    with Cluster(Options(karpenter=True, audit=True, node_lease_s=600)) as cluster:
        _play_nodes_alone(cluster)
        cluster.apply([fleet.namespace(SPACE), karpenter.node_class("bench", "0s")])
        cluster.create_all(
            f"{names.API}/resourceflavors", (fleet.flavor(name, "h100", topology="") for name in size.names)
        )
        cluster.create_all(f"{names.API}/clusterqueues", _queues(size))
        locals_ = [fleet.local_queue(SPACE, queue, queue) for name in size.names for queue in size.queues(name)]
        cluster.create_all(f"{names.API}/namespaces/{SPACE}/localqueues", locals_)
        pools = (karpenter.node_pool(name, "h100-8", replicas=NODES_EACH, node_class="bench") for name in size.names)
        cluster.create_all(f"{karpenter.API}/nodepools", pools)
        nodes = _initialized(cluster, size, progress)
        cluster.create_all(names.workloads(SPACE), _workloads(size))
        pods = [
            pod
            for name in size.names
            for place, node in enumerate(nodes[name])
            for pod in _pods(size, name, node, place)
        ]
        for name in _WITHOUT:  # they would only be in the way
            cluster.servers[name].stop()
        cluster.create_all(f"/api/v1/namespaces/{SPACE}/pods", _counted(pods, progress))
        for name in _WITHOUT:
            cluster.servers[name].start()
        yield cluster


def _play_nodes_alone(cluster: Cluster) -> None:
    """Let KWOK play no pods: they are bound, and that is all that anybody here looks at."""
    stages = list(yaml.safe_load_all((cluster.folder / "stages.yaml").read_text()))
    for one in stages:
        one["spec"]["selector"]["matchLabels"] = {"played": "true"}
    cluster.servers["kwok"].stop()
    (cluster.folder / "stages.yaml").write_text(yaml.safe_dump_all(stages))
    cluster.servers["kwok"].start()


def _counted(pods: Sequence[dict[str, Any]], progress: Progress) -> Iterator[dict[str, Any]]:
    for number, pod in enumerate(pods):
        progress(number, len(pods), "pods")
        yield pod


def _queues(size: Large) -> Iterator[dict[str, Any]]:
    now, _ = size.plan(storm=False)
    for name in size.names:
        queues = size.queues(name)
        for place, queue in enumerate(queues):
            gpus = now[name] * GPUS
            yield fleet.cluster_queue(queue, {name: gpus // len(queues) + (place < gpus % len(queues))}, cohort=name)


def _workloads(size: Large) -> Iterator[dict[str, Any]]:
    for name in size.names:
        for place in range(NODES_EACH - 1):
            queues = size.queues(name)
            yield bare(SPACE, f"{name}-{place}", GPUS, queue=queues[place % len(queues)])


def _pods(size: Large, pool: str, node: str, place: int) -> Iterator[dict[str, Any]]:
    """Yield a node's pods: those of a gang with a GPU each, and others without, as every node has."""
    for number in range(PODS_EACH):
        holds = number < GPUS and place < NODES_EACH - 1
        notes = {"karpenter.sh/do-not-disrupt": "true", "kueue.x-k8s.io/workload": f"{pool}-{place}"} if holds else {}
        labels = {"app": f"{pool}-{place}", "team": f"team-{number}"}
        meta = {"name": f"{pool}-{place}-{number}", "labels": labels, "annotations": notes}
        spec = pod_spec(1 if holds else 0) | {"nodeName": node, "tolerations": [{"operator": "Exists"}]}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _initialized(cluster: Cluster, size: Large, progress: Progress) -> dict[str, list[str]]:
    """Return the nodes by pool, once all can be used."""
    found: dict[str, list[str]] = {}

    def there() -> bool:
        found.clear()
        for one in cluster.api.items("/api/v1/nodes", labelSelector="karpenter.sh/initialized=true"):
            found.setdefault(one["metadata"]["labels"][fleet.POOL], []).append(one["metadata"]["name"])
        return sum(map(len, found.values())) >= size.pools * NODES_EACH

    _until(there, f"{size.pools * NODES_EACH} nodes", progress)
    return found


def _until(good: Any, what: str, progress: Progress) -> None:
    began = time.monotonic()
    while not good():
        progress(min(time.monotonic() - began, _PATIENCE_S), _PATIENCE_S, f"waiting for {what}")
        if time.monotonic() - began > _PATIENCE_S:
            raise TimeoutError(f"{what} were not there within {_PATIENCE_S:.0f} s")
        time.sleep(2.0)
