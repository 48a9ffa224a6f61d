"""The Prometheus importer against a real HTTP server that speaks Prometheus' API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from gangplan import telemetry
from gangplan.errors import InputError, UnavailableError
from gangplan.progress import no_progress
from gangplan.telemetry.sources.choose import load
from gangplan.telemetry.sources.prometheus.queries import (
    ADDRESSES,
    ALLOCATABLE,
    ASKED,
    CARDS,
    CLUSTERS,
    CPU,
    EXPORTERS,
    GPU,
    LABELS,
    MEMORY,
    NEEDED,
    QUERIES,
    RENAMED,
    WAITING_GPUS,
    WAITING_PODS,
)
from gangplan.telemetry.values import Telemetry
from gangplan.tracking import Store

NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)
PRESENT = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAMES = {query.promql: query.name for query in QUERIES}

WHOLE = {"resource": "nvidia_com_gpu"}

Series = list[tuple[dict[str, str], dict[int, str]]]
"""Labels, and values by how many hours before the present they are evaluated."""


TOO_MANY = (
    422,
    '{"status": "error", "errorType": "execution", '
    '"error": "query processing would load too many samples into memory in query execution"}',
)


@dataclass
class FakePrometheus:
    """What the server knows, and what it was asked."""

    url: str = ""
    data: dict[str, Series] = field(default_factory=dict[str, Series])
    reply: tuple[int, str] | None = None
    only_get: int = 0
    most_points: int = 11_000
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    users: set[str] = field(default_factory=set[str])
    warnings: list[str] = field(default_factory=list[str])
    tenants: set[str] = field(default_factory=set[str])

    def answer(self, form: dict[str, str]) -> dict[str, Any]:
        """Answer a range query as Prometheus does."""
        self.asked.append({**form, "name": NAMES.get(form["query"], form["query"])})
        start, end, step = float(form["start"]), float(form["end"]), int(form["step"])
        times = [start + step * index for index in range(int((end - start) / step) + 1)]
        result: list[dict[str, Any]] = []
        for labels, values in self.data.get(self.asked[-1]["name"], []):
            at = {time: values.get(round((PRESENT.timestamp() - time) / 3600)) for time in times}
            found = [[time, value] for time, value in at.items() if value is not None]
            if found:
                result.append({"metric": labels, "values": found})
        warned = {"warnings": self.warnings} if self.warnings else {}
        return {"status": "success", **warned, "data": {"resultType": "matrix", "result": result}}


@pytest.fixture
def prometheus() -> Iterator[FakePrometheus]:
    """A server on a free port of this machine."""
    fake = FakePrometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(text, self.path, (fake.only_get, "POST is not allowed") if fake.only_get else fake.reply)

        def do_GET(self) -> None:
            path, _, text = self.path.partition("?")
            self._answer(text, path, fake.reply)

        def _answer(self, text: str, path: str, reply: tuple[int, str] | None) -> None:
            form = {name: values[0] for name, values in parse_qs(text).items()}
            fake.users.add(self.headers.get("Authorization", ""))
            fake.tenants.add(self.headers.get("X-Scope-OrgID", ""))
            assert path == "/api/v1/query_range"
            points = (float(form["end"]) - float(form["start"])) / float(form["step"]) + 1
            if points > fake.most_points:
                reply = TOO_MANY
            status, body = reply or (200, json.dumps(fake.answer(form)))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://login.example.com/in?token=s3cret")
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
            ({"namespace": "search", "node": "n1", **WHOLE}, {**seen, 3: "NaN"}),
            ({"namespace": "batch", "node": "n1", **WHOLE}, {0: "2", 1: "2"}),
            ({"namespace": "batch", "node": "", **WHOLE}, {0: "8"}),
        ],
        "classes": [({"namespace": "search", "label_gangplan_io_workload_class": "latency"}, {0: "1"})],
        WAITING_GPUS.name: [({"namespace": "batch", **WHOLE}, {0: "8"})],
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
        "namespace=search node=n1 resource=nvidia_com_gpu",
        "NaN",
        1,
    )


def test_range_is_asked_in_chunks_that_meet_and_never_overlap(prometheus: FakePrometheus):
    """Thirty days are five requests a query, together every hour once; what seldom changes is asked more rarely."""
    _cluster(prometheus)
    _read(f"prometheus+{prometheus.url}")
    ranges = [(float(each["start"]), float(each["end"])) for each in prometheus.asked if each["name"] == ASKED.name]
    asked = [start + 3600 * index for start, end in ranges for index in range(round((end - start) / 3600) + 1)]
    assert len(ranges) == 5
    assert asked == [PRESENT.timestamp() - 3600 * back for back in range(30 * 24 - 1, -1, -1)]
    assert [each["end"] for each in prometheus.asked if each["name"] == ALLOCATABLE.name] == [str(PRESENT.timestamp())]


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
        ((302, ""), InputError, r"sends us to http://login.example.com/in: log in there"),
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


def test_a_range_that_is_too_large_is_asked_for_in_smaller_parts(prometheus: FakePrometheus):
    """A server that allows 40 points answers 36 hours at a time: the same demand, and a note."""
    _cluster(prometheus)
    whole = _read(f"prometheus+{prometheus.url}?days=3")
    prometheus.most_points = 40
    parts = _read(f"prometheus+{prometheus.url}?days=3")
    assert parts.demand.equals(whole.demand)
    assert any("it was asked for 36 hours at a time" in note for note in parts.notes)


@pytest.mark.parametrize(
    "reply",
    [
        TOO_MANY,
        (400, '{"status": "error", "errorType": "bad_data", "error": "exceeded maximum resolution of 11,000 points"}'),
    ],
)
def test_a_server_that_refuses_even_one_hour_is_told_what_to_raise(prometheus: FakePrometheus, reply: tuple[int, str]):
    """Smaller parts do not help for ever."""
    prometheus.reply = reply
    with pytest.raises(InputError, match=r"refused the query asked \(.*raise its limits \(--query.max-samples\)"):
        _read(f"prometheus+{prometheus.url}?days=3")


@pytest.mark.parametrize("status", [403, 404, 405, 501])
def test_a_proxy_that_lets_only_get_through_is_asked_by_get(prometheus: FakePrometheus, status: int):
    """POST is tried once, and not again."""
    _cluster(prometheus)
    prometheus.only_get = status
    assert _read(f"prometheus+{prometheus.url}?days=3").demand.height > 0
    assert len(prometheus.asked) >= len(QUERIES)


def test_token_and_tenant_are_sent_and_never_shown(
    prometheus: FakePrometheus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """From the environment, or a file that it names; a refusal does not repeat them."""
    _cluster(prometheus)
    monkeypatch.setenv("GANGPLAN_PROMETHEUS_TOKEN", "s3cret")
    monkeypatch.setenv("GANGPLAN_PROMETHEUS_HEADERS", "X-Scope-OrgID: team-s3cret, X-Other: a:b")
    _read(f"prometheus+{prometheus.url}?days=1")
    monkeypatch.delenv("GANGPLAN_PROMETHEUS_TOKEN")
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("GANGPLAN_PROMETHEUS_TOKEN_FILE", str(tmp_path / "token"))
    _read(f"prometheus+{prometheus.url}?days=1")
    assert prometheus.users == {"Bearer s3cret", "Bearer from-file"}
    assert prometheus.tenants == {"team-s3cret"}
    prometheus.reply = (401, "no org id")
    with pytest.raises(
        InputError, match=r"a bearer token by GANGPLAN_PROMETHEUS_TOKEN .*X-Scope-OrgID: <tenant>"
    ) as refused:
        _read(f"prometheus+{prometheus.url}")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HEADERS", "s3cret", "header 1"),
        ("HEADERS", "A: b, s3cret c: d", "header 2"),
        ("TOKEN", "s3cret token", "is no token"),
        ("TOKEN_FILE", "/no/such/file", "cannot be read"),
        ("CA", "/no/such/file", "cannot be read"),
        ("CA", __file__, "has no certificates"),
    ],
)
def test_a_wrong_setting_names_its_variable_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
):
    """Before anything is asked."""
    monkeypatch.setenv(f"GANGPLAN_PROMETHEUS_{variable}", value)
    with pytest.raises(InputError, match=says) as refused:
        _read("prometheus+http://127.0.0.1:9")
    assert refused.value.field == f"GANGPLAN_PROMETHEUS_{variable}"
    assert "s3cret" not in str(refused.value)


def test_a_token_and_a_password_together_are_refused(monkeypatch: pytest.MonkeyPatch):
    """One of the two would silently win."""
    monkeypatch.setenv("GANGPLAN_PROMETHEUS_TOKEN", "t")
    with pytest.raises(InputError, match="there is a bearer token: give one of the two"):
        _read("prometheus+http://me:s3cret@127.0.0.1:9")


def _hosts(fake: FakePrometheus, **dcgm: str) -> None:
    """Let kube-state-metrics know node ip-10-0-1-5.example.com, and the DCGM exporter call it otherwise."""
    node = "ip-10-0-1-5.example.com"
    model = {"modelName": "NVIDIA H100 80GB HBM3"}
    fake.data = {
        ASKED.name: [({"namespace": "search", "node": node, **WHOLE}, {0: "4", 1: "4"})],
        ADDRESSES.name: [({"node": node, "internal_ip": "10.0.1.5"}, {0: "1"})],
        EXPORTERS.name: [({"pod": "nvidia-dcgm-exporter-x7", "node": node}, {0: "1"})],
        GPU.name: [({**dcgm, **model}, {0: "0.5"})],
        CPU.name: [({"nodename": "ip-10-0-1-5"}, {0: "0.25"})],
    }


@pytest.mark.parametrize(
    "dcgm",
    [
        {"Hostname": "ip-10-0-1-5.example.com"},
        {"Hostname": "ip-10-0-1-5"},
        {"Hostname": "IP-10-0-1-5"},
        {"Hostname": "ip-10-0-1-5:9400"},
        {"Hostname": "ip-10-0-1-5.other.domain"},
        {"Hostname": "nvidia-dcgm-exporter-x7"},
        {"Hostname": "nvidia-dcgm-exporter-q9", "node": "ip-10-0-1-5.example.com"},
        {"Hostname": "nvidia-dcgm-exporter-q9", "kubernetes_node": "ip-10-0-1-5.example.com"},
        {"Hostname": "nvidia-dcgm-exporter-q9", "instance": "10.0.1.5:9400"},
        {"instance": "ip-10-0-1-5:9400"},
    ],
)
def test_a_node_is_the_same_under_each_of_its_names(prometheus: FakePrometheus, dcgm: dict[str, str]):
    """Short, with its domain, with a port, as an address, as the exporter's pod."""
    _hosts(prometheus, **dcgm)
    read = _read(f"prometheus+{prometheus.url}?days=3")
    assert set(read.demand["accelerator"]) == {"h100"}
    assert read.nodes.select("node", "accelerator", "cpu_utilization").rows() == [
        ("ip-10-0-1-5.example.com", "h100", 0.25)
    ]


