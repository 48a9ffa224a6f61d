"""Queries to Prometheus: what pods asked for (kube-state-metrics) and what GPUs did (DCGM exporter), hour by hour.

The server computes the averages. The queries use only metrics that these two exporters, and the optional node exporter,
give by default. A range is read in chunks, since a server returns at most 11,000 points of a series.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import httpx
import polars as pl

from gangplan.clock import HOUR, floor_hour
from gangplan.errors import InputError, UnavailableError
from gangplan.kube import GPU_RESOURCES
from gangplan.progress import Progress, no_progress
from gangplan.tables import UTC_TIME
from gangplan.telemetry.values import BadRow

CHUNK = timedelta(days=7)
DEFAULT_DAYS = 30
TIMEOUT_S = 60.0
_FORM = "give prometheus+http://host:9090"

_RESOURCES = "|".join(re.sub("[./]", "_", resource) for resource in GPU_RESOURCES)
_REQUESTED = (
    f'max by (namespace, pod, container, node) (kube_pod_container_resource_requests{{resource=~"{_RESOURCES}"}})'
)
_UP = "scalar(count_over_time((count(kube_pod_status_phase))[1h:5m]))"


def _pods_in(phase: str) -> str:
    """Return the PromQL of the GPUs that pods in these phases ask for, by container."""
    phases = f'max by (namespace, pod) (kube_pod_status_phase{{phase=~"{phase}"}})'
    return f"{_REQUESTED} * on (namespace, pod) group_left () {phases}"


@dataclass(frozen=True, kw_only=True)
class Query:
    """A range query: its name here, its PromQL, and the labels that are read from its answer."""

    name: str
    promql: str
    labels: tuple[str, ...]


# The mean over the hour: a pod that ran for five minutes counts for five minutes; of an hour that was scraped for half,
# that half counts.
ASKED = Query(
    name="asked",
    promql=f"sum_over_time((sum by (namespace, node) ({_pods_in('Pending|Running')}))[1h:5m]) / {_UP}",
    labels=("namespace", "node"),
)
CLASSES = Query(
    name="classes",
    promql="max by (namespace, label_gangplan_io_workload_class) "
    '(kube_namespace_labels{label_gangplan_io_workload_class!=""})',
    labels=("namespace", "label_gangplan_io_workload_class"),
)
WAITING_GPUS = Query(name="waiting_gpus", promql=f"sum by (namespace) ({_pods_in('Pending')})", labels=("namespace",))
WAITING_PODS = Query(
    name="waiting_pods", promql=f"count by (namespace) (({_pods_in('Pending')}) > 0)", labels=("namespace",)
)
GPU = Query(
    name="gpu_utilization",
    promql="avg by (Hostname, modelName) (avg_over_time(DCGM_FI_DEV_GPU_UTIL[1h])) / 100",
    labels=("Hostname", "modelName"),
)
_USED = "sum by (Hostname) (avg_over_time(DCGM_FI_DEV_FB_USED[1h]))"
_FREE = "sum by (Hostname) (avg_over_time(DCGM_FI_DEV_FB_FREE[1h]))"
MEMORY = Query(name="gpu_memory_utilization", promql=f"{_USED} / ({_USED} + {_FREE})", labels=("Hostname",))
_NAMED = "* on (instance) group_left (nodename) node_uname_info"
CPU = Query(
    name="cpu_utilization",
    promql=f'1 - avg by (nodename) (rate(node_cpu_seconds_total{{mode="idle"}}[1h]) {_NAMED})',
    labels=("nodename",),
)
NETWORK = Query(
    name="network_bytes_per_second",
    promql="sum by (nodename) ((rate(node_network_receive_bytes_total[1h])"
    f" + rate(node_network_transmit_bytes_total[1h])) {_NAMED})",
    labels=("nodename",),
)
QUERIES = (ASKED, CLASSES, WAITING_GPUS, WAITING_PODS, GPU, MEMORY, CPU, NETWORK)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The samples of a query (time, its labels, value), and those that were not finite numbers."""

    frame: pl.DataFrame
    rejected: tuple[BadRow, ...]


