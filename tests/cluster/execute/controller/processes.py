"""Controllers as processes beside a test, logged in as the manifests' service account with exactly its rights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gangplan.kube.access import manifests
from tests.cluster.conftest import Space
from tests.cluster.servers.process import free_ports

ACCOUNT = "gangplan-controller"
LEASE_S = 3


@dataclass
class Running:
    """One controller."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Return what it answers; (0, "") while it does not."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=1) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return 0, ""

    def figure(self, name: str) -> float:
        """Return one of its figures, by its name with labels; 0 where there is none."""
        lines = (line.rpartition(" ") for line in self.get("/metrics")[1].splitlines())
        return next((float(value) for label, _, value in lines if label == name), 0.0)

    @property
    def leads(self) -> bool:
        """Whether it says that it leads."""
        return self.figure("gangplan_leader") == 1

    @property
    def ready(self) -> bool:
        """Whether it has listed all that it watches."""
        return self.get("/readyz")[0] == 200

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def said(self, message: str) -> list[dict[str, Any]]:
        """Return the lines of its log with that beginning; all must be JSON."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["message"].startswith(message)]


def account(space: Space, folder: Path) -> Path:
    """Make the controller's account with its printed rights, and return a kubeconfig that logs in as it."""
    space.give_printed_rights()
    space.give(manifests(space.name, controller=True))
    return space.log_in(ACCOUNT, folder / "kubeconfig-controller")


@contextmanager
def running(space: Space, kubeconfig: Path, home: Path, count: int, **environment: str) -> Iterator[list[Running]]:
    """Run controllers beside the block; what of them still runs after it is killed."""
    made = [_start(space, kubeconfig, home, port, environment) for port in free_ports(count)]
    try:
        yield made
    except BaseException as error:
        for one in made:
            error.add_note(f"{one.log}:\n{one.log.read_text()[-4000:]}")
        raise
    finally:
        for one in made:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()


def _start(space: Space, kubeconfig: Path, home: Path, port: int, environment: dict[str, str]) -> Running:
    own = {
        "KUBECONFIG": str(kubeconfig),
        "GANGPLAN_LEDGER": f"kueue://gangplan/{space.name}/queue",
        "GANGPLAN_HOME": str(home),
        **environment,
    }
    log = home / f"controller-{port}.log"
    options = [f"--listen=127.0.0.1:{port}", f"--lease={LEASE_S}s", f"--namespace={space.name}", "--every=2s"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gangplan", "controller", *options],
            env={**os.environ, **own},
            stdout=out,
            stderr=out,
        )
    return Running(process, port, log)
