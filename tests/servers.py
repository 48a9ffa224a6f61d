"""What tests share that start a server of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def answers(url: str) -> bool:
    """Tell whether something answers there."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own loopback address
            return True
    except OSError:
        return False


def mlflow_server(store_uri: str, folder: Path) -> AbstractContextManager[str]:
    """Let an MLflow tracking server serve a store; give its address. Its log is `server.log` in the folder."""
    words = ["server", "--backend-store-uri", store_uri, "--host", "127.0.0.1", "--workers", "1"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return serving([sys.executable, "-m", "mlflow", *words], environment, folder, "health")


@contextmanager
def serving(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, path: str) -> Generator[str]:
    """Run a server on a free port until it answers on that path; give its address, and kill its group at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    file = folder / "server.log"
    with file.open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        until = time.monotonic() + 300
        while not answers(f"http://127.0.0.1:{port}/{path}"):
            assert process.poll() is None, file.read_text()
            assert time.monotonic() < until, file.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
