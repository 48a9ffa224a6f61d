"""Real clients of a ledger, many in one process: each submits its gang, waits for the grant, runs, and releases.

A gang costs no thread: one loop keeps the times at which something is to be done, a few workers make the calls, and the
ledger calls back when a gang is granted. All times are of the clients: a wait goes from the moment at which a gang was
due to come to the moment at which its client hears of the grant, so that a late client counts against the ledger.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from multiprocessing.connection import Connection
from statistics import fmean
from threading import Condition

from benchmarks.parts.load.floor import SECOND, Course
from benchmarks.parts.load.kueue_load import Gang, Load, gangs_of
from gangplan.reserve import Ledger, open_ledger
from gangplan.reserve.policy.rules import ALL, Policy, Preemption, Quota, TenantPolicy
from gangplan.testing import a_calendar, a_pool
from gangplan.types import GangRequest, PodSet, Pool, Reservation, ReservationState

ACCELERATOR = "h100"
WORKERS = 128
"""Calls at a time, of 500 gangs that may run at once. With 32, calls waited 92 ms on average for a free worker."""

DEPTH = 8
"""So many at the head of the line have a promised start: the large ones of each cohort. Kueue promises none."""

MARGIN = timedelta(minutes=5)
"""A lease lasts so much longer than the run, so that a client that is late to release holds its slots until it does."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of one gang, in seconds from the start: when its client heard of the grant and of the release.

    `told`: so many seconds after the grant's own moment it heard of it; `late`: so many after the run's end it called.
    """

    gang: Gang
    granted: float
    released: float
    told: float
    late: float


class Crowd:
    """The clients of one process."""

    def __init__(self, ledger: Ledger, gangs: Sequence[Gang], start: float) -> None:
        self._ledger = ledger
        self._start = start
        self._open = len(gangs)
        self._seen: list[Seen] = []
        self._failed: list[BaseException] = []
        self._changed = Condition()
        self._number = len(gangs)
        self._due: list[tuple[float, int, Callable[[], None]]] = [
            (start + gang.arrival / SECOND, number, Client(self, gang).submit) for number, gang in enumerate(gangs)
        ]

    def run(self) -> list[Seen]:
        """Let all gangs come and go; return what became of each."""
        with ThreadPoolExecutor(WORKERS) as workers:
            while (todo := self._next()) is not None:
                workers.submit(todo).add_done_callback(self._note)
        return self._seen

    def _next(self) -> Callable[[], None] | None:
        """Wait until something is to be done; None when all gangs are gone."""
        with self._changed:
            while self._open:
                if self._failed:
                    raise self._failed[0]
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heappop(self._due)[2]
                self._changed.wait(wait)
            return None

    def _note(self, done: Future[None]) -> None:
        """Let a call that failed end the run."""
        error = done.exception()
        if error is not None:
            with self._changed:
                self._failed.append(error)
                self._changed.notify()

    def at(self, moment: float, todo: Callable[[], None]) -> None:
        """Let something be done at a moment."""
        with self._changed:
            self._number += 1
            heappush(self._due, (moment, self._number, todo))
            self._changed.notify()

    def gone(self, gang: Gang, *, granted: float, told: float, late: float) -> None:
        """Note that a gang has released its slots."""
        with self._changed:
            released = time.monotonic() - self._start
            seen = Seen(gang=gang, granted=granted - self._start, released=released, told=told, late=late)
            self._seen.append(seen)
            self._open -= 1
            self._changed.notify()

    @property
    def ledger(self) -> Ledger:
        """The ledger that they call."""
        return self._ledger


class Client:
    """One client and its gang."""

    def __init__(self, crowd: Crowd, gang: Gang) -> None:
        self._crowd = crowd
        self._gang = gang
        self._heard = False
        self._quiet: Callable[[], None] | None = None

    def submit(self) -> None:
        """Ask for the slots; where they are not there at once, be called when they are."""
        there = self._crowd.ledger.submit(request_of(self._gang))
        if there.state is ReservationState.GRANTED:
            self.hear(there)
        else:
            self._quiet = self._crowd.ledger.subscribe(there.id, self.hear)

    def hear(self, now: Reservation) -> None:
        """Run once the slots are granted: nothing but time passes."""
        if now.state is ReservationState.WAITING or self._heard:
            return
        assert now.state is ReservationState.GRANTED, now
        assert now.granted_at is not None
        self._heard, heard = True, time.monotonic()
        told = (datetime.now(UTC) - now.granted_at).total_seconds()
        self._crowd.at(heard + self._gang.run / SECOND, lambda: self._release(now, heard, told))

    def _release(self, held: Reservation, heard: float, told: float) -> None:
        """Give the slots back."""
        late = time.monotonic() - heard - self._gang.run / SECOND
        if self._quiet is not None:
            self._quiet()
        assert held.token is not None
        gone = self._crowd.ledger.release(held.id, held.token)
        assert gone.state is ReservationState.RELEASED, gone
        self._crowd.gone(self._gang, granted=heard, told=told, late=late)


def request_of(gang: Gang) -> GangRequest:
    """Return the request of a gang: one pod of one GPU for each unit."""
    return GangRequest(
        request_key=gang.key,
        tenant=gang.tenant,
        pod_sets=(PodSet(count=gang.units, gpus_per_pod=1),),
        accelerators=(ACCELERATOR,),
        duration=timedelta(microseconds=gang.run) + MARGIN,
        priority=gang.priority,
    )


def policy_of(load: Load) -> Policy:
    """Return the quotas of a load; nobody is preempted, priorities do not age, and the head of the line is promised.

    Priority alone orders the line, as in the floor, whether a tenant borrows or not.
    Kueue's configuration has preemption on (reclaimWithinCohort Any, withinClusterQueue LowerPriority).
    """
    quota = Quota(nominal=load.nominal, borrow=load.borrow)
    tenants = {gang.tenant: TenantPolicy(cohort=f"c{gang.cohort}", quotas={ALL: quota}) for gang in gangs_of(load)}
    alone = Preemption(by_priority=False, reclaim=False)
    return Policy(tenants=tenants, ageing=None, depth=DEPTH, preemption=alone, owners_first=False)


def pool_of(load: Load) -> Pool:
    """Return one pool with as many nodes of 8 GPUs as all cohorts' quotas come to."""
    return a_pool(f"{ACCELERATOR}-all", gpus_per_node=8, max_nodes=load.cohorts * load.cohort_units // 8)


def prepare(ledger: Ledger, load: Load) -> None:
    """Publish the pool of a load, and set its quotas."""
    ledger.publish(a_calendar([pool_of(load)], start=datetime.now(UTC) - timedelta(hours=1)))
    ledger.set_policy(policy_of(load), by="benchmark", why=f"Kueue's {load.name}")


def drive(url: str, load: Load, *, processes: int) -> list[Seen]:
    """Let the clients of a load run in so many processes beside each other; they start together when all are ready."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    for index in range(processes):
        here, there = context.Pipe()
        context.Process(target=_drive_share, args=(there, url, load, index, processes), daemon=True).start()
        there.close()
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()
    start = time.monotonic() + 0.5
    for pipe in pipes:
        pipe.send(start)
    return [seen for pipe in pipes for seen in pipe.recv()]


def _drive_share(pipe: Connection, url: str, load: Load, index: int, of: int) -> None:
    """Run the clients of every `of`-th tenant."""
    tenants = sorted({gang.tenant for gang in gangs_of(load)})[index::of]
    mine = [gang for gang in gangs_of(load) if gang.tenant in set(tenants)]
    gc.freeze()
    with open_ledger(url) as ledger:
        ledger.list()
        pipe.send("ready")
        pipe.send(Crowd(ledger, mine, pipe.recv()).run())


def course_of(seen: Sequence[Seen]) -> Course:
    """Return the makespan and the mean waits of what was seen."""
    waits: dict[str, list[float]] = {}
    for one in seen:
        waits.setdefault(one.gang.size, []).append(one.granted - one.gang.arrival / SECOND)
    return Course(makespan=max(one.released for one in seen), waits={size: fmean(each) for size, each in waits.items()})


def latency_of(seen: Sequence[Seen]) -> tuple[float, float]:
    """Return the mean seconds from a run's end to the call that releases, and from a grant's moment to its hearing."""
    return fmean(one.late for one in seen), fmean(one.told for one in seen)


def check(ledger: Ledger, load: Load) -> None:
    """Make sure of what became of a load: all was released, and no cohort or tenant ever held more than it may."""
    gangs = {gang.key: gang for gang in gangs_of(load)}
    there = ledger.history()
    assert {one.state for one in there} == {ReservationState.RELEASED}
    assert sorted(one.request.request_key for one in there) == sorted(gangs)
    changes: list[tuple[datetime, int, Gang]] = []
    for one in there:
        assert one.granted_at is not None
        assert one.ended_at is not None
        gang = gangs[one.request.request_key]
        changes += [(one.granted_at, gang.units, gang), (one.ended_at, -gang.units, gang)]
    held: dict[int | str, int] = {}
    for _, units, gang in sorted(changes, key=lambda change: change[:2]):
        for of, most in ((gang.cohort, load.cohort_units), (gang.tenant, load.tenant_units)):
            held[of] = held.get(of, 0) + units
            assert held[of] <= most, f"{of} held {held[of]} of {most}"
