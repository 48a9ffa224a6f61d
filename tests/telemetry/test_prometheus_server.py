"""The Prometheus importer against a real HTTP server that speaks Prometheus' API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from gangplan import telemetry
from gangplan.errors import InputError, UnavailableError
from gangplan.progress import no_progress
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.sources.prometheus import (
    ASKED,
    CPU,
    GPU,
    MEMORY,
    QUERIES,
    WAITING_GPUS,
    WAITING_PODS,
    accelerator_name,
)
from gangplan.telemetry.values import Telemetry
from gangplan.tracking import Store

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
PRESENT = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = {query.promql: query.name for query in QUERIES}

Series = list[tuple[dict[str, str], dict[int, str]]]
"""Labels, and values by how many hours before the present they are evaluated."""


@dataclass
class FakePrometheus:
    """What the server knows, and what it was asked."""

    url: str = ""
    data: dict[str, Series] = field(default_factory=dict[str, Series])
    reply: tuple[int, str] | None = None
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    users: set[str] = field(default_factory=set[str])

    def answer(self, form: dict[str, str]) -> dict[str, Any]:
        """Answer a range query as Prometheus does."""
        self.asked.append({**form, "name": NAMES[form["query"]]})
        start, end, step = float(form["start"]), float(form["end"]), int(form["step"])
        times = [start + step * index for index in range(int((end - start) / step) + 1)]
        result: list[dict[str, Any]] = []
        for labels, values in self.data.get(NAMES[form["query"]], []):
            at = {time: values.get(round((PRESENT.timestamp() - time) / 3600)) for time in times}
            found = [[time, value] for time, value in at.items() if value is not None]
            if found:
                result.append({"metric": labels, "values": found})
        return {"status": "success", "data": {"resultType": "matrix", "result": result}}


@pytest.fixture
def prometheus() -> Iterator[FakePrometheus]:
    """A server on a free port of this machine."""
    fake = FakePrometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = {k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
            fake.users.add(self.headers.get("Authorization", ""))
            assert self.path == "/api/v1/query_range"
            status, body = fake.reply or (200, json.dumps(fake.answer(form)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()


def _read(source: str) -> Telemetry:
    """Read the source as the ingest does."""
    return load(source, seed=7, clock=lambda: NOW, progress=no_progress)


def _cluster(fake: FakePrometheus, hours: int = 48) -> None:
    """Two namespaces on one node for some hours, with one hour unseen and one bad sample."""
    seen = {back: "4" for back in range(hours) if back != 7}
    fake.data = {
        ASKED.name: [
            ({"namespace": "search", "node": "n1"}, {**seen, 3: "NaN"}),
            ({"namespace": "batch", "node": "n1"}, {0: "2", 1: "2"}),
            ({"namespace": "batch", "node": ""}, {0: "8"}),
        ],
        "classes": [({"namespace": "search", "label_gangplan_io_workload_class": "latency"}, {0: "1"})],
        WAITING_GPUS.name: [({"namespace": "batch"}, {0: "8"})],
        WAITING_PODS.name: [({"namespace": "batch"}, {0: "1"})],
        GPU.name: [({"Hostname": "n1", "modelName": "NVIDIA H100 80GB HBM3"}, {0: "0.5", 1: "0.25"})],
        MEMORY.name: [({"Hostname": "n1"}, {0: "0.75"})],
        CPU.name: [({"nodename": "n1"}, {0: "0.125"})],
    }


def test_answers_become_demand_queue_and_nodes(prometheus: FakePrometheus):
    """Hours carry what was asked in them; an unseen hour is null, an absent series in a seen hour is zero."""
    _cluster(prometheus)
    read = _read(f"prometheus+{prometheus.url}?days=3")
    assert (read.start, read.end) == (PRESENT - 48 * HOUR, PRESENT)
    demand = {
        key: dict(part.select("hour", "gpus").iter_rows())
        for key, part in read.demand.partition_by("tenant", "workload_class", "accelerator", as_dict=True).items()
    }
    search, batch = demand["search", "latency", "h100"], demand["batch", "throughput", "h100"]
    assert set(demand) == {("search", "latency", "h100"), ("batch", "throughput", "h100")}
    assert search[PRESENT - HOUR] == 4
    assert search[PRESENT - 8 * HOUR] is None
    assert batch[PRESENT - 8 * HOUR] is None
    assert [batch[PRESENT - back * HOUR] for back in (1, 2, 3)] == [10, 2, 0]
    assert read.queue.rows() == [(PRESENT - HOUR, "batch", "h100", 1, 8.0)]
    assert read.nodes.rows() == [
        (PRESENT - 2 * HOUR, "n1", "h100", None, 0.25, None, None),
        (PRESENT - HOUR, "n1", "h100", 0.125, 0.5, 0.75, None),
    ]


def test_sample_that_is_no_number_is_named_and_left_out(prometheus: FakePrometheus):
    """A NaN is counted, named with its query and series, and is no demand."""
    _cluster(prometheus)
    read = _read(f"prometheus+{prometheus.url}?days=3")
    (bad,) = read.rejected
    assert (bad.place, bad.field, bad.value, read.rejected_count) == (
        "asked",
        "namespace=search node=n1",
        "NaN",
        1,
    )


def test_range_is_asked_in_chunks_that_meet_and_never_overlap(prometheus: FakePrometheus):
    """Thirty days are five requests a query, together every hour once, none above 11,000 points."""
    _cluster(prometheus)
    _read(f"prometheus+{prometheus.url}")
    ranges = [(float(each["start"]), float(each["end"])) for each in prometheus.asked if each["name"] == ASKED.name]
    asked = [start + 3600 * index for start, end in ranges for index in range(round((end - start) / 3600) + 1)]
    assert len(ranges) == 5
    assert asked == [PRESENT.timestamp() - 3600 * back for back in range(30 * 24 - 1, -1, -1)]


def test_ingest_keeps_it_without_the_password(prometheus: FakePrometheus, mlflow_store: Store):
    """User and password reach the server, and neither the report nor any tag or parameter of the run."""
    _cluster(prometheus)
    address = prometheus.url.replace("http://", "http://me:s3cret@")
    report = telemetry.ingest(f"prometheus+{address}", mlflow_store, seed=7, clock=lambda: NOW)
    assert prometheus.users == {"Basic " + base64.b64encode(b"me:s3cret").decode()}
    run = mlflow_store.client.get_run(report.run_id)
    assert report.source == run.data.tags["source"] == prometheus.url
    assert "s3cret" not in json.dumps(run.to_dictionary(), default=str)
    assert run.data.tags["live"] == "true"
    assert telemetry.read_usage(mlflow_store).end == PRESENT


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        ((503, "busy"), UnavailableError, "answered 503: try again"),
        ((429, "slow down"), UnavailableError, "answered 429: try again"),
        ((401, "who?"), InputError, r"refused us: give prometheus\+http://user:password@host"),
        ((200, "<html>"), InputError, "does not speak Prometheus' API"),
        ((200, "[]"), InputError, "does not speak Prometheus' API"),
        ((404, "not found"), InputError, r"does not speak Prometheus' API \(404\)"),
        (
            (400, '{"status": "error", "errorType": "bad_data", "error": "parse error"}'),
            InputError,
            r"refused the query asked \(bad_data: parse error\)",
        ),
    ],
)
def test_servers_refusal_is_said_in_one_line(
    prometheus: FakePrometheus, reply: tuple[int, str], error: type[Exception], says: str
):
    """Whatever the server answers instead of samples, the user reads what to do; the password is not in it."""
    prometheus.reply = reply
    with pytest.raises(error, match=says) as refused:
        _read(f"prometheus+{prometheus.url.replace('http://', 'http://me:s3cret@')}")
    assert "s3cret" not in str(refused.value)


def test_prometheus_without_gpu_pods_is_refused(prometheus: FakePrometheus):
    """No kube-state-metrics, no demand: said so, not read as zero."""
    with pytest.raises(InputError, match="has no pod that asks for GPUs in 30 days: is kube-state-metrics scraped"):
        _read(f"prometheus+{prometheus.url}")


def test_server_that_is_down_is_unavailable():
    """Nothing listens: exit code 4, for the call may be made again."""
    with pytest.raises(UnavailableError, match="cannot be reached"):
        _read("prometheus+http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ("prometheus+ftp://host", "source"),
        ("prometheus+http://", "source"),
        ("prometheus+http://host:9090?day=3", "source"),
        ("prometheus+http://host:9090?days=0", "days"),
        ("prometheus+http://host:9090?days=-3", "days"),
        ("prometheus+http://host:9090?days=ten", "days"),
        ("prometheus+http://host:http", "source"),
        ("prometheus+http://[::1", "source"),
    ],
)
def test_wrong_address_is_refused_before_anything_is_asked(source: str, field: str):
    """An address or option that cannot be names itself."""
    with pytest.raises(InputError) as refused:
        _read(source)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("AMD Instinct MI300X", "mi300x"),
        ("", "any"),
    ],
)
def test_gpu_models_have_short_names(model: str, name: str):
    """The accelerator is what people call it."""
    assert accelerator_name(model) == name
