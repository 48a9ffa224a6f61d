"""A request as the annotation of its Workload: the ledgers' one text, less what is as by default, read once each."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from gangplan.reserve.codec import request_from, request_text
from gangplan.types import GangRequest

_KEPT = 8192
_PLAIN: dict[str, Any] = {
    "walltime": None,
    "speed": {},
    "slot": "gpu",
    "priority": 100,
    "priority_class": "",
    "workload_class": "throughput",
    "earliest_start": None,
    "latest_start": None,
    "deadline": None,
    "topology": None,
    "preemptible": False,
    "checkpoint": None,
    "labels": {},
}


def annotation_of(request: GangRequest) -> str:
    """Return the one text of a request; two requests are the same when their texts are."""
    body: dict[str, Any] = json.loads(request_text(request))
    kept = {name: value for name, value in body.items() if name not in _PLAIN or value != _PLAIN[name]}
    return json.dumps(kept, separators=(",", ":"))


@lru_cache(maxsize=_KEPT)
def request_of(annotation: str) -> GangRequest:
    """Read a request back."""
    return request_from(json.dumps({**_PLAIN, **json.loads(annotation)}))
