"""The blocks of the guides that read a cluster or a Prometheus run as they stand, against servers of the tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from os import environ
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from markdown_it import MarkdownIt
from tests.kube.conftest import Cluster, a_pod, cluster  # noqa: F401 - the fixture

PAGE = Path(__file__).resolve().parents[2] / "docs" / "telemetry.md"


def _run(tag: str, folder: Path, **variables: str) -> str:
    """Paste the page's blocks of a tag into a shell that stands in a folder, and return what they print."""
    fences = [token for token in MarkdownIt().parse(PAGE.read_text()) if token.type == "fence"]
    script = "\n".join(token.content for token in fences if token.info.split() == ["bash", tag])
    path = f"{Path(sys.executable).parent}:{environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**environ, "PATH": path, "COLUMNS": "160", "NO_COLOR": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout


@pytest.fixture
def folder(tmp_path: Path, mlflow_template: Path) -> Path:
    """A folder whose home has its migrated database."""
    file = tmp_path / ".gangplan" / "mlflow" / "mlflow.db"
    file.parent.mkdir(parents=True)
    shutil.copy(mlflow_template, file)
    return tmp_path


def test_a_cluster_is_read_as_the_guide_says(cluster: Cluster, folder: Path) -> None:  # noqa: F811
    """Demand, use and fleet come out."""
    cluster.lists["/api/v1/pods"] = [a_pod("train"), a_pod("wait", node="", status={"phase": "Pending"})]
    said = _run("kubernetes", folder, KUBECONFIG=str(cluster.kubeconfig))
    assert "vision" in said
    assert "accelerator: h100" in (folder / "fleet.yaml").read_text()


@pytest.fixture
def address() -> Iterator[str]:
    """A server that speaks Prometheus' API and knows one tenant with four H100."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            promql, end = form["query"][0], float(form["end"][0])
            labels = {"namespace": "search", "node": "n1", "resource": "nvidia_com_gpu"}
            if promql.startswith("avg by"):
                labels = {"Hostname": "n1", "modelName": "NVIDIA H100 80GB HBM3"}
            known = promql.startswith(("sum_over_time", "avg by"))
            values = [[end - 3600 * back, "4"] for back in range(3)]
            result: list[Any] = [{"metric": labels, "values": values}] if known else []
            body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_prometheus_is_read_as_the_guide_says(address: str, folder: Path) -> None:
    """Demand comes out, and what the server does not have is said."""
    said = _run("prometheus", folder, PROMETHEUS=address)
    assert "no series of kube_namespace_labels" in said
