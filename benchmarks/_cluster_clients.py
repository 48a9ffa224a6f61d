"""Clients of a real Kueue: a bare one, our ledger's, and Kueue's own load through it."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Condition, Event
from typing import Any

from tests.cluster.objects import bare
from tests.cluster.servers import fleet
from tests.cluster.servers.cluster import Cluster

from benchmarks import _clients
from benchmarks._floor import SECOND
from benchmarks._kueue_load import Gang, Load, gangs_of
from gangplan.clock import system_clock
from gangplan.kube.api import Api, connect
from gangplan.kube.mirror import Mirror
from gangplan.reserve import open_ledger
from gangplan.reserve.kueue import names
from gangplan.reserve.kueue.ledger import KueueLedger, Place
from gangplan.testing import a_request
from gangplan.types import PodSet, ReservationState, Token

SPACE, QUEUE = "bench", "queue"
ONE = (PodSet(count=1, gpus_per_pod=1),)
MANY = 100_000
_numbers = itertools.count()


def furnish(cluster: Cluster, wanted: fleet.Fleet) -> None:
    """Make nodes, the tenants' queues, and one queue that admits all."""
    cluster.create_all("/api/v1/nodes", fleet.nodes(wanted))
    cluster.apply(
        [
            *fleet.queues(wanted),
            fleet.namespace(SPACE),
            fleet.flavor("h100-owned", "h100", name="bench", topology=""),
            fleet.cluster_queue("bench", {"bench": MANY}),
            fleet.local_queue(SPACE, QUEUE, "bench"),
        ]
    )


def first_admitted(cluster: Cluster) -> None:
    """Reserve one gang by the tenants' queue, on nodes that the topology knows."""
    place = Place(namespace=fleet.TENANTS[0], queue=fleet.QUEUE)
    with KueueLedger(cluster.api, place, clock=system_clock) as ledger:
        first = ledger.submit(a_request("first"))
        held = ledger.wait(first.id, timeout=timedelta(seconds=60))
        assert held.state is ReservationState.GRANTED, held


def _ledger(cluster: Cluster) -> KueueLedger:
    api = connect(kubeconfig=str(cluster.kubeconfig))
    return KueueLedger(api, Place(namespace=SPACE, queue=QUEUE), clock=system_clock)


class Bare:
    """A client that creates a Workload, hears by a watch that it is admitted, and deletes it."""

    def __init__(self, cluster: Cluster) -> None:
        self.api: Api = connect(kubeconfig=str(cluster.kubeconfig))
        self.path = names.workloads(SPACE)
        self._news = Condition()
        self._admitted: set[str] = set()
        self.mirror: Mirror[bool] = Mirror(self.api, self.path, _admitted, self._hear)
        self.mirror.start()
        self.mirror.ready.wait()

    def _hear(self, name: str, before: bool | None, now: bool | None) -> None:
        if now:
            with self._news:
                self._admitted.add(name)
                self._news.notify_all()

    def hold(self, name: str) -> None:
        """Create a Workload and wait until it is admitted."""
        self.api.create(self.path, bare(SPACE, name, 1))
        key = f"{SPACE}/{name}"
        with self._news:
            assert self._news.wait_for(lambda: key in self._admitted, 60), f"{name} was not admitted"

    def drop(self, name: str) -> None:
        """Delete it."""
        self.api.delete(f"{self.path}/{name}")


def _admitted(item: dict[str, Any]) -> bool:
    conditions = item.get("status", {}).get("conditions", ())
    return any(one["type"] == "Admitted" and one["status"] == "True" for one in conditions)


def through_bare(cluster: Cluster, count: int, threads: int) -> float:
    """Return the seconds for so many reserve-and-release by the bare client."""
    client, round_ = Bare(cluster), next(_numbers)

    def one(number: int) -> None:
        name = f"b{round_}-{number}"
        client.hold(name)
        client.drop(name)

    took = _timed(one, count, threads)
    client.mirror.close()
    return took


