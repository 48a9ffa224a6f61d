"""Which nodes of a cluster take no pods now."""

from __future__ import annotations

from gangplan.kube import NODES, Api, is_ready
from gangplan.types import NodeState


def nodes_away(api: Api) -> dict[str, NodeState]:
    """Return the nodes that take no pods now: not ready, or cordoned."""
    away: dict[str, NodeState] = {}
    for item in api.items(NODES):
        if not is_ready(item):
            away[item["metadata"]["name"]] = NodeState.LOST
        elif item.get("spec", {}).get("unschedulable"):
            away[item["metadata"]["name"]] = NodeState.DRAINING
    return away
