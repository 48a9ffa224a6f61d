"""A request as the annotation of its Workload: its fields but for those at their default, as JSON."""

from __future__ import annotations

import json
from functools import lru_cache

from gangplan.reserve.moments import MICROSECOND
from gangplan.types import GangRequest, request_fields, request_from

_KEPT = 8192
"""The requests that were read last; more take more memory, fewer are read again with each look at a long line."""


def annotation_of(request: GangRequest) -> str:
    """Return the one text of a request; two requests are the same when their texts are."""
    return json.dumps(request_fields(request, defaults=False), separators=(",", ":"))


@lru_cache(maxsize=_KEPT)
def request_of(annotation: str) -> GangRequest:
    """Read a request back."""
    return request_from(json.loads(annotation), unit=MICROSECOND)