def test_hosts_that_are_no_nodes_are_said_with_their_count(prometheus: FakePrometheus):
    """What cannot be told apart counts as any, and the note says how much of it."""
    _hosts(prometheus, Hostname="elsewhere")
    read = _read(f"prometheus+{prometheus.url}?days=3")
    assert set(read.demand["accelerator"]) == {"any"}
    assert [note for note in read.notes if note[0].isdigit()] == [
        "1 of 1 hosts of the DCGM exporter are no nodes of kube-state-metrics (elsewhere): their GPU models are not"
        " used",
        "1 of 1 nodes have no GPU model (ip-10-0-1-5.example.com): demand on them is counted as `any`",
    ]


def test_labels_of_nodes_name_what_no_exporter_sees(prometheus: FakePrometheus):
    """kube_node_labels, where they are allowed: products of all vendors, replicas and MIG."""
    shared = {"label_nvidia_com_gpu_product": "NVIDIA-L40S-SHARED", "label_nvidia_com_gpu_replicas": "4"}
    prometheus.data = {
        ASKED.name: [
            ({"namespace": "a", "node": "n1", **WHOLE}, {0: "8"}),
            ({"namespace": "b", "node": "n2", "resource": "google_com_tpu"}, {0: "4"}),
            ({"namespace": "c", "node": "n3", "resource": "aws_amazon_com_neuroncore"}, {0: "32"}),
        ],
        LABELS.name: [
            ({"node": "n1", **shared}, {0: "1"}),
            ({"node": "n2", "label_cloud_google_com_gke_tpu_accelerator": "tpu-v6e-slice"}, {0: "1"}),
            ({"node": "n3", "label_node_kubernetes_io_instance_type": "trn1.32xlarge"}, {0: "1"}),
        ],
    }
    read = _read(f"prometheus+{prometheus.url}?days=3")
    assert read.demand.select("tenant", "accelerator", "gpus").rows() == [
        ("a", "l40s", 2.0),
        ("b", "tpu-v6e", 4.0),
        ("c", "trainium1", 16.0),
    ]


