"""Accelerators by dynamic resource allocation (DRA): the ResourceClaims of pods, the ResourceSlices of nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from gangplan.errors import ForbiddenError, NotFoundError
from gangplan.kube.accelerators import FAMILIES, family_of, instances_of, product_of
from gangplan.kube.api import Api, Object, listed, part
from gangplan.kube.remarks import Remarks

T = TypeVar("T")
_LISTS = ("deviceclasses", "resourceclaims", "resourceclaimtemplates")
VERSIONS = ("v1", "v1beta2", "v1beta1")
"""The versions of resource.k8s.io that are read, the newest first."""

_DRIVERS = tuple(driver for family in FAMILIES for driver in family.drivers)
_CLASSES = {"mig.nvidia.com": "gpu.nvidia.com"}
"""The drivers of device classes that do not name them."""

_ATTRIBUTES = ("productName", "instanceType", "accelerator", "tpuGen")
"""The attributes that name the product of a device, each of another driver."""

_PRODUCT = re.compile(rf"(?:{'|'.join(_ATTRIBUTES)})[^'\"]*['\"]([^'\"]+)['\"]")
_PROFILE = re.compile(r"['\"]([0-9]+g\.[0-9]+gb)")


@dataclass(frozen=True, slots=True)
class Device:
    """One device: its driver, its accelerator (empty where nothing tells it), and how much of one it is."""

    driver: str
    accelerator: str
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Slices:
    """What ResourceSlices list: devices by driver, pool and name, and the whole devices of each node.

    The parts that a device may be divided into are listed beside it.
    """

    devices: dict[tuple[str, str, str], Device] = field(default_factory=dict[tuple[str, str, str], Device])
    nodes: dict[str, list[Device]] = field(default_factory=dict[str, list[Device]])


@dataclass(frozen=True, kw_only=True)
class Devices:
    """What claims ask for, by namespace and name; `note` says why nothing is known of them.

    `users` counts the pods that a claim is reserved for, for they share it.
    """

    claims: dict[tuple[str, str], list[Device]] = field(default_factory=dict[tuple[str, str], list[Device]])
    templates: dict[tuple[str, str], list[Device]] = field(default_factory=dict[tuple[str, str], list[Device]])
    users: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    note: str = ""

    def asked(self, namespace: str, spec: Object, status: Object) -> dict[Device, float] | None:
        """Return the devices that a pod asks for by claims, each with its number; None: a claim was not to be found."""
        asked: dict[Device, float] = {}
        made = {each["name"]: each.get("resourceClaimName") for each in listed(status, "resourceClaimStatuses")}
        for each in listed(spec, "resourceClaims"):
            claim = (namespace, each.get("resourceClaimName") or made.get(each["name"]) or "")
            template = (namespace, each.get("resourceClaimTemplateName") or "")
            found = self.claims.get(claim)
            devices = self.templates.get(template) if found is None else found
            if devices is None:
                return None
            for device in devices:
                asked[device] = asked.get(device, 0.0) + 1 / max(1, self.users.get(claim, 1))
        return asked


def read_devices(api: Api, remarks: Remarks, slices: Slices) -> Devices:
    """Read claims, their templates and device classes, in the newest version that the cluster serves."""
    try:
        version = devices_version(api)
        if not version:
            return Devices(note="the cluster serves no resource.k8s.io")
        base = f"/apis/resource.k8s.io/{version}"
        lists = {name: list(api.items(f"{base}/{name}")) for name in _LISTS}
    except ForbiddenError:
        return Devices(note="they may not be read (apply `gangplan kube manifests`)")

    def each(name: str, read: Callable[[Object], list[T]]) -> Iterator[T]:
        return remarks.each(f"{base}/{name}", lists[name], read)

    known = _Known(
        devices=slices.devices,
        classes=dict(each("deviceclasses", lambda item: [(item["metadata"]["name"], part(item, "spec"))])),
        sizes=_sizes(slices.nodes),
    )
    claims = each("resourceclaims", lambda item: [(_key(item), list(_held_or_asked(item, known)), _users(item))])
    found = {key: (devices, users) for key, devices, users in claims}
    return Devices(
        claims={key: devices for key, (devices, _) in found.items()},
        templates=dict(
            each(
                "resourceclaimtemplates",
                lambda item: [(_key(item), list(_asked_by(item["spec"]["spec"], known)))],
            )
        ),
        users={key: users for key, (_, users) in found.items()},
    )


def read_slices(api: Api, remarks: Remarks) -> Slices:
    """Return the devices of the slices; none where the cluster has no such slices, or they may not be read."""
    slices = Slices()
    with suppress(ForbiddenError):
        version = devices_version(api)
        path = f"/apis/resource.k8s.io/{version}/resourceslices"
        items = api.items(path) if version else ()
        for key, node, device in remarks.each(path, items, lambda item: list(devices_in(item))):
            slices.devices[key] = device
            if node and device.share == 1:
                slices.nodes.setdefault(node, []).append(device)
    return slices


def _users(item: Object) -> int:
    return len(listed(part(item, "status"), "reservedFor"))


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What claims refer to: devices by driver, pool and name, classes, and how many devices a driver's node has."""

    devices: dict[tuple[str, str, str], Device]
    classes: dict[str, Object]
    sizes: dict[str, int]


