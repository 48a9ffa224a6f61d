"""The nodes of a cluster whose layouts change: read, and changed by one step, each write on the node as it was read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from gangplan.errors import ConflictError, NotFoundError, RejectedError
from gangplan.execute.devices.layouts.moves import layout_steps
from gangplan.execute.devices.layouts.values import LayoutNode, Layouts
from gangplan.kube import (
    CORDONED_AT,
    NODES,
    PODS,
    Api,
    Object,
    accelerators_in,
    amounts_in,
    is_ready,
    profile_of,
    requests_of,
)
from gangplan.types import WHOLE_GPU, Grant, Observation, Plan, Step, StepKind

POOL = "gangplan.io/pool"
MOVES_TO, MOVES_SINCE = "gangplan.io/moves-to", "gangplan.io/moves-since"
CONFIG, STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
_TRIES = 4
_OVER = ("Succeeded", "Failed")


class LayoutTarget:
    """The MIG layouts of one group of pools on a cluster."""

    name = "layouts"
    kinds = frozenset({StepKind.CORDON, StepKind.LAYOUT, StepKind.UNCORDON})

    def __init__(self, api: Api, layouts: Layouts) -> None:
        self._api = api
        self._layouts = layouts

    def observe(self) -> tuple[LayoutNode, ...]:
        """Return the group's nodes as they are; those that move with the pods that use their accelerators."""
        pools = ",".join(self._layouts.configs)
        return tuple(self._node(item) for item in self._api.items(NODES, labelSelector=f"{POOL} in ({pools})"))

    def carry_on(self, plan: Plan, observed: Observation, grants: Iterable[Grant], now: datetime) -> tuple[Step, ...]:
        """Take every step that need not wait, and return all steps; who met another's change waits for the next round.

        `observed` and `grants`, those that no engine knows, must be from before this call.
        """
        steps = layout_steps(self._layouts, plan, self.observe(), observed, grants, now)
        for step in steps:
            if not step.waits_for:
                try:
                    self.apply(step, now)
                except (ConflictError, NotFoundError):  # changed, or gone, meanwhile
                    continue
        return steps

    def apply(self, step: Step, now: datetime, *, dry_run: bool = False) -> None:
        """Take one step, or with `dry_run` let the cluster check it; a step that was taken already changes nothing.

        Raises
        ------
        ConflictError
            The node is not as the step was made from: observe again.
        RejectedError, ForbiddenError, UnavailableError
            The cluster refuses it or cannot be reached.
        """
        if step.kind not in self.kinds or step.place not in self._layouts.configs:
            raise RejectedError(f"{self.name}: {step.kind} of {step.pool} is no step of these layouts")
        for name in step.nodes:
            self._write(step, name, now, {"dryRun": "All"} if dry_run else {})

    def _write(self, step: Step, name: str, now: datetime, query: Mapping[str, str]) -> None:
        """Write a step on a node as it was just read; the node's own controllers write on it often, too."""
        for left in reversed(range(_TRIES)):
            item = self._api.get(f"{NODES}/{name}")
            change = self._change(step, self._node(item), now)
            if not change:
                return
            change.setdefault("metadata", {})["resourceVersion"] = item["metadata"]["resourceVersion"]
            try:
                self._api.merge(f"{NODES}/{name}", change, **query)
            except ConflictError:
                if not left:
                    raise
            else:
                return

    def _change(self, step: Step, node: LayoutNode, now: datetime) -> Object:
        """Return what a step changes on a node; nothing where it was taken already."""
        to, config = step.place, self._layouts.configs[step.place]
        moves, labelled = node.moves_to == to, node.pool == to and node.config == config
        moment = f"{now.isoformat(timespec='seconds')}"
        if step.kind == StepKind.CORDON and not node.moves_to and not node.closed:
            notes: Object = {MOVES_TO: to, MOVES_SINCE: moment, CORDONED_AT: None}
            return {"metadata": {"annotations": notes}, "spec": {"unschedulable": True}}
        if step.kind == StepKind.LAYOUT and moves and not labelled and not node.pods:
            labels: Object = {POOL: to, CONFIG: config, STATE: None}  # the state of the layout before says nothing now
            return {"metadata": {"labels": labels, "annotations": {MOVES_SINCE: moment}}}
        if step.kind == StepKind.UNCORDON and moves and labelled == (step.pool == to):
            notes = {MOVES_TO: None, MOVES_SINCE: None}
            return {"metadata": {"annotations": notes}, "spec": {"unschedulable": None}}
        taken = {
            StepKind.CORDON: moves,
            StepKind.LAYOUT: moves and labelled,
            StepKind.UNCORDON: not node.moves_to and node.pool == step.pool,
        }
        if taken[step.kind]:
            return {}
        raise ConflictError(f"{self.name}: {node.name} is not as the step to {step.kind} it was made from")

    def _node(self, item: Object) -> LayoutNode:
        meta, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
        labels: Mapping[str, str] = meta.get("labels") or {}
        notes: Mapping[str, str] = meta.get("annotations") or {}
        amounts = accelerators_in(amounts_in(status.get("allocatable")))
        resource = max(amounts, key=lambda name: amounts[name], default="")
        stopped = bool(spec.get("unschedulable"))
        moves_to = notes.get(MOVES_TO, "") if stopped else ""  # somebody has opened it: it begins anew
        return LayoutNode(
            name=meta["name"],
            pool=labels.get(POOL, ""),
            config=labels.get(CONFIG, ""),
            state=labels.get(STATE, ""),
            slots=sum(amounts.values()),
            slot=profile_of(resource, labels) or WHOLE_GPU,
            ready=is_ready(item),
            cordoned=stopped and CORDONED_AT in notes,
            closed=stopped and CORDONED_AT not in notes and not moves_to,
            moves_to=moves_to,
            since=datetime.fromisoformat(notes[MOVES_SINCE]) if MOVES_SINCE in notes else None,
            pods=self._pods(meta["name"]) if moves_to else (),
        )

    def _pods(self, node: str) -> tuple[str, ...]:
        """Return the pods on a node that use accelerators and are not over."""
        items = self._api.items(PODS, fieldSelector=f"spec.nodeName={node}")
        return tuple(f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in items if _uses(one))

    def check(self) -> tuple[str, ...]:
        """Return what keeps nodes from their layouts, each with its remedy; nothing is changed."""
        nodes = self.observe()
        without = [pool for pool in self._layouts.configs if not any(node.pool == pool for node in nodes)]
        if len(without) == len(self._layouts.configs):
            return (f"no node has the label {POOL} with one of {', '.join(without)}: label the nodes of the group",)
        failed = [node.name for node in nodes if node.state == "failed"]
        return tuple(f"{name} has {STATE}=failed: read the log of its mig-manager" for name in failed)

    def close(self) -> None:
        """Nothing is held open."""


def _uses(pod: Object) -> bool:
    over = pod.get("status", {}).get("phase") in _OVER
    return not over and bool(accelerators_in(requests_of(pod["spec"])) or pod["spec"].get("resourceClaims"))
