"""From kueue://<context>/<namespace>/<LocalQueue> to an open ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from gangplan.clock import Clock, parse_span
from gangplan.errors import InputError
from gangplan.kube import connect
from gangplan.reserve.kueue.ledger import KueueLedger, Place

FORM = "kueue://<context>/<namespace>/<LocalQueue>, with - for the current context or the pod's own cluster"


def open_kueue(url: str, *, clock: Clock) -> KueueLedger:
    """Open the ledger on a LocalQueue; `?settle=`, `?ahead=` (durations) and `?resource=` say how it behaves.

    Nothing is asked of the cluster before the first call.
    """
    context, place = parse_url(url)
    return KueueLedger(connect(context), place, clock=clock)


def parse_url(url: str) -> tuple[str, Place]:
    """Return the context (empty: the current one) and the place that a URL names."""
    parts = urlsplit(url)
    path = [unquote(part) for part in parts.path.split("/")[1:]]
    if parts.scheme != "kueue" or not parts.netloc or len(path) != 2 or not all(path):
        raise InputError("ledger", url, f"names no LocalQueue: give {FORM}")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = given.keys() - {"settle", "ahead", "resource"}
    if unknown:
        raise InputError("ledger", url, f"has the unknown part {min(unknown)}: use settle, ahead or resource")
    more: dict[str, Any] = {name: _span(name, given[name]) for name in ("settle", "ahead") if name in given}
    if given.get("resource"):
        more["resource"] = given["resource"]
    context = unquote(parts.netloc)
    return "" if context == "-" else context, Place(namespace=path[0], queue=path[1], **more)


def _span(name: str, text: str) -> timedelta:
    return timedelta(0) if text == "0" else parse_span(f"ledger.{name}", text)
