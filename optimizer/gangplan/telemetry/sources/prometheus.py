"""Prometheus -> Telemetry: what pods asked for (kube-state-metrics) and what GPUs did (DCGM exporter), hour by hour.

The server computes the averages. The queries use only metrics that these two exporters, and the optional node exporter,
give by default. A range is read in chunks, since a server returns at most 11,000 points of a series.

A namespace is a tenant, the GPU model of a node an accelerator. Pods on nodes without a DCGM exporter, and pods of
tenants that never had a node, count as asking for any accelerator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import httpx
import polars as pl

from gangplan.clock import HOUR, floor_hour
from gangplan.errors import InputError, UnavailableError
from gangplan.kube import GPU_RESOURCES, short_name
from gangplan.progress import Progress, no_progress
from gangplan.tables import DEMAND, NODES, QUEUE, UTC_TIME, conform
from gangplan.telemetry.demand import fill_grid
from gangplan.telemetry.values import REJECTED_KEPT, BadRow, Telemetry
from gangplan.types import ANY, SERIES, WorkloadClass
from gangplan.urls import CLEAR, shown, unambiguous

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
        return shown(self.url)

    @property
    def auth(self) -> tuple[str, str] | None:
        """User and password apart from the address, because httpx logs the address of each request."""
        parts = urlsplit(self.url)
        return None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))


def read_prometheus(source: str, now: datetime, progress: Progress = no_progress) -> Telemetry:
    """Return the telemetry of the cluster that a Prometheus watches, up to the present hour."""
    server = parse_server(source)
    answers = fetch(server, now, progress)
    rejected = [row for answer in answers.values() for row in answer.rejected]
    asked = _asked(answers)
    if asked.is_empty():
        remedy = f"has no pod that asks for GPUs in {server.days} days: is kube-state-metrics scraped?"
        raise InputError("source", server.shown, remedy)
    start, end = asked["hour"].min(), asked["hour"].max()
    assert isinstance(start, datetime)  # noqa: S101 - the frame is not empty
    assert isinstance(end, datetime)  # noqa: S101
    return Telemetry(
        source=server.shown,
        start=start,
        end=end + HOUR,
        rows=sum(answer.frame.height for answer in answers.values()),
        demand=seen_demand(asked, start, end + HOUR),
        live=True,
        nodes=_nodes(answers),
        queue=_queue(answers, asked),
        rejected=tuple(rejected[:REJECTED_KEPT]),
        rejected_count=len(rejected),
    )


def parse_server(source: str) -> Server:
    """Read prometheus+http(s)://[user:password@]host:port[/path][?days=N]."""
    try:
        if not unambiguous(source):
            raise InputError("source", source, CLEAR)
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
    with httpx.Client(timeout=TIMEOUT_S, auth=server.auth) as client:
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
        response = client.post(f"{server.shown}/api/v1/query_range", data=form)
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


def seen_demand(asked: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the demand of every hour: in an hour with samples of any series, one without a sample asked for 0 GPUs."""
    seen = asked.select("hour").unique()
    filled = fill_grid(asked, start, end).join(seen.with_columns(seen=pl.lit(value=True)), on="hour", how="left")
    gpus = pl.when(pl.col("seen")).then(pl.col("gpus").fill_null(0.0))
    return conform("demand", filled.with_columns(gpus.alias("gpus")), DEMAND).sort(*SERIES, "hour")


def _asked(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return the GPUs that were asked for, by hour and series (DEMAND), only where there is a sample."""
    asked = answers["asked"].frame.join(_models(answers), left_on="node", right_on="node", how="left")
    usual = _usual_accelerator(asked)
    classes = _classes(answers)
    return conform(
        "demand",
        asked.join(usual, on="namespace", how="left")
        .join(classes, on="namespace", how="left")
        .with_columns(
            tenant=pl.col("namespace"),
            accelerator=pl.coalesce("accelerator", pl.when(pl.col("node") == "").then("usual"), pl.lit(ANY)),
            workload_class=pl.col("workload_class").fill_null(WorkloadClass.THROUGHPUT.value),
        )
        .group_by(pl.col("time").alias("hour"), *SERIES)
        .agg(pl.sum("value").round(6).alias("gpus"))
        .sort(*SERIES, "hour"),
        DEMAND,
    )


def _models(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return each node's accelerator, from the DCGM exporter's labels; of several, the first by name."""
    nodes = answers[GPU.name].frame.select(node="Hostname", model="modelName").unique().sort("node", "model")
    short = pl.col("model").map_elements(accelerator_name, return_dtype=pl.String)
    return nodes.select("node", short.alias("accelerator")).unique("node", keep="first", maintain_order=True)


def _usual_accelerator(asked: pl.DataFrame) -> pl.DataFrame:
    """Return the accelerator that each namespace used most; its pods without a node count as asking for it."""
    used = asked.drop_nulls("accelerator").group_by("namespace", "accelerator").agg(pl.sum("value"))
    first = used.sort(["namespace", "value", "accelerator"], descending=[False, True, False])
    return first.unique("namespace", keep="first").select("namespace", usual="accelerator")


def _classes(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return each namespace's workload class, from its newest label gangplan.io/workload-class."""
    label = "label_gangplan_io_workload_class"
    known = answers["classes"].frame.filter(pl.col(label).is_in([kind.value for kind in WorkloadClass]))
    newest = known.sort("time").unique("namespace", keep="last")
    return newest.select("namespace", workload_class=label)


def _queue(answers: dict[str, Samples], asked: pl.DataFrame) -> pl.DataFrame:
    """Return the pods and GPUs that waited (QUEUE), for the accelerator that the tenant asked for most."""
    most = asked.group_by("tenant", "accelerator").agg(pl.sum("gpus").alias("sum")).sort("sum", "accelerator")
    place = most.unique("tenant", keep="last").select("tenant", "accelerator")
    pods = answers[WAITING_PODS.name].frame.select("time", "namespace", jobs="value")
    waiting = answers[WAITING_GPUS.name].frame.select("time", tenant="namespace", gpus="value")
    joined = waiting.join(pods, left_on=["time", "tenant"], right_on=["time", "namespace"], how="left")
    named = joined.join(place, on="tenant", how="left").with_columns(
        pl.col("accelerator").fill_null(ANY), pl.col("jobs").fill_null(0)
    )
    return conform("queue", named, QUEUE).sort("time", "tenant")


def _nodes(answers: dict[str, Samples]) -> pl.DataFrame:
    """Return the nodes' utilisation (NODES); CPU and network are null without a node exporter."""
    frame = answers[GPU.name].frame.group_by("time", node="Hostname").agg(pl.mean("value").alias(GPU.name))
    for query, label in ((MEMORY, "Hostname"), (CPU, "nodename"), (NETWORK, "nodename")):
        other = answers[query.name].frame.select("time", pl.col(label).alias("node"), pl.col("value").alias(query.name))
        frame = frame.join(other, on=["time", "node"], how="left")
    named = frame.join(_models(answers), on="node", how="left").with_columns(pl.col("accelerator").fill_null(ANY))
    return conform("nodes", named, NODES).sort("time", "node")


def accelerator_name(model: str) -> str:
    """Return the accelerator of a GPU model: "NVIDIA A100-SXM4-80GB" is a100, an empty name is any."""
    return short_name(model)[:63] or ANY
