"""What makes nodes by a number of replicas: its Scale, whatever its kind, and which of its replicas are removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gangplan.errors import ConflictError, InputError, NotFoundError, RejectedError
from gangplan.execute.kubernetes.seen import moment_of
from gangplan.execute.kubernetes.settings import ScaledNodes
from gangplan.kube import CORDONED_AT, Api, Object, is_ready, part, writing
from gangplan.types import PoolNode, Step

_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_FIRST = "-2147483647"
"""The cost by which a Deployment removes a pod before all others that are ready."""

_DELETE_MACHINE = "cluster.x-k8s.io/delete-machine"
_DEPLOYMENT_NAME = "cluster.x-k8s.io/deployment-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many replicas there are to be, and the selector of their pods."""

    replicas: int
    selector: str


def read_scale(api: Api, path: str) -> Scale:
    """Return the Scale of an object; raises NotFoundError where there is none."""
    item = api.get(f"{path}/scale")
    return Scale(
        replicas=part(item, "spec").get("replicas", 0),
        selector=part(item, "status").get("selector", ""),
    )


def write_scale(api: Api, path: str, step: Step, *, dry_run: bool) -> None:
    """Set the replicas from the step's `before` to its `after`; what has the new value stays as it is.

    Raises ConflictError where they are neither. A Scale of 0 has no replicas at all, which a test of null finds.
    """
    patch: list[Object] = [
        {"op": "test", "path": "/spec/replicas", "value": step.before or None},
        {"op": "add", "path": "/spec/replicas", "value": step.after},
    ]
    try:
        api.patch(f"{path}/scale", patch, **writing(dry_run=dry_run))
    except RejectedError:
        replicas = read_scale(api, path).replicas
        if replicas == step.before:
            raise
        if replicas != step.after:
            raise ConflictError(f"pool {step.pool}: {replicas} nodes are ordered, not {step.before}") from None