def test_replicas_are_told_by_what_a_node_offers_and_has(prometheus: FakePrometheus):
    """80 GPUs are offered where the DCGM exporter sees 8, so that ten share one; unknown shares are said."""
    model = {"Hostname": "n1", "modelName": "NVIDIA L4"}
    shared = {"resource": "nvidia_com_gpu_shared"}
    prometheus.data = {
        ASKED.name: [
            ({"namespace": "a", "node": "n1", **WHOLE}, {0: "20"}),
            ({"namespace": "b", "node": "n2", **shared}, {0: "3"}),
        ],
        ALLOCATABLE.name: [({"node": "n1", **WHOLE}, {0: "80"})],
        CARDS.name: [(model, {0: "8"})],
    }
    read = _read(f"prometheus+{prometheus.url}?days=3")
    assert read.demand.select("tenant", "accelerator", "gpus").rows() == [("a", "l4", 2.0), ("b", "any", 3.0)]
    assert any(note.startswith("1 of 2 nodes share GPUs, and nothing says among how many") for note in read.notes)


def test_every_selector_without_a_match_is_named(prometheus: FakePrometheus):
    """And a scrape that renames labels is noticed."""
    _cluster(prometheus)
    for name in (GPU.name, MEMORY.name, CPU.name, "classes"):
        del prometheus.data[name]
    prometheus.data[RENAMED.name] = [({}, {0: "12"})]
    notes = " ".join(_read(f"prometheus+{prometheus.url}?days=3").notes)
    for metric in ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_USED", "node_cpu_seconds_total", "kube_namespace_labels"):
        assert f"no series of {metric}" in notes
    assert "scraped without honorLabels" in notes
    assert "1 of 1 nodes have no GPU model (n1)" in notes