def _sizes(nodes: dict[str, list[Device]]) -> dict[str, int]:
    """Return the most devices that a node has of each driver."""
    return {
        driver: max(sum(one.driver == driver for one in devices) for devices in nodes.values())
        for driver in {one.driver for devices in nodes.values() for one in devices}
    }


def devices_version(api: Api) -> str:
    """Return the newest version of resource.k8s.io that the cluster serves; empty: none of those that we read."""
    for version in VERSIONS:
        try:
            api.get(f"/apis/resource.k8s.io/{version}/resourceslices", limit="1")
        except NotFoundError:
            continue
        return version
    return ""


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def devices_in(item: Object) -> Iterator[tuple[tuple[str, str, str], str, Device]]:
    """Yield the accelerators of a slice: driver, pool and name, the one node that has them, if any, and the device."""
    spec = item["spec"]
    for one in listed(spec, "devices") if family_of(spec["driver"]) else ():
        attributes: Object = one.get("attributes") or part(one, "basic", "attributes")
        said = {name.rpartition("/")[2]: str(value.get("string", "")) for name, value in attributes.items()}
        product = next((said[name] for name in _ATTRIBUTES if said.get(name)), "")
        yield (
            (spec["driver"], spec["pool"]["name"], one["name"]),
            spec.get("nodeName") or "",
            _device(spec["driver"], product, said.get("profile", "")),
        )


def _device(driver: str, product: str, profile: str) -> Device:
    part = re.match(r"[0-9]+g\.[0-9]+gb", profile)
    return Device(driver, product_of(driver, product), 1 / instances_of(part[0], product) if part else 1.0)


def held_devices(item: Object) -> int:
    """Return how many accelerators a claim was given."""
    results = listed(part(item, "status", "allocation", "devices"), "results")
    return sum(one["driver"] in _DRIVERS and not one.get("adminAccess") for one in results)


def _held_or_asked(item: Object, known: _Known) -> Iterator[Device]:
    """Yield what a claim was given; where it was given nothing yet, what it asks for."""
    results = listed(part(item, "status", "allocation", "devices"), "results")
    if not results:
        yield from _asked_by(item["spec"], known)
    for one in results:
        if one["driver"] in _DRIVERS and not one.get("adminAccess"):
            yield known.devices.get((one["driver"], one["pool"], one["device"])) or _device(one["driver"], "", "")


def _asked_by(spec: Object, known: _Known) -> Iterator[Device]:
    """Yield what the requests of a claim ask for; of alternatives, the first; all devices are those of one node."""
    for request in listed(part(spec, "devices"), "requests"):
        exact: Object = request.get("exactly") or next(iter(listed(request, "firstAvailable")), request)
        name: str = exact.get("deviceClassName", "")
        text = f"{name} {_expressions(known.classes.get(name, {}))} {_expressions(exact)}"
        driver = _CLASSES.get(name) or next((driver for driver in _DRIVERS if driver in text), "")
        if driver and not exact.get("adminAccess"):
            product, profile = _PRODUCT.search(text), _PROFILE.search(text)
            one = _device(
                driver, re.sub(r"\.\*|[$^]", " ", product[1]) if product else "", profile[1] if profile else ""
            )
            every = known.sizes.get(driver, 1) if exact.get("allocationMode") == "All" else 1
            yield from [one] * int(exact.get("count") or every)


def _expressions(asked: Object) -> str:
    return " ".join(part(selector, "cel").get("expression", "") for selector in listed(asked, "selectors"))
