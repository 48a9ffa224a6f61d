"""An API server that knows one node: it answers gets and watches as Kubernetes does, over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

NODE = "n1"


class NodeApi:
    """The node's labels, and what a process was answered about them; `away` lets the server answer 503."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._version = 1
        self._labels: dict[str, str] = {}
        self.away = False
        self.asked: list[str] = []

    def label(self, **labels: str) -> None:
        """Replace the node's labels; `power` and `clock` are ours."""
        names = {"power": "gangplan.io/power-cap-watts", "clock": "gangplan.io/gpu-clock-mhz"}
        with self._changed:
            self._labels = {names.get(name, name): value for name, value in labels.items()}
            self._version += 1
            self._changed.notify_all()

    @property
    def node(self) -> dict[str, Any]:
        """The node as it stands."""
        return {"metadata": {"name": NODE, "resourceVersion": str(self._version), "labels": dict(self._labels)}}

    def events(self, version: int, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield the node whenever it has changed, for so many seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with self._changed:
                while self._version <= version and left > 0:
                    self._changed.wait(left)
                    left = deadline - time.monotonic()
                if self._version <= version:
                    return
                version, event = self._version, {"type": "MODIFIED", "object": self.node}
            yield event

    @contextmanager
    def serve(self, folder: Path) -> Iterator[Path]:
        """Serve it on a free port; yields the kubeconfig."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlparse(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                api.asked.append(
                    f"{'WATCH' if 'watch' in query else 'GET'} {url.path} {query.get('fieldSelector', '')}"
                )
                if api.away:
                    return self._whole(503, {"message": "away"})
                if "watch" in query:
                    return self._stream(api.events(int(query["resourceVersion"]), float(query["timeoutSeconds"])))
                return (
                    self._whole(200, api.node) if url.path.endswith(f"/{NODE}") else self._whole(404, {"message": "no"})
                )

            def _whole(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, events: Iterator[dict[str, Any]]) -> None:
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for event in events:
                        line = json.dumps(event).encode() + b"\n"
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    self.close_connection = True  # who watched is gone

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        config = {
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        try:
            yield folder / "kubeconfig"
        finally:
            server.shutdown()
            server.server_close()
