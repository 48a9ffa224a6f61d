"""A cluster in name only: a real HTTP server that answers lists as an API server does, and pods and nodes for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gangplan.kube.api import Api, connect
from gangplan.kube.gangs import Seen, read_gangs
from gangplan.testing import NOW

Object = dict[str, Any]
H100 = "NVIDIA-H100-80GB-HBM3"


@dataclass
class Cluster:
    """What the API server has at each path; all other paths are not found, and those in `closed` forbidden."""

    lists: dict[str, Any] = field(default_factory=dict[str, Any])
    objects: dict[str, Object] = field(default_factory=dict[str, Object])
    closed: set[str] = field(default_factory=set[str])
    kubeconfig: Path = Path()

    @property
    def api(self) -> Api:
        """A connection to it."""
        return connect(kubeconfig=str(self.kubeconfig))

    def read(self) -> Seen:
        """Read its gangs."""
        return read_gangs(self.api)

    def demand(self) -> dict[str, float]:
        """Return the accelerators that its gangs ask for now, by name."""
        asked: dict[str, float] = {}
        for gang in self.read().gangs:
            if gang.ended is None:
                asked[gang.accelerator] = asked.get(gang.accelerator, 0.0) + gang.count
        return {name: round(count, 6) for name, count in asked.items()}

    def answer(self, path: str) -> tuple[int, Any]:
        """Answer a GET."""
        if path in self.closed:
            return 403, {"kind": "Status", "message": "is forbidden"}
        if path in self.objects:
            return 200, self.objects[path]
        if path not in self.lists:
            return 404, {"kind": "Status", "message": "the server could not find the requested resource"}
        return 200, {"metadata": {"resourceVersion": "1"}, "items": self.lists[path]}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An API server on a free port, with two nodes of 8 H100 and no pods."""
    made = Cluster(lists={"/api/v1/nodes": [a_node("n1"), a_node("n2")], "/api/v1/pods": []})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = made.answer(self.path.partition("?")[0])
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made.kubeconfig = tmp_path / "kubeconfig"
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    made.kubeconfig.write_text(json.dumps(config))
    yield made
    server.shutdown()
    server.server_close()


def ago(**how_long: float) -> str:
    """Return a moment before now, as Kubernetes writes it."""
    return (NOW - timedelta(**how_long)).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_node(name: str, product: str = H100, allocatable: dict[str, str] | None = None, **labels: str) -> Object:
    """Return a node of 8 GPUs; `labels` come on top of its product."""
    named = {"nvidia.com/gpu.product": product} if product else {}
    return {
        "metadata": {"name": name, "uid": name, "labels": named | labels},
        "status": {
            "allocatable": allocatable or {"cpu": "64", "nvidia.com/gpu": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def a_pod(name: str, asks: dict[str, str] | None = None, *, node: str = "n1", **changes: Any) -> Object:
    """Return a running pod of 4 GPUs, with these parts of its spec, its metadata and its status changed."""
    asks = {"nvidia.com/gpu": "4"} if asks is None else asks
    spec = {
        "containers": [{"name": "main", "resources": {"limits": asks}}],
        "nodeName": node,
        **changes.get("spec", {}),
    }
    meta = {"name": name, "namespace": "vision", "uid": name, "creationTimestamp": ago(hours=30)}
    running = {"phase": "Running", "startTime": ago(hours=29)}
    return {
        "metadata": meta | changes.get("metadata", {}),
        "spec": {key: value for key, value in spec.items() if value},
        "status": changes.get("status", running),
    }
