"""Clients of a real Kueue: a bare one and our ledger, in turns, and Kueue's own load through it."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from heapq import heappop, heappush
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Event
from typing import Any, Protocol, TypeVar

from tests.cluster.objects import bare
from tests.cluster.servers import fleet
from tests.cluster.servers.cluster import Cluster

from benchmarks.parts.load import clients
from benchmarks.parts.load.floor import SECOND
from benchmarks.parts.load.kueue_load import Gang, Load, gangs_of
from gangplan.clock import system_clock
from gangplan.kube.api import Api, connect
from gangplan.kube.mirror import Mirror
from gangplan.progress import Progress
from gangplan.reserve import open_ledger
from gangplan.reserve.kueue.ledger import KueueLedger, Place
from gangplan.reserve.kueue.objects import names
from gangplan.testing import a_request
from gangplan.types import PodSet, ReservationId, ReservationState, Token

SPACE, BARE_SPACE, QUEUE = "bench", "bare", "queue"
ONE = (PodSet(count=1, gpus_per_pod=1),)
MANY = 100_000
_numbers = itertools.count()
T = TypeVar("T")


def furnish(cluster: Cluster, wanted: fleet.Fleet) -> None:
    """Make nodes, the tenants' queues, and one queue that admits all."""
    cluster.create_all("/api/v1/nodes", fleet.nodes(wanted))
    cluster.apply(
        [
            *fleet.queues(wanted),
            fleet.namespace(SPACE),
            fleet.namespace(BARE_SPACE),
            fleet.flavor("h100-owned", "h100", name="bench", topology=""),
            fleet.cluster_queue("bench", {"bench": MANY}),
            fleet.local_queue(SPACE, QUEUE, "bench"),
            fleet.local_queue(BARE_SPACE, QUEUE, "bench"),
        ]
    )


def first_admitted(cluster: Cluster) -> None:
    """Reserve one gang by the tenants' queue, on nodes that the topology knows."""
    place = Place(namespace=fleet.TENANTS[0], queue=fleet.QUEUE)
    with KueueLedger(cluster.api, place, clock=system_clock) as ledger:
        first = ledger.submit(a_request("first"))
        held = ledger.wait(first.id, timeout=timedelta(seconds=60))
        assert held.state is ReservationState.GRANTED, held


class Client(Protocol):
    """Takes a gang of one GPU and gives it back."""

    def hold(self, name: str) -> None:
        """Return when it is granted."""

    def drop(self, name: str) -> None:
        """Give it back."""

    def close(self) -> None:
        """End the watch."""


class Bare:
    """A client that creates a Workload, hears by a watch that it is admitted, and deletes it."""

    def __init__(self, cluster: Cluster) -> None:
        self.api: Api = connect(kubeconfig=str(cluster.kubeconfig))
        self.path = names.workloads(BARE_SPACE)
        self._news = Condition()
        self._admitted: set[str] = set()
        self._mirror: Mirror[bool] = Mirror(self.api, self.path, _admitted, self._hear)
        self._mirror.start()
        self._mirror.ready.wait()

    def _hear(self, name: str, before: bool | None, now: bool | None) -> None:
        if now:
            with self._news:
                self._admitted.add(name)
                self._news.notify_all()

    def hold(self, name: str) -> None:
        """Create a Workload and wait until it is admitted."""
        self.api.create(self.path, bare(BARE_SPACE, name, 1))
        key = f"{BARE_SPACE}/{name}"
        with self._news:
            assert self._news.wait_for(lambda: key in self._admitted, 60), f"{name} was not admitted"

    def drop(self, name: str) -> None:
        """Delete it."""
        self.api.delete(f"{self.path}/{name}")

    def close(self) -> None:
        """End the watch."""
        self._mirror.close()


class Ours:
    """Our ledger as a client; what ended stays recorded."""

    def __init__(self, cluster: Cluster) -> None:
        api = connect(kubeconfig=str(cluster.kubeconfig))
        self._ledger = KueueLedger(api, Place(namespace=SPACE, queue=QUEUE), clock=system_clock)
        self._ledger.serve()
        self._held: dict[str, tuple[ReservationId, Token]] = {}

    def hold(self, name: str) -> None:
        """Submit a request, which is granted at once."""
        held = self._ledger.submit(a_request(name, pod_sets=ONE))
        assert held.token is not None, held
        self._held[name] = held.id, held.token

    def drop(self, name: str) -> None:
        """Release it."""
        self._ledger.release(*self._held.pop(name))

    def close(self) -> None:
        """End the watch."""
        self._ledger.close()


def _admitted(item: dict[str, Any]) -> bool:
    conditions = item.get("status", {}).get("conditions", ())
    return any(one["type"] == "Admitted" and one["status"] == "True" for one in conditions)


def through(client: Client, count: int, threads: int) -> float:
    """Return the seconds for so many reserve-and-release."""
    round_ = next(_numbers)

    def one(number: int) -> None:
        name = f"r{round_}-{number}"
        client.hold(name)
        client.drop(name)

    with ThreadPoolExecutor(threads) as pool:
        begin = time.perf_counter()
        list(pool.map(one, range(count)))
        return time.perf_counter() - begin


