"""What would keep plans from being carried out on a cluster, each with its remedy; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gangplan.errors import ForbiddenError, GangplanError
from gangplan.execute.kubernetes.quotas import PoolQuota, Quotas
from gangplan.execute.kubernetes.scaling import Scaled
from gangplan.execute.kubernetes.seen import HELD_LIMIT, SeenNodePool
from gangplan.execute.kubernetes.settings import KarpenterNodes, ScaledNodes
from gangplan.execute.kubernetes.snapshot import Pools, Reading
from gangplan.kube import Api, executor_rights, may

_REMEDY = "gangplan kube manifests --executor | kubectl apply -f -"


def problems(
    api: Api, pools: Pools, scaled: Mapping[str, Scaled], *, kueue: bool, read: Callable[[], Reading]
) -> tuple[str, ...]:
    """Look at rights, and then at quotas, NodePools and nodes, as far as the rights reach."""
    found = [*_rights(api, pools, kueue=kueue), *_guarded(lambda: _scales(scaled))]
    try:
        reading = read()
    except ForbiddenError as error:
        return (*found, f"{error}: {_REMEDY}")
    return (*found, *_quotas(reading), *_nodepools(reading), *_nodes(reading))


def _guarded(look: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Yield what a look finds; one that the cluster refuses is a finding itself."""
    try:
        yield from look()
    except ForbiddenError as error:
        yield f"{error}: {_REMEDY}"


def _rights(api: Api, pools: Pools, *, kueue: bool) -> Iterator[str]:
    """Yield each right of the executor's role that is needed for these pools and missing."""
    unused = set(_unused(pools, kueue=kueue))
    for group, resource, verb in executor_rights():
        if group not in unused and not may(api, "", group, resource, verb):
            shown = f"{resource}{'.' if group else ''}{group}"
            yield f"the right to {verb} {shown} is missing in the cluster: {_REMEDY}"


def _unused(pools: Pools, *, kueue: bool) -> Iterator[str]:
    """Yield the API groups that no pool here needs."""
    scaled = {each.group for each in pools.nodes.values() if isinstance(each, ScaledNodes)}
    yield from {"apps", "cluster.x-k8s.io"} - scaled
    if not pools.by_nodepool:
        yield "karpenter.sh"
    if not kueue:
        yield "kueue.x-k8s.io"


# ---------------------------------------------------------------- quotas


def _quotas(reading: Reading) -> Iterator[str]:
    quotas = Quotas(reading)
    for pool in reading.pools.quotas:
        try:
            for each in quotas.of(pool):
                yield from _quota(each, take_over=reading.pools.quotas[pool].take_over)
            yield from _shared(quotas, pool)
        except GangplanError as error:
            yield str(error)


def _quota(each: PoolQuota, *, take_over: bool) -> Iterator[str]:
    shown = each.place.shown
    if each.place.owner and not take_over:
        yield (
            f"{shown}: field manager {each.place.owner} owns its resourceGroups: take them out of its source, "
            "or set quota.take_over: true in targets.yaml"
        )
    if each.slots and each.of_others:
        yield (
            f"{shown}: its queues have {each.of_others} slots of {each.flavor} as their own, under which the pool "
            "cannot fall: set their nominalQuota to 0"
        )
    for place in (each.place, *each.beneath):
        if place.trouble:
            yield f"{place.shown}: is not active ({place.trouble}): mend that first"


def _shared(quotas: Quotas, pool: str) -> Iterator[str]:
    for place, slots in quotas.strangers(pool):
        yield (
            f"{place.shown}: may grant {slots} slots of pool {pool} and is not in targets.yaml: name it there, "
            "or set its quota of this flavor to 0"
        )


# ---------------------------------------------------------------- nodes


def _nodepools(reading: Reading) -> Iterator[str]:
    for pool, settings in reading.pools.nodes.items():
        if isinstance(settings, KarpenterNodes):
            found = reading.snapshot.nodepools.get(settings.nodepool)
            if found is None:
                yield f"pools[{pool}].nodes.nodepool: {settings.nodepool} is no NodePool of the cluster: make it"
            elif found.replicas is None:
                yield (
                    f"NodePool {found.name}: is not static: make one with spec.replicas (it cannot be added), and "
                    "switch Karpenter's feature gate StaticCapacity on"
                )
            else:
                yield from _nodepool(found, reading.pools.fleet.pool(pool).max_nodes)


def _nodepool(found: SeenNodePool, most: int) -> Iterator[str]:
    shown = f"NodePool {found.name}"
    if found.limit is not None and found.limit <= most and not found.held:
        yield (
            f"{shown}: its limits.nodes is {found.limit}, and the pool may have {most} nodes: set it to {most + 1}, "
            "one more, so that a drifted node can be replaced"
        )
    if found.held:
        yield f"{shown}: its limit is held down since a removal broke off ({HELD_LIMIT}): the next step gives it back"
    if found.expires != "Never":
        remedy = "set spec.template.spec.expireAfter: Never"
        yield f"{shown}: its nodes end after {found.expires}, whoever is on them: {remedy}"
    if found.grace:
        yield (
            f"{shown}: terminationGracePeriod {found.grace} ends pods that may not be disturbed: "
            "remove it from spec.template.spec"
        )
    if found.trouble:
        yield f"{shown}: {found.trouble}"
    elif not found.observed:
        yield f"{shown}: Karpenter has not looked at it since it was changed: is it running, with StaticCapacity on?"


def _scales(scaled: Mapping[str, Scaled]) -> Iterator[str]:
    for pool, each in scaled.items():
        try:
            each.ordered()
        except GangplanError as error:
            yield f"pools[{pool}].{error}"


def _nodes(reading: Reading) -> Iterator[str]:
    """Yield the nodes that lack slots, and pools without any node."""
    for pool, nodes in reading.members.items():
        need = reading.pools.fleet.pool(pool).slots_per_node
        for node in nodes:
            slots = reading.slots_of(node)
            if node.ready and not node.new and slots < need:
                yield (
                    f"node {node.name}: has {slots} of the {need} slots that pool {pool} has by the fleet file, "
                    "so that it does not count as usable: mend its accelerators, or the fleet file"
                )
