"""Clients and leaders of one ledger that are killed at random, and what must hold of it and of what they were told.

`python -m tests.reserve.support.crash --kills 1000 --database postgresql` is a long run; it prints its seed, and
`--seed` gives the run again (the moments of the kills; the machine decides what each process is at just then). One
kill in six takes whoever leads; on PostgreSQL one in ten takes the server, at once, and it is started again a little
later.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.context import ForkProcess as Process
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from tests.reserve.support.places import Place, PostgresPlace, SqlitePlace

from gangplan.errors import StaleTokenError, UnavailableError, WaitTimeoutError
from gangplan.reserve import Ledger, open_ledger
from gangplan.reserve.opening import open_store
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import PodSet, Reservation, ReservationState

T = TypeVar("T")

CLIENTS = 4
NODES, GPUS = 4, 8
LEASE = timedelta(seconds=0.4)
WALLTIME = timedelta(seconds=1)
STALL = 2.0
"""Seconds without any answer after which the next kill comes all the same: it may be what they wait for."""

SIZES = ((1, 2), (2, 2), (3, 4), (2, 8), (4, 8))  # pods x GPUs; the last is the whole pool


# ---------------------------------------------------------------- a client


def client(folder: Path, url: str, name: str, seed: int) -> None:
    """Submit, wait, renew, release, for ever; write down each answer once the ledger gave it."""
    draw = random.Random(seed)
    with (folder / f"{name}.acks").open("a") as file, riding(lambda: open_ledger(url)) as ledger:
        number = 0
        while True:
            number += 1
            one_gang(ledger, draw, lambda did, seen: acknowledge(file, did, seen), f"{name}-{number}")


def leader(url: str) -> None:
    """Lead for good, as `gangplan ledger serve` does."""
    store = riding(lambda: open_store(url))
    store.lead()
    Event().wait()


def riding(call: Callable[[], T]) -> T:
    """Make a call again and again until the ledger can be reached: by its key or its token it is run once."""
    while True:
        try:
            return call()
        except UnavailableError:
            time.sleep(0.05)  # as a client's retries do


def one_gang(ledger: Ledger, draw: random.Random, told: Any, key: str) -> None:
    """Take one gang through its life; now and then give up the wait, or forget to release."""
    count, gpus = draw.choice(SIZES)
    request = a_request(
        key, pod_sets=(PodSet(count=count, gpus_per_pod=gpus),), duration=LEASE, walltime=WALLTIME, priority=100
    )
    seen = riding(lambda: ledger.submit(request))
    told("submit", seen)
    try:
        limit = timedelta(seconds=draw.random())
        seen = riding(lambda: ledger.wait(seen.id, timeout=limit, poll=timedelta(milliseconds=20)))
    except WaitTimeoutError:
        told("cancel", riding(lambda: ledger.cancel(seen.id)))
        return
    told("wait", seen)
    token = seen.token
    if token is None or seen.state is not ReservationState.GRANTED:
        return
    try:
        told("renew", riding(lambda: ledger.renew(seen.id, token, LEASE / 2)))
        time.sleep(draw.random() * 0.03)  # the work itself
        if draw.random() < 0.9:
            told("release", riding(lambda: ledger.release(seen.id, token)))
    except StaleTokenError:  # this process, or the database, stood still for longer than its lease
        told("lost", riding(lambda: ledger.get(seen.id)))


def acknowledge(file: Any, did: str, seen: Reservation) -> None:
    """Keep an answer, durably, after the ledger gave it."""
    granted = None if seen.granted_at is None else seen.granted_at.isoformat()
    places = sorted([place.node, place.gpus] for place in seen.placements)
    file.write(json.dumps([did, seen.id, seen.state.value, seen.token, granted, places]) + "\n")
    file.flush()
    os.fsync(file.fileno())


# ---------------------------------------------------------------- the parent


class Processes:
    """The clients and the leader that run now."""

    def __init__(self, folder: Path, place: Place, draw: random.Random) -> None:
        self.folder, self.place, self.draw = folder, place, draw
        self._seeds = random.Random(draw.random())  # of their own: what is killed does not depend on who led by chance
        self.running: dict[str, Process] = {}
        self.killed: Counter[str] = Counter()
        self.number = 0
        for _ in range(CLIENTS):
            self.add_client()
        self.add_leader()

    def add_client(self) -> None:
        """Start one client."""
        self.number += 1
        name = f"c{self.number}"
        self._start(name, client, self.folder, self.place.url, name, self._seeds.randrange(1 << 30))

    def add_leader(self) -> None:
        """Start one that leads for good."""
        self.number += 1
        self._start(f"leader{self.number}", leader, self.place.url)

    def _start(self, name: str, what: Callable[..., None], *args: Any) -> None:
        """Start a process; forked, so that it is at work at once and the kills do not fall into its imports."""
        process = get_context("fork").Process(target=what, args=args, name=name)
        process.start()
        self.running[name] = process

    def kill_one(self) -> None:
        """Kill a process, or the server, at random."""
        which = self.draw.random()
        for name, process in self.running.items():
            assert process.is_alive(), f"{name} ended by itself: its error is above"
        if which < 0.1 and self.place.stop():
            self.killed["servers"] += 1
            time.sleep(self.draw.random() * 0.3)  # the outage
            self.place.start()
            return
        name = self._who_leads() if which < 0.1 + 1 / 6 else None
        other = self.draw.choice([name for name in self.running if name.startswith("c")])
        self.kill(name or other, leads=bool(name))

    def _who_leads(self) -> str | None:
        """Return the process that the head row names."""
        holder = self.place.holder()
        pid = int(holder.split(":")[-2]) if holder else None
        return next((name for name, process in self.running.items() if process.pid == pid), None)

    def kill(self, name: str, *, leads: bool) -> None:
        """Kill a process as the kernel does when memory is short, no handler runs; start another."""
        end(self.running.pop(name))
        self.killed["who led" if leads else "clients"] += 1
        if name.startswith("c"):
            self.add_client()
        else:
            self.add_leader()

    def end(self) -> None:
        """Kill all."""
        for process in self.running.values():
            end(process)


def end(process: Process) -> None:
    """Kill a process and wait until it is gone."""
    process.kill()
    process.join()


def run(folder: Path, place: Place, *, kills: int, seed: int, pace: float) -> dict[str, int]:
    """Start processes, kill them one by one at random and start others; return what was found, or fail."""
    draw = random.Random(seed)
    pool = a_pool("h100-owned", gpus_per_node=GPUS, max_nodes=NODES)
    with open_ledger(place.url) as ledger:
        ledger.publish(a_calendar([pool], start=datetime.now(UTC) - timedelta(hours=1)))
    processes = Processes(folder, place, draw)
    try:
        for done in range(kills):
            await_answer(folder)
            time.sleep(draw.expovariate(1 / pace))  # the random point
            processes.kill_one()
            if done % 100 == 99:
                print(f"{done + 1} kills", flush=True)
    finally:
        processes.end()
    place.check()
    return {**check(folder, place.url), **{f"killed {what}": count for what, count in processes.killed.items()}}


def await_answer(folder: Path) -> None:
    """Wait until some client was told something more, so that kills do not outrun a slow machine; not for ever."""
    before, deadline = written(folder), time.monotonic() + STALL
    while written(folder) == before and time.monotonic() < deadline:
        time.sleep(0.01)


def written(folder: Path) -> int:
    """Return how much the clients have written down of what they were told."""
    return sum(acks.stat().st_size for acks in folder.glob("*.acks"))


# ---------------------------------------------------------------- what must hold


def check(folder: Path, url: str) -> dict[str, int]:
    """Hold the ledger against what the clients were told; return the counts."""
    rows = settled(url)
    told = [json.loads(line) for acks in folder.glob("*.acks") for line in whole_lines(acks)]
    check_told(told, {row.id: row for row in rows})
    check_tokens(rows)
    check_no_overlap(rows)
    return {
        "reservations": len(rows),
        "terms": check_log(url),
        "grants": sum(row.token is not None for row in rows),
        "acknowledged": len(told),
        "released": sum(row.state is ReservationState.RELEASED for row in rows),
        "expired": sum(row.state is ReservationState.EXPIRED for row in rows),
        "cancelled": sum(row.state is ReservationState.CANCELLED for row in rows),
    }


def whole_lines(file: Path) -> list[str]:
    """Return the lines that were written to their end: a client may have died within its last."""
    return [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def settled(url: str) -> tuple[Reservation, ...]:
    """Return all reservations once those of the killed have ended, which only time does here."""
    with open_ledger(url) as ledger:
        left = len([row for row in ledger.list() if not row.state.final])
        deadline = time.monotonic() + 5 + left * WALLTIME.total_seconds()
        while any(not row.state.final for row in ledger.list()):
            assert time.monotonic() < deadline, "leases of the killed do not end by themselves"
            time.sleep(0.05)
            riding(ledger.tick)
        return ledger.history()


def check_told(told: list[list[Any]], rows: dict[str, Reservation]) -> None:
    """No acknowledged answer is lost or different: the grant, its token and its slots, and each end."""
    for did, id, state, token, granted, places in told:
        row = rows.get(id)
        assert row is not None, f"{did} of {id} was acknowledged, and it is not there"
        if token is not None:
            assert (row.token, row.granted_at and row.granted_at.isoformat()) == (token, granted), (did, row)
            assert sorted([place.node, place.gpus] for place in row.placements) == places
        if ReservationState(state).final:
            assert row.state.value == state, (did, row)


def check_log(url: str) -> int:
    """The audit log replays to the rows, and terms only grow; return how many there were."""
    with open_ledger(url) as ledger:
        assert ledger.replay().different == ()
        terms = [event.term for event in ledger.audit()]
    assert terms == sorted(terms)
    return len(set(terms))


def check_tokens(rows: tuple[Reservation, ...]) -> None:
    """No grant is doubled: each has a token of its own, later grants greater ones, and the whole gang."""
    granted = sorted((row for row in rows if row.token is not None), key=lambda row: row.token or 0)
    tokens = [row.token for row in granted]
    assert tokens == list(range(1, len(tokens) + 1))
    for row in granted:
        assert sum(place.gpus for place in row.placements) == row.request.gpus
    times = [row.granted_at for row in granted if row.granted_at is not None]
    assert times == sorted(times)


def check_no_overlap(rows: tuple[Reservation, ...]) -> None:
    """On no node, at no time, more GPUs were held than it has."""
    changes: dict[str, list[tuple[datetime, int]]] = defaultdict(list)
    for row in rows:
        for place in row.placements:
            assert row.granted_at is not None
            assert row.ended_at is not None
            changes[place.node] += [(row.granted_at, place.gpus), (row.ended_at, -place.gpus)]
    assert set(changes) <= {f"h100-owned-{node}" for node in range(NODES)}
    for node, steps in changes.items():
        held = 0
        for moment, gpus in sorted(steps):  # at one moment what is given back comes first
            held += gpus
            assert held <= GPUS, f"{node} carried {held} GPUs at {moment}"


def main() -> None:
    """Run one course of kills."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=40)
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options.add_argument("--pace", type=float, default=0.25, help="mean seconds between two kills")
    options.add_argument("--folder", type=Path, help="keep the ledger's file and the answers here")
    given = options.parse_args()
    seed = random.SystemRandom().randrange(1 << 30) if given.seed is None else given.seed
    print(f"seed {seed}, {given.kills} kills on {given.database}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        place = SqlitePlace(folder) if given.database == "sqlite" else PostgresPlace()
        try:
            print(json.dumps(run(folder, place, kills=given.kills, seed=seed, pace=given.pace)))
        finally:
            place.close()


if __name__ == "__main__":
    main()
