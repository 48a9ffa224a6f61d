"""The PromQL means what it is meant to, on the real engine: skipped by name where there is no Prometheus.

The samples are those of a small cluster, written as OpenMetrics and loaded with promtool.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest

from gangplan.kube import PLACEHOLDER_CLASS
from gangplan.progress import no_progress
from gangplan.telemetry.sources.prometheus import read_containers, read_prometheus
from gangplan.telemetry.values import Telemetry

UNPACKED = Path(__file__).resolve().parents[2] / ".envs" / "prometheus" / "usr/bin"
END = datetime(2026, 3, 2, 9, tzinfo=UTC)
START = END - timedelta(days=9)  # more than one chunk
GIB = 2**30
STEP = timedelta(minutes=4)  # within Prometheus' look-back of five
SHORT = END - timedelta(hours=30)  # a pod of half an hour begins here
GAP = (END - timedelta(hours=60), END - timedelta(hours=57))

HALF_SEEN = END - timedelta(hours=40)  # in this hour nothing is scraped for the first half hour


def _seen(at: datetime) -> bool:
    return not GAP[0] <= at < GAP[1] and not HALF_SEEN <= at < HALF_SEEN + timedelta(minutes=30)


def _samples(at: datetime) -> Iterator[tuple[str, str, float]]:
    """Give what the exporters say at one moment: metric, labels, value."""
    pods = [("search", "serve-0", "node-a", 4, "Running"), ("search", "serve-1", "node-b", 2, "Running")]
    pods.append(("batch", "waits", "", 8, "Pending" if at >= END - timedelta(hours=5) else "Unknown"))
    if SHORT <= at < SHORT + timedelta(minutes=30):
        pods.append(("batch", "short", "node-b", 8, "Running"))
    pods.append(("batch", "done", "node-b", 8, "Succeeded"))
    pods += [("search", "room-0", "node-b", 8, "Running"), ("search", "room-1", "", 8, "Pending")]
    for namespace, pod, node, gpus, phase in pods:
        where = f'namespace="{namespace}",pod="{pod}"'
        yield "kube_pod_info", f'{where},priority_class="{PLACEHOLDER_CLASS if "room" in pod else ""}"', 1
        yield (
            "kube_pod_container_resource_requests",
            f'{where},container="main",node="{node}",resource="nvidia_com_gpu",unit="integer"',
            gpus,
        )
        yield (
            "kube_pod_container_resource_requests",
            f'{where},container="main",node="{node}",resource="cpu",unit="core"',
            64,
        )
        for each in ("Pending", "Running", "Succeeded"):
            yield "kube_pod_status_phase", f'{where},phase="{each}"', float(each == phase)
    yield from _renamed()
    yield from _used(at)
    yield "kube_namespace_labels", 'namespace="search",label_gangplan_io_workload_class="latency"', 1
    for node, model, busy in (("node-a", "NVIDIA H100 80GB HBM3", 60), ("node-b", "NVIDIA A100-SXM4-80GB", 20)):
        for gpu in (0, 1):
            labels = f'gpu="{gpu}",Hostname="{node}",modelName="{model}"'
            yield "DCGM_FI_DEV_GPU_UTIL", labels, busy + 10 * gpu
            yield "DCGM_FI_DEV_FB_USED", labels, 20_000
            yield "DCGM_FI_DEV_FB_FREE", labels, 60_000


def _renamed() -> Iterator[tuple[str, str, float]]:
    """Give what two replicas of kube-state-metrics say that are scraped without honorLabels: pods of the lab."""
    own = 'namespace="monitoring",pod="ksm-0",container="ksm",exported_namespace="lab"'
    for replica in ("ksm-0", "ksm-1"):
        for number in range(2):
            pod = f'{own},exported_pod="mig-{number}",instance="{replica}"'
            resource = 'exported_container="main",node="node-b",resource="nvidia_com_mig_1g_10gb"'
            yield "kube_pod_container_resource_requests", f"{pod},{resource}", 7
            yield "kube_pod_status_phase", f'{pod},phase="Running"', 1
        pod = f'{own},exported_pod="warm",instance="{replica}"'
        asked = 'node="node-a",resource="nvidia_com_gpu"'
        for name, gpus in (("a", 1), ("b", 1)):
            yield "kube_pod_container_resource_requests", f'{pod},exported_container="{name}",{asked}', gpus
        for name, gpus in (("load", 5), ("check", 3)):
            yield "kube_pod_init_container_resource_requests", f'{pod},exported_container="{name}",{asked}', gpus
        yield "kube_pod_status_phase", f'{pod},phase="Running"', 1
    yield "kube_node_status_allocatable", 'node="node-a",resource="nvidia_com_gpu"', 2


def _used(at: datetime) -> Iterator[tuple[str, str, float]]:
    """Give what the kubelet says of two containers of one pod in the last days: 1.5 cores, and 2 GiB with a peak."""
    if at < END - timedelta(hours=30):
        return
    seconds = (at - START).total_seconds()
    pod = 'namespace="search",pod="serve-0"'
    for container, cores, memory in (("main", 1.5, 2 * GIB), ("", 2.0, 3 * GIB)):  # without a name: all of the pod's
        peak = GIB if at == END - timedelta(hours=20) else 0
        yield "container_cpu_usage_seconds_total", f'{pod},container="{container}",id="/a"', cores * seconds
        yield "container_memory_working_set_bytes", f'{pod},container="{container}",id="/a"', memory + peak


def _open_metrics(path: Path) -> None:
    """Write the samples; each metric's lines stand together, as the format wants."""
    lines: dict[str, list[str]] = {}
    at = START
    while at <= END:
        if _seen(at):
            for metric, labels, value in _samples(at):
                lines.setdefault(metric, []).append(f"{metric}{{{labels}}} {value} {at.timestamp():.0f}")
        at += STEP
    with path.open("w") as file:
        for metric, rows in lines.items():
            file.write(f"# TYPE {metric} gauge\n" + "\n".join(rows) + "\n")
        file.write("# EOF\n")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus on a free port with the samples in it."""
    path = f"{UNPACKED}:{os.environ['PATH']}"
    binary, tool = shutil.which("prometheus", path=path), shutil.which("promtool", path=path)
    if binary is None or tool is None:
        pytest.skip("prometheus and promtool are neither unpacked (make .envs/prometheus/.ready) nor on the PATH")
    folder = tmp_path_factory.mktemp("prometheus")
    _open_metrics(folder / "samples.txt")
    subprocess.run(
        [tool, "tsdb", "create-blocks-from", "openmetrics", folder / "samples.txt", folder / "data"],
        check=True,
        capture_output=True,
    )
    (folder / "prometheus.yml").write_text("global: {}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            binary,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_ready(server, port)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    """Ask until Prometheus says that it is ready."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("Prometheus did not become ready")


