"""Which requests change, and to what, as a pure function.

Limits stay, and so does the quality of service. A request is never more than what the pod came with, as Kueue and the
scheduler have counted that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil

from gangplan.execute.devices.resizing.values import (
    CPU,
    MEBIBYTE,
    MEMORY,
    Container,
    Resize,
    ResizeRule,
    ResizeRules,
    RunningPod,
)
from gangplan.types import ContainerUse


def resizes(pods: Iterable[RunningPod], usage: Iterable[ContainerUse], rules: ResizeRules) -> tuple[Resize, ...]:
    """Return the changes of pods whose class has a rule, and of those that cannot be changed, why."""
    used = {(one.namespace, one.pod, one.container): one for one in usage}
    return tuple(
        change
        for pod in pods
        if pod.kind in rules
        for container in pod.containers
        if (use := used.get((pod.namespace, pod.name, container.name))) is not None
        for change in _change(pod, container, use, rules[pod.kind])
    )


def _change(pod: RunningPod, container: Container, use: ContainerUse, rule: ResizeRule) -> Iterator[Resize]:
    wanted = {
        CPU: max(ceil(1000 * use.cores * rule.margin), round(1000 * rule.cpu)),
        MEMORY: max(ceil(use.memory * rule.margin / MEBIBYTE), ceil(rule.memory_mib)) * MEBIBYTE,
    }
    before = {name: container.requests[name] for name in (CPU, MEMORY) if container.requests.get(name)}
    after = {name: _bounded(wanted[name], container, name) for name in before}
    if use.hours < rule.hours or all(
        abs(after[name] - amount) < rule.least_change * amount for name, amount in before.items()
    ):
        return
    waits = pod.pending
    if pod.qos != "Burstable":
        waits = f"it is {pod.qos}: its requests are its limits, which stay; give it limits above its requests"
    yield Resize(pod=pod, container=container.name, before=before, after=after, waits_for=waits)


def _bounded(wanted: int, container: Container, name: str) -> int:
    """Return what is wanted, at most what the container came with."""
    return min(wanted, container.at_first.get(name, container.requests[name]))
