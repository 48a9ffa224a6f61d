"""The commands that work on a cluster, called as a shell would."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import yaml

from gangplan.tracking import Store
from gangplan.types import ReservationState
from tests.cluster.conftest import Space, until
from tests.cluster.objects import a_jobset, a_pod
from tests.command import Call, caller, widen

RUN = ("--tenant", "vision", "--accelerator", "h100", "--duration", "30m", "--wait", "20s", "--json")


@pytest.fixture
def call(
    space: Space, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Call the command with the test's queue as its ledger."""
    for name, value in {
        "GANGPLAN_HOME": str(tmp_path / "home"),
        "GANGPLAN_LEDGER": f"kueue://-/{space.name}/queue",
        "KUBECONFIG": str(space.kubeconfig),
    }.items():
        monkeypatch.setenv(name, value)
    widen(monkeypatch, 200)
    return caller(monkeypatch, capsys)


def test_plain_pods_run_on_a_reservation_and_again_is_the_same(call: Call, space: Space, tmp_path: Path) -> None:
    """Two Pods in one file are one gang; the command tried again starts nothing twice."""
    file = tmp_path / "pods.yaml"
    file.write_text(yaml.safe_dump_all([a_pod(f"pod-{index}", gpus=4, how="hangs") for index in range(2)]))
    said = call("kube", "run", str(file), "--key", "gang", *RUN).json
    assert (said["kind"], said["state"]) == ("List", "granted")
    path = f"/api/v1/namespaces/{space.name}/pods"
    until(lambda: [one["status"]["phase"] for one in space.api.items(path)] == ["Running"] * 2, 40)
    before = {one["metadata"]["uid"] for one in space.api.items(path)}
    again = call("kube", "run", str(file), "--key", "gang", *RUN)
    assert (again.code, again.json["id"]) == (0, said["id"])
    assert {one["metadata"]["uid"] for one in space.api.items(path)} == before
    assert call("release", "--key", "gang").code == 0
    until(lambda: list(space.api.items(path)) == [])


def test_a_name_that_is_taken_is_refused_in_one_line(call: Call, space: Space, tmp_path: Path) -> None:
    """Exit code 2: the pod is named, and what to do; a reservation of another key is not taken over."""
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump(a_pod("taken", gpus=4, how="hangs")))
    assert call("kube", "run", str(file), "--key", "one", *RUN).code == 0
    other = call("kube", "run", str(file), "--key", "two", *RUN)
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "manifest.metadata.name: 'taken' is another's" in other.err


def test_a_jobset_is_run_from_standard_input(call: Call, space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads it there; it completes on its slots."""
    text = yaml.safe_dump(a_jobset(space.name, "set", workers=2, gpus=4))
    monkeypatch.setattr("sys.stdin", StringIO(text))
    said = call("kube", "run", "-", "--key", "set", *RUN).json
    until(lambda: space.condition(said["id"], "Finished") == "True Succeeded", 40)


def test_a_cluster_is_ingested_as_telemetry(call: Call, mlflow_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gangplan ingest kubernetes+-`: what is reserved and what waits are rows in MLflow; a later look knows more."""
    monkeypatch.setenv("GANGPLAN_MLFLOW", mlflow_store.uri)
    assert call("reserve", *_asked("held", 4)).code == 0
    assert call("reserve", *_asked("waits", 8)).code == 3
    first = call("ingest", "kubernetes+-", "--json")
    assert first.code == 0, first.err
    assert first.json["rows"] >= 2
    assert call("release", "--key", "held").code == 0
    waiting = call("status", "--json").json
    assert ReservationState.GRANTED in {row["state"] for row in waiting}
    assert call("ingest", "kubernetes+gangplan", "--json").code == 0
    unknown = call("ingest", "kubernetes+nowhere")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert "nowhere" in unknown.err


def _asked(key: str, gpus: int) -> tuple[str, ...]:
    pods = ("--pods", "1", "--gpus", str(gpus), "--accelerator", "h100")
    return "--tenant", "vision", *pods, "--duration", "1h", "--key", key
