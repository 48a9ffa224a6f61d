"""The layout of quotas that is the simplest to carry plans out on, as objects to apply.

The capacity of every pool stands in one Cohort, and the tenants' queues in it have none of their own: a plan then
changes one number for each pool, and the queues share what there is by their weights.
"""

from __future__ import annotations

from collections.abc import Iterable

from gangplan.execute.kubernetes.flavors import resource_for
from gangplan.kube import KUEUE, POOL_LABELS, Object
from gangplan.types import Fleet, Pool

_UNLIMITED = {"cpu": "1M", "memory": "1Ei"}
"""What else pods ask for must be covered, too, or their Workloads wait for ever; the nodes limit it."""


def layout_of(fleet: Fleet, tenants: Iterable[str], *, cohort: str, label: str = POOL_LABELS[0]) -> list[Object]:
    """Return a flavor for each pool, the Cohort with 0 slots of each, and a queue for each tenant in its namespace.

    Parameters
    ----------
    label
        The label of nodes whose value is their pool's name.
    """
    flavors = [_object("ResourceFlavor", pool.name, {"nodeLabels": {label: pool.name}}) for pool in fleet.pools]
    capacity = _object("Cohort", cohort, {"resourceGroups": _groups(fleet.pools, {})})
    queues = [each for tenant in tenants for each in _queue(tenant, cohort, fleet)]
    return [*flavors, capacity, *queues]


def _queue(tenant: str, cohort: str, fleet: Fleet) -> list[Object]:
    spec: Object = {"namespaceSelector": {}, "cohortName": cohort, "resourceGroups": _groups(fleet.pools, _UNLIMITED)}
    local = _object("LocalQueue", cohort, {"clusterQueue": tenant})
    local["metadata"]["namespace"] = tenant
    return [_object("ClusterQueue", tenant, spec), local]


def _groups(pools: Iterable[Pool], besides: dict[str, str]) -> list[Object]:
    """Return the resource groups of quotas of 0: the pools that are counted in one resource stand in one group."""
    groups: dict[str, list[Object]] = {}
    for pool in pools:
        groups.setdefault(resource_for(pool), []).append({"name": pool.name})
    made: list[Object] = []
    for number, (resource, flavors) in enumerate(groups.items()):
        covered = {resource: "0", **(besides if number == 0 else {})}
        quotas = [{"name": name, "nominalQuota": amount} for name, amount in covered.items()]
        made.append({"coveredResources": list(covered), "flavors": [{**each, "resources": quotas} for each in flavors]})
    return made


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": KUEUE.removeprefix("/apis/"), "kind": kind, "metadata": {"name": name}, "spec": spec}
