"""Who holds which slots of a cluster: admitted Workloads, and the bound pods that none of them counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from gangplan.execute.kubernetes.flavors import pools_by_flavor
from gangplan.execute.kubernetes.seen import SeenPod, SeenWorkload
from gangplan.execute.kubernetes.snapshot import Reading
from gangplan.types import Grant


def grants_in(reading: Reading) -> tuple[Grant, ...]:
    """Return the grants on the pools' nodes, a Workload's for each pool that it has slots of."""
    return (*_of_workloads(reading, placed := _by_workload(reading)), *_of_pods(reading, placed))


def _by_workload(reading: Reading) -> Mapping[str, list[tuple[str, SeenPod]]]:
    """Return the bound pods of each Workload by its name; those of none under the empty name."""
    workloads = reading.snapshot.workloads
    owned = {uid: name for name, workload in workloads.items() for uid in workload.owners}
    found: dict[str, list[tuple[str, SeenPod]]] = defaultdict(list)
    for name, pod in reading.snapshot.pods.items():
        if pod.node in reading.pool_of_node:
            by_owner = next((owned[uid] for uid in pod.owners if uid in owned), "")
            found[pod.workload if pod.workload in workloads else by_owner].append((name, pod))
    return found


def _of_workloads(reading: Reading, pods: Mapping[str, list[tuple[str, SeenPod]]]) -> Iterator[Grant]:
    workloads = reading.snapshot.workloads
    flavors = {given.flavor for workload in workloads.values() for given in workload.given}
    known = pools_by_flavor(reading, flavors)
    for name, workload in sorted(workloads.items()):
        nodes = _chosen(reading, workload)
        ran: dict[str, int] = defaultdict(int)
        for key, pod in pods.get(name, ()):
            ran[pod.node] += reading.held_by(key, pod)
        nodes |= {node: max(slots, nodes.get(node, 0)) for node, slots in ran.items()}
        yield from _by_pool(reading, name, workload, known, nodes)


def _chosen(reading: Reading, workload: SeenWorkload) -> dict[str, int]:
    """Return the slots on the nodes that Kueue has chosen, before there are pods."""
    hosts = reading.snapshot.hosts
    chosen: dict[str, int] = defaultdict(int)
    for given in workload.given:
        for host, slots in given.nodes:
            if host in hosts:
                chosen[hosts[host]] += slots
    return dict(chosen)


def _by_pool(
    reading: Reading, name: str, workload: SeenWorkload, known: Mapping[str, str], nodes: Mapping[str, int]
) -> Iterator[Grant]:
    """Yield a Workload's grant on each pool: what its flavors say, or more where its nodes say so."""
    slots: dict[str, int] = defaultdict(int)
    for given in workload.given:
        if pool := known.get(given.flavor):
            slots[pool] += given.slots
    on: dict[str, dict[str, int]] = defaultdict(dict)
    for node, held in nodes.items():
        if pool := reading.pool_of_node.get(node):
            on[pool][node] = held
    for pool in sorted({*slots, *on}):
        total = max(slots[pool], sum(on[pool].values()))
        yield Grant(name=name, pool=pool, slots=total, nodes=on[pool], until=workload.until)


def _of_pods(reading: Reading, pods: Mapping[str, list[tuple[str, SeenPod]]]) -> Iterator[Grant]:
    """Yield the grants of pods that no Workload counts."""
    for name, pod in pods.get("", ()):
        pool = reading.pool_of_node[pod.node]
        slots = reading.held_by(name, pod)
        yield Grant(name=f"pod {name}", pool=pool, slots=slots, nodes={pod.node: slots}, by_quota=False)
