"""How a reservation ended, as a small ConfigMap of its own: written once, before its Workload is deleted.

Whoever creates it first has ended the reservation; all others read what stands. It costs the API server a seventh of
what a last write of the Workload's status does, which goes through Kueue's webhook and its controller.
"""

from __future__ import annotations

import json
from typing import Any

from gangplan.kube.api import Object
from gangplan.reserve.kueue import names
from gangplan.reserve.kueue.claim import Claim, Mark

_TEXTS = ("uid", "request", "lease", "end")
_NUMBERS = ("created", "submitted", "priority", "evictions")


def record_of(claim: Claim, message: str) -> Object:
    """Return the ConfigMap of a reservation that is over."""
    kept: dict[str, Any] = {name: getattr(claim, name) for name in (*_TEXTS, *_NUMBERS)}
    marks = {kind: mark.since for kind, mark in claim.marks.items() if mark.holds and kind in _GRANT}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{names.RECORD}{claim.name}",
            "labels": {names.MANAGED: "gangplan", names.QUEUE: claim.our_queue},
        },
        "immutable": True,
        "data": {"reservation": json.dumps({**kept, "marks": marks}), "message": message},
    }


_GRANT = ("QuotaReserved", "Admitted")


def claim_of(item: Object) -> Claim:
    """Read a reservation that is over back, as if its Workload still stood."""
    meta, kept = item["metadata"], json.loads(item["data"]["reservation"])
    marks = {kind: Mark(True, since, "", "") for kind, since in kept.pop("marks").items()}
    queue = meta["labels"][names.QUEUE]
    return Claim(
        name=meta["name"].removeprefix(names.RECORD),
        namespace=meta["namespace"],
        version="",
        queue=queue,
        our_queue=queue,
        active=False,
        deleted=True,
        owner="",
        limit_s=None,
        gpus=0,
        pod_sets=(),
        marks=marks,
        cluster_queue="",
        shares=(),
        **kept,
    )
