"""Whatever servers answer is read right or named: Prometheus, a cluster, MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.telemetry.malformed import Answers, answering, damaged, listed, loaded, mutated, tries, write_kubeconfig

from gangplan.testing import NOW


@pytest.fixture(scope="module")
def server() -> Iterator[Answers]:
    """A server whose answers each case sets."""
    with answering() as answers:
        yield answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for one input at a time."""
    return tmp_path_factory.mktemp("malformed")


def _matrix(random: Random) -> Any:
    """Draw an answer of Prometheus."""
    labels = {"namespace": "search", "node": "n1", "Hostname": "n1", "modelName": "NVIDIA H100", "nodename": "n1"}
    labels |= {"pod": "p", "container": "c", "resource": "nvidia_com_gpu", "uid": "u"}
    labels |= {"label_gangplan_io_workload_class": "latency"}
    first = NOW.timestamp() - 3600 * random.randint(1, 20)
    values = [[first + 3600 * hour, str(random.randint(0, 8))] for hour in range(random.randint(1, 12))]
    return {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": labels, "values": values}]}}


@tries(20, 250)
def test_answers_of_prometheus(seed: int, server: Answers) -> None:
    """Metrics with wrong parts, complaints, pages of other servers, answers that are cut off."""
    random = Random(seed)

    def reply(path: str) -> tuple[int, bytes]:
        body = json.dumps(_matrix(random) if random.random() < 0.3 else mutated(random, _matrix(random))).encode()
        if random.random() < 0.1:
            body = random.choice([b"", b"<html>log in</html>", b"null", b"[]", b"[" * 5000, damaged(random, body)])
        return random.choice([*[200] * 20, 400, 404, 422, 500, 503, 302, 401]), body

    server.reply = reply
    loaded(f"prometheus+{server.url}?days=1")


@tries(40, 250)
def test_lists_of_a_cluster(seed: int, server: Answers, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods, nodes and workloads with wrong or missing parts."""
    random = Random(seed)
    write_kubeconfig(folder / "kubeconfig", server.url)
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))

    def reply(path: str) -> tuple[int, bytes]:
        tree = listed(path)
        tree["items"] *= random.randint(1, 2)
        changed = {**tree, "items": mutated(random, tree["items"])} if tree["items"] else tree
        return 200, json.dumps(changed if random.random() < 0.7 else tree).encode()

    server.reply = reply
    loaded("kubernetes+-")


def _answer_of_mlflow(random: Random, path: str) -> Any:
    """Draw what a tracking server answers to a path."""
    began = int(NOW.timestamp() * 1000) - 7_200_000
    key = "system/gpu_0_utilization_percentage"
    if "experiments" in path:
        return {"experiments": [{"experiment_id": "1", "name": "vision", "lifecycle_stage": "active"}]}
    if "runs/search" in path:
        info = {"run_id": "r1", "experiment_id": "1", "status": "FINISHED", "lifecycle_stage": "active"}
        times = {"start_time": began, "end_time": began + 3_600_000, "artifact_uri": "file:///x", "user_id": "u"}
        newest = {"key": key, "value": 3.0, "timestamp": began + 60_000, "step": 1}
        tags = [{"key": "gangplan.tenant", "value": random.choice(["vision", "two words", ""])}]
        return {"runs": [{"info": {**info, **times}, "data": {"metrics": [newest], "tags": tags}}]}
    times = (began + 60_000 * step for step in range(3))
    return {"metrics": [{"run_id": "r1", "key": key, "value": 80.0, "timestamp": time, "step": 1} for time in times]}


@tries(30, 200)
def test_answers_of_mlflow(seed: int, server: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments, runs and histories with wrong or missing parts, pages of other servers."""
    random = Random(seed)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def reply(path: str) -> tuple[int, bytes]:
        if path.startswith("/health"):
            return 200, b"OK"
        tree = _answer_of_mlflow(random, path)
        body = json.dumps(mutated(random, tree) if random.random() < 0.5 else tree).encode()
        if random.random() < 0.1:
            body = random.choice([b"", b"<html>log in</html>", b"null", b"[]", damaged(random, body)])
        return random.choice([*[200] * 20, 400, 404, 500, 503, 401, 403]), body

    server.reply = reply
    loaded(f"mlflow+{server.url}")
