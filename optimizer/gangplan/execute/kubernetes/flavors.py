"""Which ResourceFlavor stands for the nodes of which pool, and which resource of it counts the pool's slots."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from gangplan.errors import InputError
from gangplan.execute.kubernetes.snapshot import Reading
from gangplan.kube import POOL_LABELS, names_of
from gangplan.types import WHOLE_GPU, Pool

_GPU = "nvidia.com/gpu"


def fitting(reading: Reading, pool: str, flavors: Iterable[str]) -> list[str]:
    """Return those of some flavors that fit the nodes of a pool; of one that is not there nothing is known."""
    known = {name: reading.snapshot.flavors[name] for name in flavors if name in reading.snapshot.flavors}
    return sorted(name for name, labels in known.items() if _fits(reading, pool, labels))


def flavor_of(reading: Reading, pool: str, named: Collection[str]) -> str:
    """Return the flavor of a pool, of those that have quotas where the pool's quota is.

    Raises InputError where none or several fit its nodes, and where it does not exist as an object.
    """
    quota, there = reading.pools.quotas[pool], reading.snapshot.flavors
    listed = ", ".join(sorted(named)) or "none with accelerators"
    field = f"pools[{pool}].quota.flavor"
    if quota.flavor and quota.flavor not in named:
        raise InputError(field, quota.flavor, f"has no quota there (there are: {listed}): add it, with 0 at first")
    found = [quota.flavor] if quota.flavor else fitting(reading, pool, named)
    if len(found) > 1:
        raise InputError(field, "", f"could be {' or '.join(found)}, whose labels all fit the pool's nodes: name one")
    missing = [name for name in found or sorted(named) if name not in there]
    if missing:
        raise InputError(field, missing[0], "is no ResourceFlavor: make it, or its queues admit nothing at all")
    if not found:
        raise InputError(field, "", f"fits none of the pool's nodes by its node labels (there are: {listed}): name it")
    return found[0]


def resource_for(pool: Pool) -> str:
    """Return the resource that counts the slots of a pool with GPUs of NVIDIA."""
    return _GPU if pool.slot == WHOLE_GPU else f"nvidia.com/mig-{pool.slot}"


def resource_of(pool: Pool, found: Iterable[str]) -> str:
    """Return the resource that counts a pool's slots; raises InputError where none or several may."""
    resources = set(found)
    wanted = resource_for(pool)
    if wanted in resources:
        return wanted
    if len(resources) == 1:
        return resources.pop()
    shown = ", ".join(sorted(resources)) or "no accelerators"
    raise InputError(f"pools[{pool.name}].slot", pool.slot, f"is counted by none of {shown}: give its flavor {wanted}")


def pools_by_flavor(reading: Reading, flavors: Iterable[str]) -> Mapping[str, str]:
    """Return the pool that each flavor stands for, the named ones first; one that fits none or several is left out."""
    found = {quota.flavor: name for name, quota in reading.pools.quotas.items() if quota.flavor}
    wanted = set(flavors) - set(found)
    candidates: dict[str, list[str]] = {}
    for pool in sorted(reading.pools.names) if wanted else ():
        for flavor in fitting(reading, pool, wanted):
            candidates.setdefault(flavor, []).append(pool)
    return found | {flavor: names[0] for flavor, names in candidates.items() if len(names) == 1}


def _fits(reading: Reading, pool: str, flavor: Mapping[str, str]) -> bool:
    """Whether a flavor's labels are those of a pool's nodes; of nodes to come, some labels are not known yet."""
    labels = reading.labels[pool]
    if all(labels.get(key) == value for key, value in flavor.items()):
        return True
    if reading.members[pool] or any(labels.get(key, value) != value for key, value in flavor.items()):
        return False
    names = {flavor[label] for label in POOL_LABELS if label in flavor}
    known = reading.pools.fleet.pool(pool)
    to_come = {pool, *labels.values()}
    return bool(names & to_come) if names else known.accelerator in names_of(flavor)