def test_several_clusters_and_warnings_are_said(prometheus: FakePrometheus):
    """What a server with several clusters adds up, and what it could not ask everywhere."""
    _cluster(prometheus)
    prometheus.data[CLUSTERS.name] = [({"cluster": "east"}, {0: "9"}), ({"cluster": "west"}, {0: "9"})]
    prometheus.warnings = ["a store is away"]
    notes = _read(f"prometheus+{prometheus.url}?days=1").notes
    assert "2 clusters are added up: east, west" in notes
    assert f"the server warned with {len(QUERIES)} answers, which may lack something: ['a store is away']" in notes


def test_the_selector_that_is_missing_for_any_demand_is_named(prometheus: FakePrometheus):
    """Requests are scraped, phases are not."""
    prometheus.data = {f"count({NEEDED[0]})": [({}, {0: "4"})]}
    with pytest.raises(InputError, match="no series of kube_pod_status_phase with its"):
        _read(f"prometheus+{prometheus.url}")


@pytest.mark.parametrize(
    "result",
    [
        '[{"metric": {}}]',
        '[{"metric": {}, "values": [["x", "1"]]}]',
        '{"a": 1}',
        "[7]",
        '[{"metric": 1, "values": [[0, "1"]]}]',
    ],
)
def test_an_answer_of_another_shape_is_said(prometheus: FakePrometheus, result: str):
    """One line, no traceback."""
    prometheus.reply = (200, f'{{"status": "success", "data": {{"resultType": "matrix", "result": {result}}}}}')
    with pytest.raises(InputError, match="does not speak Prometheus' API"):
        _read(f"prometheus+{prometheus.url}?days=1")
