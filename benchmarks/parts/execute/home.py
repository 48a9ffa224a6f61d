"""A home folder of gangplan with plans for a cluster, and `gangplan controller` as a process that carries them out."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml
from tests.cluster.servers.cluster import Cluster
from tests.cluster.servers.process import Server, free_ports

from benchmarks.parts.figures import ROOT
from gangplan.clock import floor_hour
from gangplan.config import Settings, write_fleet
from gangplan.plan.store import log_plan, mark
from gangplan.testing import a_forecast, a_plan
from gangplan.tracking import open_store
from gangplan.types import Fleet, PlanId

HOURS = 48
_FORECAST = {("vision", "training", "h100"): [1.0] * 24}


@dataclass(kw_only=True)
class Home:
    """The folder; each published plan holds from the present hour on."""

    folder: Path
    fleet: Fleet
    targets: Mapping[str, Any]
    _count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.settings = Settings(home=self.folder)
        write_fleet(self.settings.fleet_file, self.fleet)
        (self.folder / "targets.yaml").write_text(yaml.safe_dump({"pools": dict(self.targets)}))

    def publish(self, nodes: Mapping[str, int], soon: Mapping[str, int] | None = None) -> None:
        """Publish the plan that has these nodes of each pool, and from the third hour on those of `soon`."""
        store, now = open_store(self.settings, create=True), floor_hour(datetime.now(UTC))
        self._count += 1
        later = soon or nodes
        hours = {pool: [count, count, *[later[pool]] * HOURS] for pool, count in nodes.items()}
        planned = a_plan(now, hours, self.fleet.pools, plan_id=PlanId(f"plan-{self._count}"))
        mark(store, log_plan(planned, a_forecast(_FORECAST, now), store), "published", "by the benchmark")


class Controller:
    """`gangplan controller` with a home, on a cluster; `kill` it, and start it again."""

    def __init__(self, cluster: Cluster, home: Home, ledger: str, *, every: str = "10s", lease: str = "15s") -> None:
        (self._port,) = free_ports(1)
        command = ["controller", "--listen", f"127.0.0.1:{self._port}", "--every", every, "--lease", lease]
        self.server = Server(
            name="controller",
            command=[sys.executable, "-m", "gangplan", *command],
            log=cluster.logs / "controller.log",
            environment={
                "KUBECONFIG": str(cluster.kubeconfig),
                "GANGPLAN_HOME": str(home.folder),
                "GANGPLAN_LEDGER": ledger,
                "PYTHONPATH": os.pathsep.join((str(ROOT / "optimizer"), os.environ.get("PYTHONPATH", ""))),
            },
        )

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.server.stop(20)

    def figure(self, name: str) -> float:
        """Return a figure of its own, summed over labels; 0 while it does not answer."""
        lines = self._answer("/metrics").splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def wait_for(self, name: str, least: float, seconds: float = 120.0) -> None:
        """Wait until a figure is there."""
        deadline = time.monotonic() + seconds
        while self.figure(name) < least:
            if time.monotonic() > deadline or not self.server.runs:
                raise TimeoutError(f"{name} stayed below {least}: see {self.server.log}")
            time.sleep(0.2)

    def memory_mb(self) -> tuple[float, float]:
        """Return its resident memory in MB, now and at most."""
        assert self.server.process is not None
        lines = Path(f"/proc/{self.server.process.pid}/status").read_text().splitlines()
        sizes = {
            line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))
        }
        return sizes["VmRSS"], sizes["VmHWM"]

    def _answer(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""
