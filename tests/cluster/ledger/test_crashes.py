"""Kill -9 of our process, Kueue, the API server and etcd while reservations are asked for, held and released."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from gangplan.errors import GangplanError, UnavailableError
from gangplan.kube import claim_from
from gangplan.kube.api import GoneError
from gangplan.reserve.kueue.ledger import KueueLedger
from gangplan.testing import a_request
from gangplan.types import PodSet, Reservation, ReservationState
from tests.cluster.conftest import Space, until
from tests.cluster.objects import bare
from tests.cluster.servers.cluster import Cluster

GRANTED, RELEASED = ReservationState.GRANTED, ReservationState.RELEASED
GPUS = 8
TWO = (PodSet(count=1, gpus_per_pod=2),)

CHILD = """
import sys
from datetime import timedelta
from gangplan.clock import system_clock
from gangplan.kube.api import connect
from gangplan.reserve.kueue.ledger import KueueLedger, Place
from gangplan.testing import a_request
from gangplan.types import PodSet
ledger = KueueLedger(connect(kubeconfig=sys.argv[1]), Place(namespace=sys.argv[2], queue="queue"), clock=system_clock)
for number in range(10_000):
    wish = a_request(f"child-{number}", pod_sets=(PodSet(count=1, gpus_per_pod=2),), duration=timedelta(seconds=6))
    held = ledger.wait(ledger.submit(wish).id, timeout=timedelta(seconds=30))
    print(held.id, flush=True)
    if number % 3:
        ledger.release(held.id, held.token)
