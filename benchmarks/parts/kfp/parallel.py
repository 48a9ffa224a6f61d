"""200 runs at once on one ledger: each is a process with a ledger of its own, as the step `reserve_gang` is a pod.

The server is as PostgreSQL comes: it serves a hundred connections. Each run opens the ledger and submits, as its step
does; once all hold their slots, each asks again, as a pod does that is run a second time, and then releases.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.parts.databases import databases
from benchmarks.parts.figures import Figure
from gangplan import client
from gangplan.progress import Progress
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import GangRequest, PipelineOwner, PodSet, Reservation, ReservationState

RUNS, WITHIN_S = 200, 10.0
"""So many runs come within so many seconds; then all of them hold slots at once."""

_GANG = (PodSet(count=2, gpus_per_pod=4),)
_HOUR = timedelta(hours=1)
_LOADED = ["benchmarks.kfp", "psycopg", "sqlalchemy.dialects.postgresql.psycopg"]
"""What each process has imported when it starts, so that imports are not what is measured."""

_PATIENCE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a run's step has got, and the milliseconds of opening the ledger and of its submit."""

    key: str
    id: str
    token: int | None
    state: ReservationState
    open_ms: float
    submit_ms: float


def parallel(_: Path, share: int, progress: Progress) -> list[Figure]:
    """Return the 95th percentile of a submit, and what was lost or given twice; the same with all in one moment."""
    count = RUNS // share
    with databases("postgresql") as urls:
        progress(0, 2, f"{count} runs within {WITHIN_S:g} s")
        paced = runs(next(urls), count, WITHIN_S / share)
        progress(1, 2, f"{count} runs in one moment")
        burst = runs(next(urls), count, 0.0)
    peer = f"{_words(paced)}; {count} processes within {WITHIN_S / share:g} s; a server of 100 connections"
    return [
        Figure(name="parallel_200_p95_ms", value=_p95(paced), unit="ms", bar="<= 50", peer=peer),
        Figure(name="parallel_200_burst_p95_ms", value=_p95(burst), unit="ms", peer=f"{_words(burst)}; in one moment"),
        Figure(name="lost_200", value=lost(paced, count) + lost(burst, count), unit="runs", bar="<= 0"),
        Figure(name="doubled_200", value=doubled(paced) + doubled(burst), unit="runs", bar="<= 0"),
    ]


def runs(url: str, count: int, within_s: float) -> list[tuple[Seen, Seen]]:
    """Let so many runs come, hold and go; return what each got at its first try and at its second."""
    with open_ledger(url) as ledger:
        pool = a_pool(gpus_per_node=8, max_nodes=count)
        ledger.publish(a_calendar([pool], start=datetime.now(UTC) - _HOUR))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    os.environ["PYTHONWARNINGS"] = "ignore::RuntimeWarning:runpy"  # each finds the benchmark imported, as it should be
    pipes: list[Connection] = []
    processes = []
    for number in range(count):
        here, there = context.Pipe()
        processes.append(context.Process(target=_run, args=(there, url, number), daemon=True))
        processes[-1].start()
        there.close()
        pipes.append(here)
    for pipe in pipes:
        assert pipe.poll(_PATIENCE_S), "a run did not start"
        pipe.recv()
    first = _say(pipes, within_s)
    second = _say(pipes, within_s)
    _say(pipes, within_s)
    for process in processes:
        process.join()
    _check(url, first)
    return list(zip(first, second, strict=True))


def _say(pipes: Sequence[Connection], within_s: float) -> list[Seen]:
    """Let each do its next thing, one after the other within some seconds; return what they say."""
    began = time.monotonic() + 0.5
    for number, pipe in enumerate(pipes):
        pipe.send(began + within_s * number / len(pipes))
    answers: list[Seen] = []
    for pipe in pipes:
        assert pipe.poll(_PATIENCE_S), "a run gave no answer"
        answers.append(pipe.recv())
    return answers


def _run(pipe: Connection, url: str, number: int) -> None:
    """Be one run: reserve, ask again, release; each at the moment that is said."""
    ledgers: list[Ledger] = []
    pipe.send("ready")
    for _ in range(2):
        _sleep_until(pipe.recv())
        began = time.perf_counter()
        ledgers.append(open_ledger(url))
        opened = time.perf_counter()
        held = reserve(ledgers[-1], number)
        done = time.perf_counter()
        seen = Seen(
            key=held.request.request_key,
            id=held.id,
            token=held.token,
            state=held.state,
            open_ms=1000 * (opened - began),
            submit_ms=1000 * (done - opened),
        )
        pipe.send(seen)
    _sleep_until(pipe.recv())
    assert held.token is not None
    gone = ledgers[-1].release(held.id, held.token)
    pipe.send(replace(seen, state=gone.state))
    for ledger in ledgers:
        ledger.close()


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def reserve(ledger: Ledger, number: int) -> Reservation:
    """Submit and claim, as the step does."""
    owner = PipelineOwner(run=f"run-{number}")
    asked = client.submit(ledger, request_of(number), datetime.now(UTC) + _HOUR, f"{owner}/gang/1")
    return client.claim(ledger, asked)


def request_of(number: int) -> GangRequest:
    """Return the request of a run's gang: a node of eight GPUs."""
    return a_request(f"kfp/run-{number}/gang", pod_sets=_GANG, tenant=f"t{number % 8}")


def _check(url: str, first: Sequence[Seen]) -> None:
    """Make sure of what the ledger itself says: what each got is there once, and all of it was given back."""
    with open_ledger(url) as ledger:
        rows = {row.id: row for row in ledger.history()}
        assert ledger.replay().different == ()
    assert set(rows) == {seen.id for seen in first}
    assert {row.state for row in rows.values()} == {ReservationState.RELEASED}


def lost(seen: Sequence[tuple[Seen, Seen]], count: int) -> int:
    """Return how many runs did not get their slots."""
    return count - sum(first.state is ReservationState.GRANTED for first, _ in seen)


def doubled(seen: Sequence[tuple[Seen, Seen]]) -> int:
    """Return how many runs have more than one reservation, or one that another run has too."""
    shared = Counter(first.id for first, _ in seen)
    return sum(first.id != second.id or first.token != second.token or shared[first.id] > 1 for first, second in seen)


def _p95(seen: Sequence[tuple[Seen, Seen]]) -> float:
    return statistics.quantiles((first.submit_ms for first, _ in seen), n=20)[18]


def _words(seen: Sequence[tuple[Seen, Seen]]) -> str:
    whole = [first.open_ms + first.submit_ms for first, _ in seen]
    middle, most = statistics.median(first.submit_ms for first, _ in seen), max(first.submit_ms for first, _ in seen)
    p95 = statistics.quantiles(whole, n=20)[18]
    return f"median {middle:.0f}, most {most:.0f}; with opening the ledger and connecting, p95 {p95:.0f}"