def through_ledger(cluster: Cluster, count: int, threads: int) -> float:
    """Return the seconds for so many reserve-and-release by our ledger; what ended is deleted after the clock."""
    round_ = next(_numbers)
    with _ledger(cluster) as ledger:
        ledger.serve()

        def one(number: int) -> None:
            held = ledger.submit(a_request(f"o{round_}-{number}", pod_sets=ONE))
            assert held.token is not None, held
            ledger.release(held.id, held.token)

        took = _timed(one, count, threads)
        clean(cluster)
    return took


def clean(cluster: Cluster) -> None:
    """Delete all Workloads of the bench's namespace."""
    cluster.api.call("DELETE", names.workloads(SPACE))


def _timed(one: Any, count: int, threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        begin = time.perf_counter()
        list(pool.map(one, range(count)))
        return time.perf_counter() - begin


def paced_bare(cluster: Cluster, count: int, rate: int) -> list[float]:
    """Return the milliseconds from submit to admitted of the bare client at a steady rate."""
    client, round_ = Bare(cluster), next(_numbers)
    waits = _paced(lambda n: client.hold(f"p{round_}-{n}"), lambda n: client.drop(f"p{round_}-{n}"), count, rate)
    client.mirror.close()
    return waits


def paced_ledger(cluster: Cluster, count: int, rate: int) -> list[float]:
    """Return the milliseconds from submit to granted of our ledger at a steady rate."""
    round_ = next(_numbers)
    tokens: dict[int, tuple[Any, Token]] = {}
    with _ledger(cluster) as ledger:
        ledger.serve()
        ledger.view()

        def hold(number: int) -> None:
            held = ledger.submit(a_request(f"q{round_}-{number}", pod_sets=ONE))
            assert held.token is not None, held
            tokens[number] = held.id, held.token

        waits = _paced(hold, lambda number: ledger.release(*tokens[number]), count, rate)
        clean(cluster)
    return waits


def _paced(hold: Any, drop: Any, count: int, rate: int) -> list[float]:
    begin = time.perf_counter()

    def one(number: int) -> float:
        due = begin + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        hold(number)
        took = time.perf_counter() - start
        drop(number)
        return took * 1000

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(one, range(count)))


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

    def makespan(self) -> float:
        """Return the seconds until every gang is gone."""
        self._mirror.start()
        self._mirror.ready.wait()
        self._start = time.monotonic()
        with ThreadPoolExecutor(96) as pool:
            pool.submit(self._arrive, pool)
            self._end(pool)
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

    def _end(self, pool: ThreadPoolExecutor) -> None:
        while self._open:
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


def kueue_makespan(cluster: Cluster, load: Load) -> float:
    """Return the makespan of a load through the real Kueue on this machine; nobody is preempted, as in our own run."""
    tenants = sorted({(gang.cohort, gang.tenant) for gang in gangs_of(load)})
    objects: list[dict[str, Any]] = []
    for cohort, tenant in tenants:
        quotas = {"bench": load.nominal}
        objects.append(fleet.cluster_queue(f"q-{tenant}", quotas, cohort=f"c{cohort}", borrows=load.borrow))
        objects.append(fleet.local_queue(SPACE, f"q-{tenant}", f"q-{tenant}"))
    cluster.apply(objects)
    return KueueRun(cluster, load).makespan()


def own_makespan(load: Load) -> float:
    """Return the makespan of a load through our SQLite ledger on this machine."""
    with TemporaryDirectory(prefix="gangplan-bench-") as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        with open_ledger(url) as ledger:
            _clients.prepare(ledger, load)
        seen = _clients.drive(url, load, processes=1)
        with open_ledger(url) as ledger:
            _clients.check(ledger, load)
    return _clients.course_of(seen).makespan


def states(ledger: KueueLedger) -> Counter[str]:
    """Return how many reservations are in each state."""
    return Counter(one.state.value for one in ledger.history(datetime(2000, 1, 1, tzinfo=UTC)))
