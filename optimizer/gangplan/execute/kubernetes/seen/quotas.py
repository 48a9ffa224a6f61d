"""ClusterQueues and Cohorts as small values: their quotas of accelerators, what is reserved, and who owns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gangplan.kube import Object, is_accelerator, listed, part, whole

QUEUE, COHORT = "ClusterQueue", "Cohort"
_OURS = ("gangplan", "kubectl", "kueue")
"""Who may have written a quota without owning it: we, people by hand, Kueue itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One nominal quota: where it stands in the object, and its value as it is there."""

    slots: int
    raw: str | int
    path: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPlace:
    """A ClusterQueue or Cohort with accelerators; `parent` is its cohort, `owner` another manager of its quotas.

    `cells` and `reserved` are by flavor and resource.
    `observed` that Kueue counts by the quota that the object has now: it has a status that says so of queues alone.
    `changed_at` is when somebody last wrote its spec, in whole seconds. A queue that `reclaims` takes from gangs of its
    cohort what their queues have above their quota.
    """

    kind: str
    name: str
    parent: str = ""
    cells: Mapping[tuple[str, str], Cell] = field(default_factory=dict[tuple[str, str], Cell])
    reserved: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    owner: str = ""
    observed: bool = True
    generation: int = 0
    changed_at: datetime | None = None
    trouble: str = ""
    reclaims: bool = False

    @property
    def shown(self) -> str:
        """Its kind and name."""
        return f"{self.kind}/{self.name}"


def seen_queue(item: Object) -> SeenPlace:
    """Read a ClusterQueue."""
    spec, status = item["spec"], part(item, "status")
    active: Object = next((mark for mark in listed(status, "conditions") if mark["type"] == "Active"), Object())
    return SeenPlace(
        kind=QUEUE,
        name=item["metadata"]["name"],
        parent=spec.get("cohortName", ""),
        cells=_cells(spec),
        reserved=_reserved(status),
        owner=_owner(item),
        changed_at=_changed_at(item),
        observed=active.get("observedGeneration", 0) >= item["metadata"].get("generation", 0),
        generation=item["metadata"].get("generation", 0),
        trouble=active.get("message", "") if active.get("status") != "True" else "",
        reclaims=part(spec, "preemption").get("reclaimWithinCohort", "Never") != "Never",
    )


def seen_cohort(item: Object) -> SeenPlace:
    """Read a Cohort."""
    spec = part(item, "spec")
    return SeenPlace(
        kind=COHORT,
        name=item["metadata"]["name"],
        parent=spec.get("parentName", ""),
        cells=_cells(spec),
        owner=_owner(item),
        changed_at=_changed_at(item),
    )


def seen_flavor(item: Object) -> Mapping[str, str]:
    """Return the node labels of a ResourceFlavor."""
    return part(item, "spec", "nodeLabels")


def _cells(spec: Object) -> dict[tuple[str, str], Cell]:
    return {
        (flavor["name"], limited["name"]): Cell(
            slots=whole(limited.get("nominalQuota", 0)),
            raw=limited.get("nominalQuota", "0"),
            path=f"/spec/resourceGroups/{group}/flavors/{number}",
            index=index,
        )
        for group, resources in enumerate(listed(spec, "resourceGroups"))
        for number, flavor in enumerate(listed(resources, "flavors"))
        for index, limited in enumerate(listed(flavor, "resources"))
        if is_accelerator(limited["name"])
    }


def _reserved(status: Object) -> dict[tuple[str, str], int]:
    return {
        (flavor["name"], used["name"]): whole(used.get("total", 0))
        for flavor in listed(status, "flavorsReservation")
        for used in listed(flavor, "resources")
        if is_accelerator(used["name"])
    }


def _changed_at(item: Object) -> datetime | None:
    marks = (entry for entry in listed(item["metadata"], "managedFields") if not entry.get("subresource"))
    return max((datetime.fromisoformat(mark["time"]) for mark in marks if "time" in mark), default=None)


def _owner(item: Object) -> str:
    """Return the manager, not a person and not we, that has set the quotas; empty where there is none."""
    owners = (
        entry.get("manager", "")
        for entry in listed(item["metadata"], "managedFields")
        if "f:resourceGroups" in part(entry, "fieldsV1", "f:spec") and not entry.get("subresource")
    )
    return next((owner for owner in owners if not owner.startswith(_OURS)), "")
