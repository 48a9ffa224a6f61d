"""The cluster that the tier runs on: that of KUBECONFIG, or one of its own; each test has a namespace of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import yaml

from gangplan.errors import NotFoundError
from gangplan.kube.access import manifests
from gangplan.kube.api import Api, connect
from gangplan.reserve.kueue.ledger import KueueLedger, Place
from gangplan.reserve.kueue.objects import names
from tests.cluster.groups import Grouped
from tests.cluster.servers import build, fleet
from tests.cluster.servers.cluster import Cluster, Options
from tests.cluster.servers.node import node
from tests.cluster.servers.node.node import Node

T = TypeVar("T")
Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".run" / "cluster-logs"
SOON_S = 20.0
REAL_NODES = 3
RIGHTS = {
    "ServiceAccount": "/api/v1/namespaces/{0}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{0}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{0}/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}
_KUBECONFIG, _LOGS = "GANGPLAN_TEST_KUBECONFIG", "GANGPLAN_TEST_CLUSTER_LOGS"
_CLUSTER = pytest.StashKey[Cluster]()
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every test of the tier live in the present: Kueue and its API server know no other time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.present("the cluster's servers live by the machine's clock"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouped:
    """Give tests that share servers of their own to one worker."""
    return Grouped(config, log)


def until(good: Callable[[], T], seconds: float = SOON_S, why: str = "") -> T:
    """Wait until something is true, and return it; never for a fixed time."""
    deadline = time.monotonic() + seconds
    while True:
        found = good()
        if found:
            return found
        assert time.monotonic() < deadline, why or f"not within {seconds} s: {found!r}"
        time.sleep(0.05)


class MovedClock:
    """The machine's clock, moved ahead by what a test says: Kueue's own cannot be."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        """Return the moved moment."""
        return datetime.now(UTC) + self.ahead

    def advance(self, by: timedelta) -> None:
        """Move on."""
        self.ahead += by


@dataclass
class Space:
    """A namespace and queues of one test's own; all of it goes away with the test."""

    api: Api
    kubeconfig: Path
    name: str
    clock: MovedClock = field(default_factory=MovedClock)
    made: list[str] = field(default_factory=list[str])
    ledgers: list[KueueLedger] = field(default_factory=list[KueueLedger])

    def make(self, path: str, body: Object) -> Object:
        """Create an object that goes away with the test."""
        made = self.api.create(path, body)
        self.made.append(f"{path}/{body['metadata']['name']}")
        return made

    def flavor(self, accelerator: str = "h100", *, pool: str = "h100-owned", topology: str = "") -> str:
        """Make a flavor of a pool's nodes; its name is the test's own."""
        name = f"{self.name}-{accelerator}"
        self.make(f"{names.API}/resourceflavors", fleet.flavor(pool, accelerator, name=name, topology=topology))
        return name

    def queue(self, quotas: dict[str, int], *, local: str = "queue", cohort: str = "", **rules: Any) -> str:
        """Make a ClusterQueue with so many GPUs of each flavor, and its LocalQueue; wait until both are active."""
        name = f"{self.name}-{local}"
        cohort = f"{self.name}-{cohort}" if cohort else ""
        self.make(f"{names.API}/clusterqueues", fleet.cluster_queue(name, quotas, cohort=cohort, **rules))
        path = f"{names.API}/namespaces/{self.name}/localqueues"
        self.make(path, fleet.local_queue(self.name, local, name))
        until(lambda: _active(self.api.get(f"{path}/{local}")), why=f"LocalQueue {local} is not active")
        return name

    def ledger(self, local: str = "queue", **place: Any) -> KueueLedger:
        """Open a ledger on a LocalQueue, as the administrator, on the test's clock."""
        api = connect(kubeconfig=str(self.kubeconfig))
        opened = KueueLedger(api, Place(namespace=self.name, queue=local, **place), clock=self.clock)
        self.ledgers.append(opened)
        return opened

    def workload(self, name: str) -> Object:
        """Return a Workload as it stands."""
        return self.api.get(f"{names.workloads(self.name)}/{name}")

    def condition(self, name: str, kind: str) -> str:
        """Return a Workload's condition as its status and its reason."""
        found = self.workload(name).get("status", {}).get("conditions", ())
        return next((f"{one['status']} {one['reason']}" for one in found if one["type"] == kind), "")

    def give_printed_rights(self) -> None:
        """Make the account `gangplan` with the rights that `gangplan kube manifests` prints, and no others."""
        self.give(manifests(self.name))

    def give(self, items: Iterable[Object]) -> None:
        """Make the accounts, roles and bindings among printed objects."""
        for one in items:
            if one["kind"] in RIGHTS:
                path = f"{RIGHTS[one['kind']].format(one['metadata'].get('namespace', ''))}/{one['metadata']['name']}"
                self.api.apply(path, one)
                if self.name in one["metadata"]["name"] and path not in self.made:
                    self.made.append(path)

    def log_in(self, account: str, file: Path) -> Path:
        """Write a kubeconfig that logs in as an account of this namespace, and return it."""
        path = f"/api/v1/namespaces/{self.name}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self.api.create(path, body)["status"]["token"]}
        file.write_text(yaml.safe_dump(config))
        return file

    def log(self, pod: str) -> str:
        """Return what a pod wrote."""
        command = [build.binary("kubectl"), "--kubeconfig", self.kubeconfig, "-n", self.name, "logs", pod]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def clear(self) -> None:
        """Delete all that the test made, the namespace last; Kueue lets go of queues that nothing uses."""
        for ledger in self.ledgers:
            ledger.close()
        for path in (names.workloads(self.name), f"/apis/batch/v1/namespaces/{self.name}/jobs"):
            self.api.call("DELETE", path, {"propagationPolicy": "Background"})
        for path in reversed(self.made):
            try:
                self.api.delete(path)
            except NotFoundError:
                continue


