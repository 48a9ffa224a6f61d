"""gangplan learns from a cluster: what its pods and Kueue's Workloads asked for, and for how long."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from gangplan.clock import system_clock
from gangplan.reserve.kueue.jobs import adopt
from gangplan.telemetry.sources.kubernetes import read_cluster
from gangplan.testing import a_request
from gangplan.types import PodSet
from tests.cluster.conftest import Space, until
from tests.cluster.objects import a_job, a_pod, condition, jobs


def test_jobs_pods_and_reservations_of_a_cluster_are_telemetry(
    space: Space, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gang once, with its durations; what waits is the queue; what goes is remembered."""
    ledger = space.ledger()
    job = a_job(space.name, "step", pods=2, gpus=2, runs_for="1s")
    held = adopt.reserve_for(ledger, a_request("step"), job)
    adopt.start(ledger, held.id, job)
    until(lambda: condition(space.api.get(f"{jobs(space.name)}/step"), "Complete") == "True")
    until(lambda: space.condition(held.id, "Finished").startswith("True"))
    reserved = ledger.submit(a_request("held"))
    ledger.submit(a_request("waits", pod_sets=(PodSet(count=1, gpus_per_pod=3),)))
    pod = a_pod("beside", gpus=1, how="hangs")
    path = f"/api/v1/namespaces/{space.name}/pods"
    space.api.create(path, pod)
    until(lambda: space.api.get(f"{path}/beside")["status"]["phase"] == "Running")

    monkeypatch.setenv("KUBECONFIG", str(space.kubeconfig))
    kept = tmp_path / "seen.parquet"
    mine = read_cluster("kubernetes+-", system_clock(), seen_before=kept).jobs.filter(tenant=space.name)
    seen = mine.sort("gpus").select("gpus", "accelerator", "workload_class").rows()
    assert seen == [
        (1.0, "h100", "throughput"),
        (3.0, "any", "throughput"),
        (4.0, "h100", "throughput"),
        (8.0, "h100", "throughput"),
    ]
    ran = mine.filter(gpus=4.0).row(0, named=True)
    assert ran["ended_at"] - ran["started_at"] >= timedelta(seconds=1)
    assert mine.filter(gpus=3.0)["started_at"].null_count() == 1

    ledger.release(reserved.id, reserved.token or 0)
    again = read_cluster("kubernetes+-", system_clock(), seen_before=kept)
    after = again.jobs.filter(tenant=space.name, gpus=8.0)
    assert after["ended_at"].null_count() == 0
    assert again.queue.filter(tenant=space.name).height <= 1
