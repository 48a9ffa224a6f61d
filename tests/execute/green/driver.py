"""A node with two GPUs for tests: the double of NVIDIA's library, compiled here, and the agent as a process on it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("double") / "nvml.c"


def compiled(folder: Path) -> Path:
    """Compile the double and return the folder that the loader shall look into; skip where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the double of libnvidia-ml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return folder


@dataclass
class Machine:
    """A machine: its GPUs' memory, and what processes on it see."""

    library: Path
    memory: Path
    kubeconfig: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a process that finds the double."""
        own = {
            "LD_LIBRARY_PATH": str(self.library),
            "NVML_DOUBLE": str(self.memory),
            "KUBECONFIG": str(self.kubeconfig),
        }
        return {**os.environ, **own, "GANGPLAN_NOW": "", **more}

    def agent(self, node: str, *, every: int = 1, **more: str) -> subprocess.Popen[str]:
        """Start an agent as the DaemonSet does."""
        words = [sys.executable, "-m", "gangplan", "power", "agent", "--every", str(every)]
        started = subprocess.Popen(
            words,
            env=self.environment(NODE_NAME=node, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(started)
        return started

    def gpus(self) -> list[tuple[int, int, int]]:
        """Each GPU's limit in watts, its locked clock in MHz (0: free), and how often its limit was set."""
        rows = self.memory.read_text().split("\n") if self.memory.exists() else []
        told = [tuple(map(int, row.split())) for row in rows if row]
        return [(limit // 1000, clock, sets) for limit, clock, sets in told] or [(700, 0, 0)] * 2

    def limits(self) -> set[int]:
        """The limits of its GPUs in watts."""
        return {limit for limit, _, _ in self.gpus()}

    def clocks(self) -> set[int]:
        """The locked clocks of its GPUs."""
        return {clock for _, clock, _ in self.gpus()}

    def restart(self) -> None:
        """Forget limits and clocks, as a machine does that starts anew."""
        self.memory.unlink(missing_ok=True)

    def end(self) -> None:
        """End what runs."""
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str], kind: int = signal.SIGTERM) -> tuple[int, list[dict[str, object]], str]:
    """Signal a process; return its exit code, the entries of its log, and what it said on standard error."""
    process.send_signal(kind)
    out, err = process.communicate(timeout=60)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err
