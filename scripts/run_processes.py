"""The processes of `make run`: the services beside it, and none that outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from gangplan.errors import UnavailableError

MARK = "GANGPLAN_RUN_CYCLE"  # in the environment of every process of a run: by it, a later run finds what was left

START_S = 180
"""How long the services may take to answer."""

FORKS = 2
"""Generations of forks that end with their parents: the executor's workers and their task processes."""

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def end_leftovers(home: str) -> None:
    """End the processes of an earlier run that was killed; they carry the mark of this home."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    left = [process for process in psutil.process_iter() if process.pid not in own and _is_ours(process, home)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=10)


def _is_ours(process: psutil.Process, home: str) -> bool:
    """Tell whether a process belongs to a run in this home."""
    try:
        return process.environ().get(MARK) == home
    except (psutil.Error, OSError):  # another user's, or gone
        return False


def die_with_parent(parent: int) -> None:
    """Have the system end this process when its parent ends, where the system can (Linux)."""
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a service that ends in good order may take a minute
        if os.getppid() != parent:
            os._exit(1)


def spawn(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start Python beside this process, for as long as this one lives."""
    parent = os.getpid()
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: die_with_parent(parent),
    )


def bind_forks() -> None:
    """Make the executor's workers, and the task processes that these fork, end with their parents."""
    line = [os.getpid()]  # this process, then the forks down to the one that reads it

    def in_child() -> None:
        if len(line) <= FORKS:
            die_with_parent(line[-1])
        line.append(os.getpid())

    os.register_at_fork(after_in_child=in_child)


class Services:
    """The processes beside this one: the API that tasks report to, and the triggerer."""

    def __init__(self, log: Path) -> None:
        self.log = log
        address = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
        self.health = f"{address}health"
        port = os.environ["AIRFLOW__API__PORT"]
        api = ("api-server", "--apps", "execution", "--workers", "1", "--host", "127.0.0.1", "--port", port)
        self.processes = {"api-server": spawn("-m", "airflow", *api)}

    def check(self, *_: object) -> None:
        """Raise when a service has died: no task could go on."""
        for name, process in self.processes.items():
            if (code := process.poll()) is not None:
                raise UnavailableError(f"{name}: ended with {code}: see {self.log}, then start again")

    def wait(self) -> None:
        """Return when the API answers; start the triggerer then, which has time until the first task defers."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(self.health, timeout=2):  # noqa: S310 - our own loopback address
                    self.processes["triggerer"] = spawn("-m", "airflow", "triggerer", "--skip-serve-logs")
                    return
            except OSError:
                time.sleep(0.1)
        raise UnavailableError(f"api-server: did not answer within {START_S} s: see {self.log}")

    def stop(self) -> None:
        """End the services, and whatever else this process still has below it."""
        for process in self.processes.values():
            process.terminate()
        below = psutil.Process().children(recursive=True)
        known = {process.pid for process in self.processes.values()}
        for process in below:
            if process.pid not in known and process.ppid() == os.getpid():
                process.kill()
        _, stubborn = psutil.wait_procs(below, timeout=3)
        for process in stubborn:
            process.kill()


@contextmanager
def services(log: Path) -> Iterator[Services]:
    """Run the services while the block runs; every second it is seen to that they live."""
    bind_forks()
    running = Services(log)
    try:
        signal.signal(signal.SIGALRM, running.check)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
        yield running
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        running.stop()