@dataclass(frozen=True, kw_only=True)
class Server:
    """The address of Prometheus, and for how many days back to ask; `shown` has no password in it."""

    url: str
    days: int

    @property
    def shown(self) -> str:
        """The address as it may be logged."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def parse_server(source: str) -> Server:
    """Read prometheus+http(s)://[user:password@]host:port[/path][?days=N]."""
    try:
        httpx.URL(source.removeprefix("prometheus+"))
        parts = urlsplit(source.removeprefix("prometheus+"))
    except (ValueError, httpx.InvalidURL) as error:
        raise InputError("source", "prometheus+...", f"is no address ({error}): {_FORM}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("source", f"prometheus+{parts.scheme}:", f"is no address of Prometheus: {_FORM}")
    options = parse_qs(parts.query, keep_blank_values=True)
    unknown = ", ".join(sorted(set(options) - {"days"}))
    if unknown:
        raise InputError("source", unknown, "is no option of Prometheus: only ?days=30 is known")
    days = options.get("days", [str(DEFAULT_DAYS)])[-1]
    if not days.isdecimal() or not 1 <= int(days) <= 1096:
        raise InputError("days", days, "must be a whole number from 1 to 1096")
    return Server(url=urlunsplit(parts._replace(query="", fragment="")).rstrip("/"), days=int(days))


def fetch(server: Server, now: datetime, progress: Progress = no_progress) -> dict[str, Samples]:
    """Run every query over the last days up to the present hour; each sample has the start of its hour as its time."""
    last = floor_hour(now)
    chunks = _chunks(last - timedelta(days=server.days), last)
    done = 0
    answers: dict[str, Samples] = {}
    with httpx.Client(timeout=TIMEOUT_S) as client:
        for query in QUERIES:
            series: list[dict[str, Any]] = []
            for first, until in chunks:
                progress(done, len(QUERIES) * len(chunks), f"asking Prometheus for {query.name}")
                series.extend(_range(client, server, query, first, until))
                done += 1
            answers[query.name] = _samples(query, series)
    return answers


def _chunks(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Return the ends of the first and last hour of each chunk; no hour is in two chunks."""
    firsts = [start + HOUR + CHUNK * number for number in range(-(-(end - start) // CHUNK))]
    return [(first, min(first + CHUNK - HOUR, end)) for first in firsts]


def _range(client: httpx.Client, server: Server, query: Query, first: datetime, last: datetime) -> list[dict[str, Any]]:
    """Send one range query and return its series."""
    form = {"query": query.promql, "start": str(first.timestamp()), "end": str(last.timestamp()), "step": "3600"}
    try:
        response = client.post(f"{server.url}/api/v1/query_range", data=form)
    except httpx.TransportError as error:
        raise UnavailableError(f"prometheus: {server.shown} cannot be reached: {error}") from error
    if response.status_code >= 500 or response.status_code == 429:
        raise UnavailableError(f"prometheus: {server.shown} answered {response.status_code}: try again")
    if response.status_code in (401, 403):
        raise InputError("source", server.shown, "refused us: give prometheus+http://user:password@host:9090")
    return _series(response, server, query)


def _series(response: httpx.Response, server: Server, query: Query) -> list[dict[str, Any]]:
    """Return the series of a range query's answer, or raise the server's complaint."""
    try:
        body = response.json()
        if body["status"] == "success" and body["data"]["resultType"] == "matrix":
            return body["data"]["result"]
        complaint = f"{body['errorType']}: {body['error']}"
    except (ValueError, KeyError, TypeError) as error:
        remedy = f"does not speak Prometheus' API ({response.status_code}): check host, port, path"
        raise InputError("source", server.shown, remedy) from error
    raise InputError("source", server.shown, f"refused the query {query.name} ({complaint}): check its version")


def _samples(query: Query, series: list[dict[str, Any]]) -> Samples:
    """Return samples as a table; the time of each is the start of the hour that it covers."""
    rows = [
        (
            datetime.fromtimestamp(float(time), UTC) - HOUR,
            *(item["metric"].get(label, "") for label in query.labels),
            value,
        )
        for item in series
        for time, value in item["values"]
    ]
    schema = {"time": UTC_TIME, **dict.fromkeys(query.labels, pl.String()), "text": pl.String()}
    table = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.col("text").cast(pl.Float64, strict=False).alias("value")
    )
    usable = pl.col("value").is_finite().fill_null(value=False) & (pl.col("value") >= 0)
    wrong = table.with_row_index("line", 1).filter(~usable)
    rejected = tuple(
        BadRow(
            place=query.name,
            line=row["line"],
            field=" ".join(f"{label}={row[label]}" for label in query.labels),
            value=row["text"],
            remedy="is no finite number of 0 or more: the sample is left out",
        )
        for row in wrong.iter_rows(named=True)
    )
    return Samples(frame=table.filter(usable).drop("text"), rejected=rejected)
