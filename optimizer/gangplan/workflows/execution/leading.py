"""Who leads of all controllers: the cluster that they watch, their Lease there or their lock, and what it says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from gangplan.config import Settings, read_fleet
from gangplan.errors import NotFoundError
from gangplan.execute import LAST_PASS, ClusterLead, FileLead, Lead, is_locked, leases, read_targets
from gangplan.kube import Api, connect
from gangplan.reserve import parse_url

LEASE = "gangplan-controller"
"""The name of the controllers' Lease."""

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod reads its own namespace."""


def lead_of(
    settings: Settings, api: Api | None, *, namespace: str, seconds: float, changed: Callable[[bool], None]
) -> Lead:
    """Lead by a Lease where there is a cluster, else by a lock in the home folder: all that run there share it."""
    if api is None:
        return FileLead(_lock(settings), changed=changed)
    namespace = namespace or _namespace(settings)
    return ClusterLead(api, namespace, LEASE, clock=settings.clock, changed=changed, seconds=seconds)


def last_pass(settings: Settings) -> dict[str, Any]:
    """Return what a controller did last, as its Lease or its lock says it; nothing where none has run.

    Raises
    ------
    UnavailableError, ForbiddenError
        The cluster cannot be asked.
    """
    api = watched_cluster(settings)
    if api is None:
        text = _lock(settings).read_text() if _lock(settings).exists() else ""
        return json.loads(text) if text else {}
    try:
        lease = api.get(f"{leases(_namespace(settings))}/{LEASE}")
    except NotFoundError:
        return {}
    notes: dict[str, str] = lease["metadata"].get("annotations") or {}
    return {"leader": lease["spec"].get("holderIdentity") or "", **json.loads(notes.get(LAST_PASS, "{}"))}


def leader(settings: Settings) -> str:
    """Return who leads now, by the Lease or the lock of controllers; empty where none does.

    Raises
    ------
    UnavailableError, ForbiddenError
        The cluster cannot be asked.
    """
    api = watched_cluster(settings)
    if api is None:
        return f"the holder of {_lock(settings)}" if is_locked(_lock(settings)) else ""
    try:
        spec = api.get(f"{leases(_namespace(settings))}/{LEASE}")["spec"]
    except NotFoundError:
        return ""
    lasts = timedelta(seconds=2 * float(spec.get("leaseDurationSeconds") or 0))  # clocks differ
    renewed = spec.get("renewTime")
    fresh = renewed is not None and settings.clock() - datetime.fromisoformat(renewed) <= lasts
    return spec.get("holderIdentity") or "" if fresh else ""


def _lock(settings: Settings) -> Path:
    return settings.home / "controller.lock"


def watched_cluster(settings: Settings) -> Api | None:
    """Return the cluster that is watched: that of the ledger, of this pod, or of the targets; None without one."""
    if settings.ledger_url.startswith("kueue:"):
        return connect(parse_url(settings.ledger_url)[0])
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return connect()
    file = settings.targets_file
    targets = None if file is None else read_targets(file, read_fleet(settings.fleet_file))
    if targets is not None and (targets.nodes_of("fixed", "karpenter", "scale") or targets.quotas_of("kueue")):
        return connect(targets.cluster)
    return None


def _namespace(settings: Settings) -> str:
    if OWN_NAMESPACE.exists():
        return OWN_NAMESPACE.read_text().strip()
    if settings.ledger_url.startswith("kueue:"):
        return parse_url(settings.ledger_url)[1].namespace
    return "gangplan"
