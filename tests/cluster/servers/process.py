"""One server of the cluster as a process of ours: started, killed, started again, stopped by its id."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class NotStarted(Exception):
    """A server did not come up; the end of its log is in the message."""


@dataclass(kw_only=True)
class Server:
    """A server, its command, and where its output goes."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it ends with the process that started it, however that ends."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**_plain_environment(), **self.environment},
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    @property
    def runs(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, patience: float = 5.0) -> None:
        """Let it end, or kill it when it does not."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it at once, as a machine that loses power does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def wait_until(self, good: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until it does its work; one that ended meanwhile is named with the end of its log."""
        deadline = time.monotonic() + seconds
        while not good():
            if not self.runs or time.monotonic() > deadline:
                end = self.log.read_text(errors="replace")[-3000:]
                raise NotStarted(f"{self.name} did not come up; see {self.log}:\n{end}")
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _plain_environment() -> dict[str, str]:
    """Return our environment without what would turn the servers to another cluster or a proxy."""
    dropped = ("KUBECONFIG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {name: value for name, value in os.environ.items() if name.upper() not in dropped}


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
