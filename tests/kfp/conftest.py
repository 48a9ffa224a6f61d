"""A ledger with eight GPUs, and KFP's own local runner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import kfp
import pytest
from filelock import FileLock
from kfp import local
from tests.kfp import world as worlds
from tests.kfp.server.app import Double, serving
from tests.kfp.server.backend import Backend

from gangplan.config import present
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import fixed_clock
from gangplan.types import (
    LAB,
    CapacityCalendar,
    CapacityInterval,
    GangRequest,
    PlanId,
    PodSet,
    Reservation,
)


@pytest.fixture
def wish() -> dict[str, Any]:
    """All of the lab for half an hour, as a component's parameters."""
    return {"tenant": "vision", "accelerators": ["h100-lab"], "pods": 2, "gpus_per_pod": 4, "duration": "30m"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder that the steps' environment names."""
    folder = tmp_path / "home"
    monkeypatch.setenv("GANGPLAN_HOME", str(folder))
    return folder


@pytest.fixture
def ledger_url(home: Path) -> str:
    """The URL of the home's ledger, in which the lab's two nodes are on offer from now on."""
    home.mkdir()
    url = f"sqlite:///{home / 'ledger.db'}"
    start = present() - timedelta(hours=1)
    offered = CapacityInterval(pool=LAB.name, start=start, end=start + timedelta(days=2), nodes=2)
    with open_ledger(url) as ledger:
        ledger.publish(CapacityCalendar(plan_id=PlanId("first"), pools=(LAB,), intervals=(offered,)))
    return url


@pytest.fixture
def held(ledger_url: str) -> Reservation:
    """Somebody else's reservation of the whole lab."""
    request = GangRequest(
        request_key="somebody-else",
        tenant="search",
        pod_sets=(PodSet(count=2, gpus_per_pod=4),),
        accelerators=("h100-lab",),
        duration=timedelta(minutes=30),
    )
    with open_ledger(ledger_url) as ledger:
        return ledger.submit(request)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """KFP's local runner, as the tests' way to run steps and pipelines; returns where it keeps their outputs."""
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def ledger(ledger_url: str) -> Callable[[], Ledger]:
    """Opens the ledger, as another process would."""
    return lambda: open_ledger(ledger_url)


@pytest.fixture(scope="session")
def one_kfp_server() -> Iterator[Double]:
    """A KFP server for all tests of a worker."""
    with serving() as double:
        yield double


@pytest.fixture
def kfp_server(one_kfp_server: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Double]:
    """A KFP server, generated from KFP's own definitions, with nothing in it yet; the environment names it."""
    one_kfp_server.backend = Backend()
    for name in ("KUBERNETES_SERVICE_HOST", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    monkeypatch.setenv("GANGPLAN_KFP_HOST", one_kfp_server.url)
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "no-context"))  # this machine's own settings
    yield one_kfp_server
    one_kfp_server.backend.held.set()


@pytest.fixture(scope="session")
def world_template(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """The small world's home, made once for all workers."""
    root = mlflow_template.parent.parent
    home = root / "kfp-world"
    with FileLock(root / "kfp-world.lock"), fixed_clock():
        if not (home / "whole").exists():
            worlds.build(home, mlflow_template)
            (home / "whole").touch()
    return home


@pytest.fixture
def world(world_template: Path, tmp_path: Path) -> worlds.World:
    """The small world, as the test's own: champion 1 steers, challenger 2 waits for a person."""
    return worlds.copy(world_template, tmp_path / "home")
