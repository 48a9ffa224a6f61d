"""How the queues stand: which flavors a LocalQueue may use, how much of each, and who shares it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gangplan.errors import InputError, NotFoundError
from gangplan.kube import Api, Object, names_of, whole
from gangplan.reserve.kueue.objects import names
from gangplan.types import Level


@dataclass(frozen=True, kw_only=True)
class FlavorQuota:
    """What one ClusterQueue has of one flavor; None is no limit."""

    nominal: int
    borrow: int | None = None
    lend: int | None = None

    @property
    def lends(self) -> int:
        """What the others of the cohort may use of it."""
        return self.nominal if self.lend is None else min(self.nominal, self.lend)


@dataclass(frozen=True, kw_only=True)
class Flavor:
    """A kind of node: labels and tolerations for pods, accelerator, and the topology's labels, widest first."""

    name: str
    labels: Mapping[str, str]
    tolerations: tuple[Object, ...]
    accelerators: frozenset[str]
    levels: tuple[str, ...] = ()

    def level(self, wish: Level) -> str | None:
        """Return the node label of a level; None where Kueue knows none."""
        if not self.levels:
            return None
        wanted = {Level.NODE: names.HOST, Level.RACK: "rack", Level.NVLINK: "nvlink"}.get(wish, "zone")
        return next((label for label in self.levels if wanted in label), None)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """One ClusterQueue."""

    name: str
    cohort: str
    quotas: Mapping[str, FlavorQuota]  # by flavor, in Kueue's order of preference
    preempts_lower: bool
    reclaims: bool
    stopped: bool


@dataclass(frozen=True, kw_only=True)
class View:
    """A LocalQueue, its ClusterQueue, that one's cohort, and the flavors."""

    local: str
    mine: Queue
    cohort: tuple[Queue, ...]  # the others that lend to it and borrow from it
    cohort_quotas: Mapping[str, int] = field(default_factory=dict[str, int])  # the cohort's own, by flavor
    flavors: Mapping[str, Flavor]
    classes: Mapping[str, int] = field(default_factory=dict[str, int])  # WorkloadPriorityClasses and their values

    def fitting(self, accelerators: tuple[str, ...]) -> list[Flavor]:
        """Return the flavors of these accelerators, in Kueue's order."""
        mine = [self.flavors[name] for name in self.mine.quotas if name in self.flavors]
        return [flavor for flavor in mine if flavor.accelerators & set(accelerators)]

    def most(self, flavor: str) -> int:
        """Return what this queue may use of a flavor when nobody else uses any."""
        own = self.mine.quotas[flavor]
        if not self.mine.cohort:
            return own.nominal
        lent = sum(other.quotas[flavor].lends for other in self.cohort if flavor in other.quotas)
        together = own.nominal + lent + self.cohort_quotas.get(flavor, 0)
        return together if own.borrow is None else min(together, own.nominal + own.borrow)

    @property
    def may_lose(self) -> str:
        """Say by which rule Kueue may take a running gang's slots; empty where it never does."""
        if self.mine.preempts_lower:
            return f"ClusterQueue {self.mine.name} preempts within itself"
        other = next((queue.name for queue in self.cohort if queue.reclaims), None)
        return f"ClusterQueue {other} of its cohort reclaims what was lent" if other else ""


def read_view(api: Api, namespace: str, local: str, resource: str = names.GPU) -> View:
    """Read how the queues stand now."""
    try:
        queue = api.get(f"{names.API}/namespaces/{namespace}/localqueues/{local}")
    except NotFoundError:
        there = [item["metadata"]["name"] for item in api.items(f"{names.API}/namespaces/{namespace}/localqueues")]
        known = f"use one of {', '.join(there)}" if there else f"namespace {namespace} has none: make one"
        raise InputError("ledger", f"{namespace}/{local}", f"is no LocalQueue: {known}") from None
    own = queue["spec"]["clusterQueue"]
    every = {item["metadata"]["name"]: _queue(item, resource) for item in api.items(f"{names.API}/clusterqueues")}
    if own not in every:
        raise InputError("ledger", f"{namespace}/{local}", f"names ClusterQueue {own}, which is not there: make it")
    mine = every.pop(own)
    others = tuple(queue for queue in every.values() if mine.cohort and queue.cohort == mine.cohort)
    return View(
        local=local,
        mine=mine,
        cohort=others,
        cohort_quotas=_cohort_quotas(api, mine.cohort, resource),
        flavors=_flavors(api),
        classes={item["metadata"]["name"]: item["value"] for item in api.items(f"{names.API}/workloadpriorityclasses")},
    )


def _queue(item: Object, resource: str) -> Queue:
    spec = item["spec"]
    preemption: Object = spec.get("preemption") or {}
    return Queue(
        name=item["metadata"]["name"],
        cohort=spec.get("cohortName", ""),
        quotas=dict(_quotas(spec, resource)),
        preempts_lower=preemption.get("withinClusterQueue", "Never") != "Never",
        reclaims=preemption.get("reclaimWithinCohort", "Never") != "Never",
        stopped=spec.get("stopPolicy", "None") != "None",
    )


def _quotas(spec: Object, resource: str) -> list[tuple[str, FlavorQuota]]:
    """Return the quotas of the GPUs of each flavor."""
    quotas: list[tuple[str, FlavorQuota]] = []
    for group in spec.get("resourceGroups", ()):
        for flavor in group["flavors"]:
            for limited in flavor["resources"]:
                if limited["name"] == resource:
                    limits = [limited.get("borrowingLimit"), limited.get("lendingLimit")]
                    borrow, lend = (None if limit is None else whole(limit) for limit in limits)
                    quota = FlavorQuota(nominal=whole(limited["nominalQuota"]), borrow=borrow, lend=lend)
                    quotas.append((flavor["name"], quota))
    return quotas


def _cohort_quotas(api: Api, cohort: str, resource: str) -> dict[str, int]:
    """Return what a cohort has of its own; most have no object at all."""
    if not cohort:
        return {}
    try:
        spec = api.get(f"{names.API}/cohorts/{cohort}").get("spec", {})
    except NotFoundError:
        return {}
    return {name: quota.nominal for name, quota in _quotas(spec, resource)}


def _flavors(api: Api) -> dict[str, Flavor]:
    levels: dict[str, tuple[str, ...]] = {}
    for item in api.items(f"{names.API}/topologies"):
        levels[item["metadata"]["name"]] = tuple(level["nodeLabel"] for level in item["spec"]["levels"])
    return {item["metadata"]["name"]: _flavor(item, levels) for item in api.items(f"{names.API}/resourceflavors")}


def _flavor(item: Object, levels: Mapping[str, tuple[str, ...]]) -> Flavor:
    name: str = item["metadata"]["name"]
    spec: Object = item.get("spec") or {}
    labels: dict[str, str] = spec.get("nodeLabels", {})
    return Flavor(
        name=name,
        labels=labels,
        tolerations=tuple(spec.get("tolerations", ())),
        accelerators=frozenset(_accelerators(name, labels)),
        levels=levels.get(spec.get("topologyName", ""), ()),
    )


def _accelerators(name: str, labels: Mapping[str, str]) -> set[str]:
    """Return what a flavor's accelerator may be called: what its labels name, their short names, the flavor itself."""
    return {name, *names_of(labels)}
