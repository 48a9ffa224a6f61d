"""What a controller answers over HTTP: its figures, whether it lives, and whether it can take over."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from gangplan.errors import InputError

Answer = Callable[[], tuple[int, str]]

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """A small HTTP server of plain texts; `port` is the one that it listens on, also where 0 was asked for."""

    def __init__(self, listen: str, answers: dict[str, Answer]) -> None:
        host, port = _address(listen)
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(answers))
        except OSError as error:
            raise InputError("--listen", listen, f"cannot be listened on: {error.strerror}") from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InputError("--listen", listen, "is no address: give it like 127.0.0.1:9095")
    return host.strip("[]"), int(port)


def _handler(answers: dict[str, Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # one that asks nothing holds a thread no longer

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            status, text = (404, "ask for " + ", ".join(answers)) if answer is None else answer()
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", _PROMETHEUS)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: probes ask every few seconds."""

    return Handler