def _active(queue: Object) -> bool:
    conditions = queue.get("status", {}).get("conditions", ())
    return any(one["type"] == "Active" and one["status"] == "True" for one in conditions)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start one cluster for all workers, in the process that starts them, unless KUBECONFIG names one."""
    if hasattr(session.config, "workerinput") or os.environ.get("KUBECONFIG") or build.missing():
        return
    cluster = Cluster(Options(real_nodes=0 if node.missing() else REAL_NODES)).start()
    session.config.stash[_CLUSTER] = cluster
    cluster.apply([fleet.topology()])
    cluster.create_all("/api/v1/nodes", fleet.nodes(fleet.DEFAULT))
    os.environ[_KUBECONFIG], os.environ[_LOGS] = str(cluster.kubeconfig), str(cluster.logs)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what was started."""
    cluster = config.stash.get(_CLUSTER, None)
    if cluster is not None:
        cluster.stop()


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The administrator's kubeconfig of the cluster that the tests share."""
    named = os.environ.get("KUBECONFIG") or os.environ.get(_KUBECONFIG)
    if not named:
        pytest.skip(build.missing())
    return Path(named)


@pytest.fixture(scope="session")
def real_nodes(kubeconfig: Path) -> Iterator[list[Node]]:
    """Two nodes of 8 counted GPUs whose pods really run, of the pool `real`. A third may join, and be lost."""
    why = "no real node joins the cluster of KUBECONFIG" if os.environ.get("KUBECONFIG") else node.missing()
    if why:
        pytest.skip(why)
    nodes = node.all_of(kubeconfig.parent)[:2]
    try:
        yield [one.start() for one in nodes]
    finally:
        for one in nodes:
            one.stop()


@pytest.fixture(scope="session")
def own() -> Iterator[Cluster]:
    """A second cluster, whose servers a test may kill, and where Kueue waits 15 s for pods to be ready."""
    if why := build.missing():
        pytest.skip(why)
    cluster = Cluster(Options(wait_for_pods_ready="15s")).start()
    try:
        cluster.apply([fleet.topology()])
        cluster.create_all("/api/v1/nodes", fleet.nodes(fleet.DEFAULT))
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def own_space(own: Cluster) -> Iterator[Space]:
    """An empty namespace on the second cluster."""
    yield from _space(own.api, own.kubeconfig)


@pytest.fixture(scope="session")
def karpenter() -> Iterator[Cluster]:
    """A cluster with Karpenter and no nodes yet; only files with its name in theirs use it (groups.py)."""
    modules = (*build.USUAL, "karpenter")
    if why := build.missing(modules):
        pytest.skip(why)
    with Cluster(Options(karpenter=True)) as cluster:
        yield cluster


@pytest.fixture
def karpenter_space(karpenter: Cluster) -> Iterator[Space]:
    """An empty namespace on the cluster with Karpenter."""
    yield from _space(karpenter.api, karpenter.kubeconfig)


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Api:
    """The cluster, as its administrator."""
    return connect(kubeconfig=str(kubeconfig))


@pytest.fixture
def space(api: Api, kubeconfig: Path) -> Iterator[Space]:
    """An empty namespace."""
    yield from _space(api, kubeconfig)


def _space(api: Api, kubeconfig: Path) -> Iterator[Space]:
    name = f"t{next(_numbers)}-{uuid4().hex[:8]}"
    api.create("/api/v1/namespaces", fleet.namespace(name))
    made = Space(api=api, kubeconfig=kubeconfig, name=name, made=[f"/api/v1/namespaces/{name}"])
    yield made
    made.clear()


@pytest.fixture
def queue(space: Space) -> str:
    """A ClusterQueue with 8 GPUs of an h100, alone in no cohort, and its LocalQueue `queue`."""
    return space.queue({space.flavor(): 8})


@pytest.fixture
def ledger(space: Space, queue: str) -> KueueLedger:
    """A ledger on the 8 GPUs."""
    return space.ledger()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep every server's log when a test fails."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {})
        own = used.get("own") or used.get("karpenter")
        logs = str(own.logs) if own is not None else os.environ.get(_LOGS, "")
        if logs and Path(logs).is_dir():
            folder = KEPT / item.name.replace("/", "_")
            shutil.copytree(logs, folder, dirs_exist_ok=True)
            report.sections.append(("servers", f"their logs are in {folder}"))
    return report
