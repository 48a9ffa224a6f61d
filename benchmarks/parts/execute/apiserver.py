"""What an API server says of itself: who wrote what, and how long its calls took."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from tests.cluster.servers.cluster import Cluster

_HISTOGRAM = "apiserver_request_duration_seconds_bucket{"
_LONG = ('verb="WATCH"', 'verb="CONNECT"')


@dataclass(frozen=True, kw_only=True)
class Write:
    """One write: when it was asked for, and of what."""

    at: float
    shown: str


class Audit:
    """The writes of `gangplan` from now on, as the API server has kept them; those of Leases are left out."""

    def __init__(self, cluster: Cluster) -> None:
        self._file = cluster.audit_log
        self._at = 0
        self.skip()

    def skip(self) -> None:
        """Forget what was written until now."""
        self._at = self._file.stat().st_size

    def writes(self) -> list[Write]:
        """Return what was written since."""
        if self._file.stat().st_size < self._at:
            raise RuntimeError(f"{self._file}: was begun anew: what was written before is lost")
        with self._file.open() as file:
            file.seek(self._at)
            lines = file.readlines()
        found: list[Write] = []
        for event in map(json.loads, lines):
            what = event.get("objectRef", {})
            if event.get("userAgent", "").startswith("gangplan") and what.get("resource") != "leases":
                name = "/".join(filter(None, (what.get("namespace"), what.get("name"))))
                at = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
                shown = f"{event['verb']} {what.get('resource')} {name} {event.get('responseStatus', {}).get('code')}"
                found.append(Write(at=at, shown=shown))
        return found


def p99(before: str, after: str) -> float:
    """Return the 99 % quantile in seconds of all calls between two readings of /metrics, watches left out.

    Within a bucket it is interpolated, as Prometheus's `histogram_quantile` does.
    """
    counts = _buckets(after)
    counts.subtract(_buckets(before))
    rank = 0.99 * counts[float("inf")]
    bounds = sorted(counts)
    place = next(place for place, bound in enumerate(bounds) if counts[bound] >= rank)
    low, below = (bounds[place - 1], counts[bounds[place - 1]]) if place else (0.0, 0)
    if bounds[place] == float("inf"):
        return low
    return low + (bounds[place] - low) * (rank - below) / max(counts[bounds[place]] - below, 1)


def _buckets(text: str) -> Counter[float]:
    found: Counter[float] = Counter()
    for line in text.splitlines():
        if line.startswith(_HISTOGRAM) and not any(verb in line for verb in _LONG):
            bound = line.partition('le="')[2].partition('"')[0]
            found[float(bound.replace("+Inf", "inf"))] += round(float(line.rpartition(" ")[2]))
    return found