def paced(client: Client, count: int, threads: int, rate: int) -> list[float]:
    """Return the milliseconds from submit to granted at a steady rate."""
    begin, round_ = time.perf_counter(), next(_numbers)

    def one(number: int) -> float:
        due, name = begin + number / rate, f"p{round_}-{number}"
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        client.hold(name)
        took = time.perf_counter() - start
        client.drop(name)
        return took * 1000

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(count)))


def in_turns(
    cluster: Cluster, rounds: int, measure: Callable[[Client], T], progress: Progress
) -> tuple[list[T], list[T]]:
    """Measure our ledger and the bare client in short rounds, who comes first drawn each time: what else the machine
    does meets both, and what the servers do every few seconds (they collect garbage) meets neither more often than the
    other. The first round of each is for warmth and does not count.
    """
    ours, other = Ours(cluster), Bare(cluster)
    found: dict[Client, list[T]] = {ours: [], other: []}
    draw = random.Random(7)
    for number in range(rounds + 1):
        progress(number, rounds + 1, "rounds")
        for client in draw.sample((ours, other), 2):
            found[client].append(measure(client))
    for client in found:
        client.close()
    return found[ours][1:], found[other][1:]


# ---------------------------------------------------------------- Kueue's own load


class KueueRun:
    """Kueue's baseline load in real time: bare Workloads, each finished when it has run for its time."""

    def __init__(self, cluster: Cluster, load: Load) -> None:
        self._api = connect(kubeconfig=str(cluster.kubeconfig))
        self._gangs = {gang.key: gang for gang in gangs_of(load)}
        self._news, self._done = Condition(), Event()
        self._due: list[tuple[float, int, str]] = []
        self._seen: set[str] = set()
        self._open = len(self._gangs)
        self._start = 0.0
        self._mirror: Mirror[bool] = Mirror(self._api, names.workloads(SPACE), _admitted, self._hear)

    def makespan(self, progress: Progress) -> float:
        """Return the seconds until every gang is gone."""
        self._mirror.start()
        self._mirror.ready.wait()
        self._start = time.monotonic()
        with ThreadPoolExecutor(96) as pool:
            pool.submit(self._arrive, pool)
            self._end(pool, progress)
        took = time.monotonic() - self._start
        self._mirror.close()
        return took

    def _arrive(self, pool: ThreadPoolExecutor) -> None:
        for gang in self._gangs.values():
            time.sleep(max(0.0, self._start + gang.arrival / SECOND - time.monotonic()))
            pool.submit(self._create, gang)

    def _create(self, gang: Gang) -> None:
        queue = f"q-{gang.tenant}"
        body = bare(SPACE, gang.key, 1, queue=queue, priority=gang.priority)
        body["spec"]["podSets"][0]["count"] = gang.units
        self._api.create(names.workloads(SPACE), body)

    def _hear(self, name: str, before: bool | None, now: bool | None) -> None:
        key = name.rpartition("/")[2]
        if now and key not in self._seen:
            with self._news:
                self._seen.add(key)
                heappush(self._due, (time.monotonic() + self._gangs[key].run / SECOND, len(self._seen), key))
                self._news.notify()

    def _end(self, pool: ThreadPoolExecutor, progress: Progress) -> None:
        while self._open:
            progress(len(self._gangs) - self._open, len(self._gangs), "gangs through Kueue")
            with self._news:
                wait = self._due[0][0] - time.monotonic() if self._due else 1.0
                if wait > 0:
                    self._news.wait(min(wait, 1.0))
                    continue
                key = heappop(self._due)[2]
            pool.submit(self._drop, key)
            self._open -= 1

    def _drop(self, key: str) -> None:
        self._api.delete(f"{names.workloads(SPACE)}/{key}")


def kueue_makespan(cluster: Cluster, load: Load, progress: Progress) -> float:
    """Return the makespan of a load through the real Kueue on this machine; nobody is preempted, as in our own run."""
    tenants = sorted({(gang.cohort, gang.tenant) for gang in gangs_of(load)})
    objects: list[dict[str, Any]] = []
    for cohort, tenant in tenants:
        quotas = {"bench": load.nominal}
        objects.append(fleet.cluster_queue(f"q-{tenant}", quotas, cohort=f"c{cohort}", borrows=load.borrow))
        objects.append(fleet.local_queue(SPACE, f"q-{tenant}", f"q-{tenant}"))
    cluster.apply(objects)
    return KueueRun(cluster, load).makespan(progress)


def own_makespan(load: Load) -> float:
    """Return the makespan of a load through our SQLite ledger on this machine."""
    with TemporaryDirectory(prefix="gangplan-bench-") as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        with open_ledger(url) as ledger:
            clients.prepare(ledger, load)
        seen = clients.drive(url, load, processes=1)
        with open_ledger(url) as ledger:
            clients.check(ledger, load)
    return clients.course_of(seen).makespan