"""


def live(space: Space) -> list[Reservation]:
    """Return the reservations that hold slots, by what stands in the cluster."""
    return [one for one in space.ledger().list() if one.state is GRANTED]


def counted(space: Space) -> int:
    """Return the GPUs that Kueue says are reserved in the queue."""
    found = space.api.get(f"/apis/kueue.x-k8s.io/v1beta2/clusterqueues/{space.name}-queue")
    flavors = found["status"].get("flavorsReservation", ())
    return sum(int(one["total"]) for flavor in flavors for one in flavor["resources"] if "gpu" in one["name"])


def settled(space: Space) -> bool:
    """Tell whether what holds is what Kueue counts, and no more than there is."""
    holding = sum(one.request.gpus for one in live(space))
    return holding == counted(space) <= GPUS


class Life:
    """Clients that submit, hold and release until told to stop; what they were told is kept."""

    def __init__(self, ledger: KueueLedger, name: str) -> None:
        self.ledger, self.name = ledger, name
        self.stop = False
        self.acknowledged: dict[str, ReservationState] = {}
        self.troubles = 0

    def run(self, client: int) -> None:
        """Live as one client."""
        number = 0
        while not self.stop:
            number += 1
            key = f"{self.name}-{client}-{number}"
            held = self.again(lambda key=key: self.ledger.submit(a_request(key, pod_sets=TWO)))
            while held.state.waits and not self.stop:
                held = self.again(lambda held=held: self.ledger.get(held.id))
                time.sleep(0.02)
            if held.token is None:
                self.again(lambda held=held: self.ledger.cancel(held.id))
                self.acknowledged[held.id] = ReservationState.CANCELLED
                continue
            self.acknowledged[held.id] = GRANTED
            ended = self.again(lambda held=held: self.ledger.release(held.id, held.token or 0))
            self.acknowledged[held.id] = ended.state

    def again(self, call: Callable[[], Reservation]) -> Reservation:
        """Make a call until it is answered, as a client of a store that is away for a while does."""
        while True:
            try:
                return call()
            except UnavailableError:
                self.troubles += 1


@pytest.mark.parametrize("victim", ["kueue", "apiserver", "etcd"])
def test_a_server_that_is_killed_loses_nothing(own: Cluster, own_space: Space, victim: str) -> None:
    """No slot held by nobody, none held twice, and every acknowledged state true."""
    own_space.queue({own_space.flavor(): GPUS})
    life = Life(own_space.ledger(), victim)
    with ThreadPoolExecutor(6) as clients:
        runs = [clients.submit(life.run, client) for client in range(6)]
        until(lambda: len(life.acknowledged) > 10, 30)
        own.servers[victim].kill()
        before = len(life.acknowledged)
        own.servers[victim].start()
        if victim == "etcd":
            until(own.serves, 60)
        try:
            until(lambda: len(life.acknowledged) > before + 20, 90, "the clients do not go on")
        finally:
            life.stop = True
        for run in runs:
            run.result(60)
    until(lambda: settled(own_space) and counted(own_space) == 0, 30, "slots are held by nobody")
    now = {one.id: one.state for one in own_space.ledger().list()}
    assert {id: now.get(id) for id in life.acknowledged} == life.acknowledged
    assert life.ledger.submit(a_request("after", pod_sets=(PodSet(count=1, gpus_per_pod=GPUS),))).state.waits is False


def test_a_client_that_is_killed_is_expired_and_its_slots_are_free(own: Cluster, own_space: Space) -> None:
    """Its leases run out, whoever is there ends them; what it had released stays released."""
    own_space.queue({own_space.flavor(): GPUS})
    command = [sys.executable, "-c", CHILD, str(own.kubeconfig), own_space.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        held = [child.stdout.readline().strip() for _ in range(5)]
        os.kill(child.pid, signal.SIGKILL)
    assert all(held)
    watching = own_space.ledger()
    watching.serve()
    until(lambda: not live(own_space) and counted(own_space) == 0, 30, "the slots of a dead client are still held")
    states = {one.id: one.state for one in watching.list()}
    assert {states[id] for id in held} <= {RELEASED, ReservationState.EXPIRED}
    assert ReservationState.EXPIRED in states.values()


def test_an_eviction_waits_for_a_keeper_and_is_completed_when_one_comes(own_space: Space) -> None:
    """Our process is away while Kueue preempts: the next one sees it in its first list."""
    own_space.queue({own_space.flavor(): GPUS}, preempts=True)
    first = own_space.ledger()
    low = first.submit(a_request("low", priority=1, preemptible=True))
    first.close()
    own_space.api.create(
        f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{own_space.name}/workloads",
        bare(own_space.name, "urgent", GPUS, priority=1000),
    )
    until(lambda: claim_from(own_space.workload(low.id)).evicted)
    own_space.ledger().serve()
    until(lambda: own_space.condition("urgent", "Admitted").startswith("True"), 5)


def test_a_version_from_before_a_restart_is_gone_and_the_ledger_lists_anew(own: Cluster, own_space: Space) -> None:
    """The API server's 410: the watch of a ledger that is open meanwhile goes on with a new list."""
    own_space.queue({own_space.flavor(): GPUS})
    ledger = own_space.ledger()
    held = ledger.submit(a_request("a"))
    path = f"/apis/kueue.x-k8s.io/v1beta2/namespaces/{own_space.name}/workloads"
    old = own_space.workload(held.id)["metadata"]["resourceVersion"]
    own.servers["apiserver"].kill()
    own.servers["apiserver"].start()
    until(own.serves, 60)
    other = until(lambda: _quiet(lambda: ledger.submit(a_request("b"))), 60)
    with pytest.raises(GoneError), own_space.api.watch(path, str(int(old) - 100), seconds=5) as stream:
        list(stream)
    ledger.release(held.id, held.token or 0)
    assert ledger.wait(other.id, timeout=timedelta(seconds=15)).state is GRANTED


def _quiet(call: Callable[[], Reservation]) -> Reservation | None:
    try:
        return call()
    except GangplanError:
        return None


def test_logs_of_the_servers_are_there_to_be_kept(own: Cluster) -> None:
    """A failing test copies them: each server has one."""
    there = {file.stem for file in Path(own.logs).iterdir()}
    assert there >= {"etcd", "apiserver", "scheduler", "controller-manager", "kueue", "jobset", "kwok"}
