"""Clients of one SQLite ledger that are killed at random, and what must hold of the file and of what they were told.

`python -m tests.reserve.crash --kills 1000` is the long run; it prints its seed, and `--seed` gives the run again (the
moments of the kills; the machine decides what each client is at just then).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.context import ForkProcess as Process
from pathlib import Path
from typing import Any

from gangplan.errors import StaleTokenError, WaitTimeoutError
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import PodSet, Reservation, ReservationState

CLIENTS = 4
NODES, GPUS = 4, 8
LEASE = timedelta(seconds=0.4)
WALLTIME = timedelta(seconds=1)
SIZES = ((1, 2), (2, 2), (3, 4), (2, 8), (4, 8))  # pods x GPUs; the last is the whole pool


# ---------------------------------------------------------------- a client


def client(folder: Path, name: str, seed: int) -> None:
    """Submit, wait, renew, release, for ever; write down each answer once the ledger gave it."""
    draw = random.Random(seed)
    with (folder / f"{name}.acks").open("a") as file, open_ledger(url_of(folder)) as ledger:
        number = 0
        while True:
            number += 1
            one_gang(ledger, draw, lambda did, seen: acknowledge(file, did, seen), f"{name}-{number}")


def one_gang(ledger: Ledger, draw: random.Random, told: Any, key: str) -> None:
    """Take one gang through its life; now and then give up the wait, or forget to release."""
    count, gpus = draw.choice(SIZES)
    request = a_request(
        key, pod_sets=(PodSet(count=count, gpus_per_pod=gpus),), duration=LEASE, walltime=WALLTIME, priority=100
    )
    seen = ledger.submit(request)
    told("submit", seen)
    try:
        seen = ledger.wait(seen.id, timeout=timedelta(seconds=draw.random()), poll=timedelta(milliseconds=20))
    except WaitTimeoutError:
        told("cancel", ledger.cancel(seen.id))
        return
    told("wait", seen)
    if seen.token is None or seen.state is not ReservationState.GRANTED:
        return
    try:
        told("renew", ledger.renew(seen.id, seen.token, LEASE / 2))
        time.sleep(draw.random() * 0.03)  # the work itself
        if draw.random() < 0.9:
            told("release", ledger.release(seen.id, seen.token))
    except StaleTokenError:  # this process stood still for longer than its lease
        told("lost", ledger.get(seen.id))


def acknowledge(file: Any, did: str, seen: Reservation) -> None:
    """Keep an answer, durably, after the ledger gave it."""
    granted = None if seen.granted_at is None else seen.granted_at.isoformat()
    places = sorted([place.node, place.gpus] for place in seen.placements)
    file.write(json.dumps([did, seen.id, seen.state.value, seen.token, granted, places]) + "\n")
    file.flush()
    os.fsync(file.fileno())


def url_of(folder: Path) -> str:
    """Return the ledger's URL."""
    return f"sqlite:///{folder / 'ledger.db'}"


# ---------------------------------------------------------------- the parent


def run(folder: Path, *, kills: int, seed: int) -> dict[str, int]:
    """Start clients, kill them one by one at random and start others; return what was found, or fail."""
    draw = random.Random(seed)
    pool = a_pool("h100-owned", gpus_per_node=GPUS, max_nodes=NODES)
    with open_ledger(url_of(folder)) as ledger:
        ledger.publish(a_calendar([pool], start=datetime.now(UTC) - timedelta(hours=1)))
    names = iter(range(1_000_000))
    running: list[Process] = [start(folder, next(names), draw) for _ in range(CLIENTS)]
    try:
        for _ in range(kills):
            time.sleep(draw.expovariate(1 / 0.25))  # the random point
            at = draw.randrange(CLIENTS)
            assert running[at].is_alive(), "a client ended by itself: its error is above"
            kill(running[at])
            running[at] = start(folder, next(names), draw)
    finally:
        for process in running:
            kill(process)
    return check(folder)


def start(folder: Path, number: int, draw: random.Random) -> Process:
    """Start one client; forked, so that it is at work at once and the kills do not fall into its imports."""
    process = get_context("fork").Process(target=client, args=(folder, f"c{number}", draw.randrange(1 << 30)))
    process.start()
    return process


def kill(process: Process) -> None:
    """Kill a client as the kernel does when memory is short: no handler runs."""
    process.kill()
    process.join()


# ---------------------------------------------------------------- what must hold


def check(folder: Path) -> dict[str, int]:
    """Hold the file against what the clients were told; return the counts."""
    with sqlite3.connect(folder / "ledger.db") as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = settled(folder)
    told = [json.loads(line) for acks in folder.glob("*.acks") for line in whole_lines(acks)]
    check_told(told, {row.id: row for row in rows})
    check_tokens(rows)
    check_no_overlap(rows)
    return {
        "reservations": len(rows),
        "grants": sum(row.token is not None for row in rows),
        "acknowledged": len(told),
        "released": sum(row.state is ReservationState.RELEASED for row in rows),
        "expired": sum(row.state is ReservationState.EXPIRED for row in rows),
        "cancelled": sum(row.state is ReservationState.CANCELLED for row in rows),
    }


def whole_lines(file: Path) -> list[str]:
    """Return the lines that were written to their end: a client may have died within its last."""
    return [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def settled(folder: Path) -> tuple[Reservation, ...]:
    """Return all reservations once those of the killed have ended, which only time does here."""
    with open_ledger(url_of(folder)) as ledger:
        left = len([row for row in ledger.list() if not row.state.final])
        deadline = time.monotonic() + 5 + left * WALLTIME.total_seconds()
        while any(not row.state.final for row in ledger.list()):
            assert time.monotonic() < deadline, "leases of the killed do not end by themselves"
            time.sleep(0.05)
            ledger.tick()
        return ledger.history()


def check_told(told: list[list[Any]], rows: dict[str, Reservation]) -> None:
    """No acknowledged answer is lost or different: the grant, its token and its slots, and each end."""
    for did, id, state, token, granted, places in told:
        row = rows[id]
        if token is not None:
            assert (row.token, row.granted_at and row.granted_at.isoformat()) == (token, granted), (did, row)
            assert sorted([place.node, place.gpus] for place in row.placements) == places
        if ReservationState(state).final:
            assert row.state.value == state, (did, row)


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
    """Run as a client, or as the parent of clients."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=40)
    options.add_argument("--seed", type=int, default=None)
    options.add_argument("--folder", type=Path, help="keep the ledger and the answers here")
    given = options.parse_args()
    seed = random.SystemRandom().randrange(1 << 30) if given.seed is None else given.seed
    print(f"seed {seed}, {given.kills} kills", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(given.folder or Path(folder), kills=given.kills, seed=seed)))


if __name__ == "__main__":
    main()