@pytest.fixture(scope="module")
def telemetry(address: str) -> Telemetry:
    """What the importer makes of it."""
    return read_prometheus(f"prometheus+http://{address}?days=10", END + timedelta(minutes=20), no_progress)


def _gpus(telemetry: Telemetry, tenant: str, accelerator: str, hour: datetime) -> float | None:
    """Return one hour's demand."""
    return telemetry.demand.filter(tenant=tenant, accelerator=accelerator, hour=hour)["gpus"].item()


def test_running_pods_are_demand_by_tenant_class_and_model(telemetry: Telemetry):
    """A namespace is a tenant, its label the class, its node's GPU model the accelerator; CPU requests are no GPUs."""
    assert telemetry.end == END
    assert set(telemetry.demand.select("tenant", "workload_class", "accelerator").unique().iter_rows()) == {
        ("search", "latency", "h100"),
        ("search", "latency", "a100"),
        ("batch", "throughput", "a100"),
        ("lab", "throughput", "a100"),
        ("lab", "throughput", "h100"),
    }
    assert _gpus(telemetry, "search", "h100", END - timedelta(hours=100)) == 4
    assert _gpus(telemetry, "search", "a100", END - timedelta(hours=1)) == 2


def test_pod_of_half_an_hour_is_half_its_gpus(telemetry: Telemetry):
    """Demand is the time-weighted mean of the hour, and the hour that is named is the one that was looked back on."""
    around = [_gpus(telemetry, "batch", "a100", SHORT + timedelta(hours=offset)) for offset in (-1, 0, 1)]
    assert around == [pytest.approx(0, abs=0.7), pytest.approx(4, abs=0.7), pytest.approx(0, abs=0.7)]


def test_half_seen_hour_is_the_mean_of_what_was_seen(telemetry: Telemetry):
    """An hour that was scraped for half of it does not look like half the demand."""
    assert _gpus(telemetry, "search", "h100", HALF_SEEN) == pytest.approx(4)


def test_hours_without_a_scrape_are_null(telemetry: Telemetry):
    """Where Prometheus was blind there is no zero."""
    assert _gpus(telemetry, "search", "h100", GAP[0] + timedelta(hours=1)) is None


def test_pending_pod_without_a_node_is_demand_and_queue(telemetry: Telemetry):
    """A pod that waits is asked for, at the accelerator that its tenant uses most."""
    assert _gpus(telemetry, "batch", "a100", END - timedelta(hours=2)) == 8
    last = telemetry.queue.filter(pl.col("time") == END - timedelta(hours=2), tenant="batch")
    assert last.select("jobs", "gpus", "accelerator").row(0) == (1, 8.0, "a100")


def test_dcgm_gives_the_nodes(telemetry: Telemetry):
    """A node's utilisation is the mean of its GPUs, its memory what is used of all."""
    node = telemetry.nodes.filter(node="node-a", time=END - timedelta(hours=10))
    assert node["gpu_utilization"].item() == pytest.approx(0.65)
    assert node["gpu_memory_utilization"].item() == pytest.approx(0.25)
    assert node["accelerator"].item() == "h100"


def test_pods_count_under_their_own_labels_once_and_by_their_parts(telemetry: Telemetry):
    """14 instances of 1g.10gb are two GPUs, whoever renamed the labels and however often they are scraped."""
    assert _gpus(telemetry, "lab", "a100", END - timedelta(hours=100)) == pytest.approx(2)
    assert any("scraped without honorLabels" in note for note in telemetry.notes)


def test_a_pod_asks_for_its_largest_init_container_where_that_is_more(telemetry: Telemetry):
    """Two containers of one GPU together, or an init container of five before them."""
    assert _gpus(telemetry, "lab", "h100", END - timedelta(hours=100)) == pytest.approx(5)


def test_what_containers_used(address: str):
    """Cores and the most memory of each container, with the hours that were measured; a pod's own sum is left out."""
    (used,) = read_containers(f"prometheus+http://{address}", END, hours=24)
    assert (used.namespace, used.pod, used.container) == ("search", "serve-0", "main")
    assert used.cores == pytest.approx(1.5, rel=0.01)
    assert used.memory == 3 * GIB
    assert used.hours == pytest.approx(24, abs=1)
