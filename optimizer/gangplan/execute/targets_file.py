"""targets.yaml: on which engine each pool lives, who makes its nodes, and which quotas let it be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter

from gangplan.errors import InputError
from gangplan.execute.cloud import Ec2Group, GceGroup
from gangplan.execute.devices import Layouts, ResizeRule, check_layouts
from gangplan.execute.fleet_file import FileNodes
from gangplan.execute.green import PowerSettings
from gangplan.execute.kubernetes import FixedNodes, KarpenterNodes, KueueQuota, ScaledNodes
from gangplan.execute.prewarm import Serving, check_serving
from gangplan.types import Fleet, WorkloadClass
from gangplan.yaml_files import read_yaml, validated

NODE_KINDS: dict[str, type[Any]] = {
    "file": FileNodes,
    "fixed": FixedNodes,
    "karpenter": KarpenterNodes,
    "scale": ScaledNodes,
    "ec2": Ec2Group,
    "gce": GceGroup,
}
"""Who can make a pool's nodes, by the word after `kind`; the settings of each are its own room's."""

QUOTA_KINDS: dict[str, type[Any]] = {"kueue": KueueQuota}
"""What can let a pool be used, by the word after `kind`."""

_NODES_BY = {
    "karpenter": ("nodepool",),
    "scale": ("resource", "namespace", "name"),
    "ec2": ("region", "group"),
    "gce": ("project", "zone", "group"),
}
"""The settings that say which nodes are meant; those of other kinds may be any number of pools'."""


@dataclass(frozen=True, kw_only=True)
class PoolPlaces:
    """Where a pool's nodes and its quota are, in the settings of their kinds."""

    nodes: Any
    quota: Any = None


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What targets.yaml says: the cluster's context, the pools, and what follows the plan beside them.

    The minimums of `serving` follow it; `layouts` are groups of pools between which nodes move; `resize` has a rule for
    each workload class whose pods are resized; `power` names the pools whose nodes are capped.
    """

    pools: Mapping[str, PoolPlaces]
    cluster: str = ""
    serving: tuple[Serving, ...] = ()
    power: PowerSettings = field(default_factory=PowerSettings)
    layouts: tuple[Layouts, ...] = ()
    resize: Mapping[WorkloadClass, ResizeRule] = field(default_factory=dict[WorkloadClass, ResizeRule])

    def nodes_of(self, *kinds: str) -> dict[str, Any]:
        """Return the settings of the pools whose nodes are of these kinds."""
        return {pool: each.nodes for pool, each in self.pools.items() if each.nodes.kind in kinds}

    def quotas_of(self, *kinds: str) -> dict[str, Any]:
        """Return the settings of the pools whose quotas are of these kinds."""
        return {pool: each.quota for pool, each in self.pools.items() if each.quota and each.quota.kind in kinds}


@dataclass(frozen=True, kw_only=True)
class _Pool:
    nodes: dict[str, Any]
    quota: dict[str, Any] | None = None

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class _File:
    pools: dict[str, _Pool]
    cluster: str = ""
    serving: list[Serving] = field(default_factory=list[Serving])
    power: PowerSettings = field(default_factory=PowerSettings)
    layouts: list[Layouts] = field(default_factory=list[Layouts])
    resize: dict[WorkloadClass, ResizeRule] = field(default_factory=dict[WorkloadClass, ResizeRule])

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


_ADAPTER = TypeAdapter(_File)


def targets_of_file(fleet: Fleet) -> Targets:
    """Return the targets where there is no targets.yaml: the fleet file has each pool's number."""
    return Targets(pools={pool.name: PoolPlaces(nodes=FileNodes()) for pool in fleet.pools})


def read_targets(path: Path, fleet: Fleet) -> Targets:
    """Read targets.yaml.

    Raises
    ------
    InputError
        A field is unknown or wrong, a pool is not in the fleet, or two pools have one place; file and line are named.
    """
    document = read_yaml(path, "targets")
    given = document.read_as(_ADAPTER, "targets", qualified=False)
    with document.naming_lines():
        pools = {name: _places(name, each, fleet) for name, each in given.pools.items()}
        _refuse_twice(pools)
        check_serving(given.serving, fleet)
        given.power.require_known(pool.name for pool in fleet.pools)
        check_layouts(given.layouts, pools, fleet)
    return Targets(
        pools=pools,
        cluster=given.cluster,
        serving=tuple(given.serving),
        layouts=tuple(given.layouts),
        resize=given.resize,
        power=given.power,
    )


def _places(name: str, given: _Pool, fleet: Fleet) -> PoolPlaces:
    """Return a pool's places."""
    if all(name != pool.name for pool in fleet.pools):
        raise InputError.unknown(f"pools[{name}]", name, "not in the fleet", [pool.name for pool in fleet.pools])
    nodes = _settings(f"pools[{name}].nodes", given.nodes, NODE_KINDS)
    quota = None if given.quota is None else _settings(f"pools[{name}].quota", given.quota, QUOTA_KINDS)
    return PoolPlaces(nodes=nodes, quota=quota)


def _settings(field_name: str, body: dict[str, Any], kinds: Mapping[str, type[Any]]) -> Any:
    """Return the settings of a kind; what it refuses is named by its path in the file."""
    kind = body.get("kind")
    if kind is None:
        raise InputError(f"{field_name}.kind", "", f"is missing: use one of {', '.join(kinds) or 'none'}")
    if kind not in kinds:
        raise InputError.unknown(f"{field_name}.kind", kind, "no kind that there is", kinds)
    prefix = field_name.rpartition(".")[0]
    try:
        return validated(TypeAdapter(kinds[kind]), body, field_name)
    except InputError as error:
        named = error.field if error.field.startswith(field_name) else f"{prefix}.{error.field}"
        raise error.renamed(named) from None


def _refuse_twice(pools: Mapping[str, PoolPlaces]) -> None:
    """Refuse two pools on one place: each would order, or grant, for both."""
    seen: dict[tuple[str, ...], str] = {}
    for name, places in pools.items():
        for what, kind, place in _places_of(places):
            other = seen.setdefault((what, *place), name)
            if other != name:
                remedy = f"is the place of pool {other} as well: give each pool a place of its own"
                raise InputError(f"pools[{name}].{what}", kind, remedy)


def _places_of(places: PoolPlaces) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Give what a pool has for itself: its nodes, and its flavor in a cohort or queue, where that is named."""
    nodes, quota = places.nodes, places.quota
    if names := _NODES_BY.get(nodes.kind):
        yield "nodes", nodes.kind, (nodes.kind, *(str(getattr(nodes, name)) for name in names))
    if quota is not None and quota.flavor:
        for place in (quota.cohort, *quota.queues):
            if place:
                yield "quota", quota.kind, (place, quota.flavor)