class Scaled:
    """The nodes of one pool that a Deployment, a StatefulSet or a MachineDeployment makes."""

    def __init__(self, api: Api, settings: ScaledNodes) -> None:
        self._api, self._settings = api, settings

    @cached_property
    def path(self) -> str:
        """Where it is served; raises InputError where no such kind or object is there."""
        settings = self._settings
        try:
            group = self._api.get(f"/apis/{settings.group}")
            version = group["preferredVersion"]["version"]
            path = f"/apis/{settings.group}/{version}/namespaces/{settings.namespace}/{settings.plural}/{settings.name}"
            self._api.get(f"{path}/scale")
        except NotFoundError:
            shown = f"{settings.resource} {settings.namespace}/{settings.name}"
            raise InputError("nodes", shown, "is not there: check resource, namespace and name") from None
        return path

    def ordered(self) -> int:
        """Return how many replicas there are to be."""
        return read_scale(self._api, self.path).replicas

    def nodes(self) -> tuple[PoolNode, ...]:
        """Return its pods as nodes, for work that runs inside of them; machines are nodes of the cluster."""
        if self._settings.plural == "machinedeployments":
            return ()
        found = sorted(self._pods(), key=_ordinal, reverse=True)
        return tuple(_as_node(pod) for pod in found)

    def irrevocable(self, nodes: Sequence[PoolNode]) -> str:
        """Return for what to wait before nodes that have not come are withdrawn, lest others be removed for them."""
        match self._settings.plural:
            case "deployments":  # it makes its pods at once, and removes any that is not ready first
                return "the Deployment to make its pods"
            case "statefulsets" if any(_number(node.name) >= len(nodes) for node in nodes):
                return "the StatefulSet to make its pods in order"
            case _:
                return ""

    def order(self, step: Step, *, dry_run: bool) -> None:
        """Order more nodes."""
        write_scale(self._api, self.path, step, dry_run=dry_run)

    def mark(self, pods: Iterable[str], at: str | None, *, dry_run: bool) -> None:
        """Say on pods that are nodes since when nobody shall place work there any more; None: again."""
        for pod in pods:
            body: Object = {"metadata": {"annotations": {CORDONED_AT: at}}}
            try:
                self._api.merge(f"{self._pod_path}/{pod}", body, **writing(dry_run=dry_run))
            except NotFoundError:
                raise ConflictError(f"pod {pod}: is gone") from None

    def remove(self, step: Step, *, dry_run: bool) -> None:
        """Remove the step's nodes and no others, and withdraw those that never came.

        Raises
        ------
        ConflictError
            Others would be removed in their place.
        RejectedError
            The kind cannot remove these: a StatefulSet removes the pods with the highest numbers alone.
        """
        if self.ordered() == step.after:
            return
        names = set(step.nodes)
        match self._settings.plural:
            case "statefulsets":
                step = self._highest(step, names)
            case "deployments":
                self._cheapen(names, dry_run=dry_run)
            case _:
                self._choose_machines(step, dry_run=dry_run)
        write_scale(self._api, self.path, step, dry_run=dry_run)

    def _highest(self, step: Step, names: set[str]) -> Step:
        """Return the step less the nodes that a StatefulSet would not remove."""
        pods = sorted(self._pods(), key=_ordinal, reverse=True)
        if not pods:
            return step
        least = max((_ordinal(pod) + 1 for pod in pods if pod["metadata"]["name"] not in names), default=0)
        if least < step.before:
            return replace(step, after=max(step.after, least))
        first = pods[0]["metadata"]["name"]
        if not names:
            raise ConflictError(f"pool {step.pool}: {first} came, and would be removed")
        raise RejectedError(
            f"pool {step.pool}: a StatefulSet removes {first} first, which is not free: "
            f"{', '.join(sorted(names))} must wait for it"
        )

    def _cheapen(self, names: set[str], *, dry_run: bool) -> None:
        """Let a Deployment remove these pods first; those that are not ready would go before them."""
        pods = self._pods()
        if len({pod["metadata"]["labels"].get("pod-template-hash") for pod in pods}) > 1:
            raise ConflictError(f"deployment {self._settings.name}: is being rolled out, and would not remove by name")
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in names and not _as_node(pod).usable:
                raise ConflictError(f"pod {name}: is not ready, and would be removed first")
        for pod in pods:
            if pod["metadata"]["name"] in names:
                body: Object = {"metadata": {"annotations": {_DELETION_COST: _FIRST}}}
                self._api.merge(f"{self._pod_path}/{pod['metadata']['name']}", body, **writing(dry_run=dry_run))

    def _choose_machines(self, step: Step, *, dry_run: bool) -> None:
        """Let Cluster API delete the machines of the step's nodes first, and as many without a node as go beside them.

        Raises ConflictError where it would choose others.
        """
        path = self.path.replace(f"/machinedeployments/{self._settings.name}", "/machines")
        found = self._api.items(path, labelSelector=f"{_DEPLOYMENT_NAME}={self._settings.name}")
        there = [machine for machine in found if "deletionTimestamp" not in machine["metadata"]]
        named = [machine for machine in there if _node_of(machine) in step.nodes]
        surplus = max(0, len(there) - len(named) - step.after)
        going = [*named, *[machine for machine in there if not _node_of(machine)][:surplus]]
        if len(there) - len(going) > step.after:
            raise ConflictError(f"pool {step.pool}: {len(there)} machines are there, and others would be removed")
        for machine in going:
            body: Object = {"metadata": {"annotations": {_DELETE_MACHINE: "gangplan"}}}
            self._api.merge(f"{path}/{machine['metadata']['name']}", body, **writing(dry_run=dry_run))

    def _pods(self) -> list[Object]:
        selector = read_scale(self._api, self.path).selector
        return [pod for pod in self._api.items(self._pod_path, labelSelector=selector) if _lives(pod)]

    @property
    def _pod_path(self) -> str:
        return f"/api/v1/namespaces/{self._settings.namespace}/pods"


def _lives(pod: Object) -> bool:
    return part(pod, "status").get("phase") not in ("Succeeded", "Failed")


def _as_node(pod: Object) -> PoolNode:
    """Return a pod as the node that it is for the work inside of it."""
    meta = pod["metadata"]
    return PoolNode(
        name=meta["name"],
        usable=is_ready(pod),
        cordoned_at=moment_of(part(meta, "annotations").get(CORDONED_AT)),
        leaving="deletionTimestamp" in meta,
    )


def _ordinal(pod: Object) -> int:
    """Return the number at the end of a StatefulSet's pod."""
    return _number(pod["metadata"]["name"])


def _number(name: str) -> int:
    number = name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _node_of(machine: Object) -> str:
    """Return the node that a machine of Cluster API has become; empty before that."""
    return part(machine, "status", "nodeRef").get("name") or ""
