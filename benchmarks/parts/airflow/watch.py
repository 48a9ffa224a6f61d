"""What is seen from outside while faults are made: which slots nobody's run holds, and which work is on whose slots."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.parts.airflow.client import ENDED
from benchmarks.parts.airflow.stack import CLAIM_S, Stack

LOOK_S = 0.25
MARGIN_S = 5.0
"""Seconds beyond the claim time after which what an ended run holds is a leak."""

LATE_S = 2.0
"""Seconds for which work may go on after its slots went, and by which a look may be late."""

GONE = ("failed", "upstream_failed", "skipped", "removed")
_LIVE = "SELECT id, request_key, state, token, slots FROM gangplan_reservations WHERE ended IS NULL"


@dataclass
class Work:
    """A process at work: on what, from when to when."""

    who: str
    run: str
    id: str | None
    token: int | None
    nodes: tuple[str, ...]
    begin: float
    last: float


@dataclass
class Held:
    """From when to when a reservation was seen to hold slots under one token; `end` is none while it does."""

    token: int
    begin: float
    end: float | None = None


@dataclass
class Seen:
    """What the watcher has found: each leak, and all that is needed to judge the works."""

    held: dict[str, list[Held]] = field(default_factory=lambda: defaultdict(list))
    idle: dict[tuple[str, int], float] = field(default_factory=dict)
    leaks: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    waits: int = 0
    granted: int = 0
    looks: list[float] = field(default_factory=list)


class Watcher:
    """Looks four times a second at the ledger's rows and at Airflow's database, from a thread of its own."""

    def __init__(self, stack: Stack, on_tasks: Callable[[dict[Any, tuple[str | None, int]]], None]) -> None:
        self._stack = stack
        self._on_tasks = on_tasks
        self.seen = Seen()
        self.begun = 0
        self._read = 0
        self.runs: dict[tuple[str, str], str] = {}
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; raise what it broke on."""
        self._stop.set()
        self._thread.join(timeout=30)
        if self.error:
            raise self.error

    def _watch(self) -> None:
        """Look until closed; a ledger that is away is looked at when it is back."""
        last = time.monotonic()
        ledger: psycopg.Connection[Any] | None = None
        try:
            with psycopg.connect(self._stack.metadata.uri, autocommit=True) as metadata:
                while not self._stop.wait(LOOK_S):
                    self._count_works()
                    try:
                        ledger = ledger or psycopg.connect(self._stack.ledger.uri, autocommit=True)
                        rows = ledger.execute(_LIVE).fetchall()
                    except psycopg.OperationalError:
                        ledger = None
                        continue
                    now = time.monotonic()
                    self._look(metadata, rows, now, min(now - last, 4 * LOOK_S))
                    last = now
        except BaseException as error:  # noqa: BLE001 - raised in `close`
            self.error = error

    def _count_works(self) -> None:
        """Count the works that have begun since the last look."""
        with self._stack.works.open("rb") as file:
            file.seek(self._read)
            news = file.read()
        whole = news[: news.rfind(b"\n") + 1]
        self._read += len(whole)
        self.begun += whole.count(b'"begin"')

    def _look(self, metadata: psycopg.Connection[Any], rows: list[Any], now: float, passed: float) -> None:
        """Compare what is held with the runs and tasks that there are."""
        self.runs = {(dag, run): state for dag, run, state in metadata.execute(_RUNS)}
        tasks = {tuple(row[:4]): (row[4], row[5]) for row in metadata.execute(_TASKS)}
        self._on_tasks(tasks)
        seen, holding = self.seen, {row[0]: row[3] for row in rows if row[2] == "granted"}
        seen.looks.append(now)
        seen.granted, seen.waits = len(holding), sum(row[2] == "waiting" for row in rows)
        for id, token in holding.items():
            if not seen.held[id] or seen.held[id][-1].token != token or seen.held[id][-1].end:
                seen.held[id].append(Held(token, now))
        for id, spans in seen.held.items():
            for span in spans:
                if span.end is None and holding.get(id) != span.token:
                    span.end = now
        for id, key, state, token, slots in rows:
            if not key.startswith("airflow/"):
                continue
            why, one = self._nobody(key, tasks), (id, token or 0)
            seen.idle[one] = seen.idle.get(one, 0.0) + passed if why else 0.0
            if seen.idle[one] > CLAIM_S + MARGIN_S and one not in seen.leaks:
                what = "leaked" if state == "granted" else "waits for nobody"
                seen.leaks[one] = {"found": what, "at": now, "key": key, "token": token, "slots": slots, "why": why}

    def _nobody(self, key: str, tasks: dict[Any, tuple[str | None, int]]) -> str:
        """Say why nobody is there for what a key holds; empty where somebody is."""
        _, dag, run, task, index = key.split("/")
        state = self.runs.get((dag, run))
        if state is None or state in ENDED:
            return f"its run is {state or 'deleted'}"
        reserve = tasks.get((dag, run, task, int(index.partition("#")[0])))
        if reserve is None or reserve[0] in GONE:
            return f"its reserve task is {reserve[0] if reserve else 'gone'}"
        return ""


_RUNS = "SELECT dag_id, run_id, state FROM dag_run"
_TASKS = "SELECT dag_id, run_id, task_id, map_index, state, try_number FROM task_instance"


def works_of(file: Path) -> list[Work]:
    """Read all works."""
    works: dict[str, Work] = {}
    for text in file.read_text().splitlines():
        line = json.loads(text)
        if line["what"] == "begin":
            nodes, at = tuple(line["nodes"]), line["at"]
            works[line["who"]] = Work(line["who"], line["run"], line["id"], line["token"], nodes, at, at)
        else:
            works[line["who"]].last = line["at"]
    return list(works.values())


def taken_twice(works: list[Work]) -> Iterator[dict[str, Any]]:
    """Yield each pair of works that were alive on one node at one time."""
    on: dict[str, list[Work]] = defaultdict(list)
    for work in sorted(works, key=lambda work: work.begin):
        for node in work.nodes:
            on[node].append(work)
    for node, line in on.items():
        last = line[0]  # the one that was alive for the longest so far
        for work in line[1:]:
            if last.last > work.begin:
                shared = min(last.last, work.last) - work.begin
                yield {"found": "twice", "at": work.begin, "node": node, "for_s": shared} | _pair(last, work)
            last = max(last, work, key=lambda one: one.last)


def _pair(before: Work, after: Work) -> dict[str, Any]:
    return {"first": vars(before), "second": vars(after), "key": before.run}


def without_slots(works: list[Work], seen: Seen) -> Iterator[dict[str, Any]]:
    """Yield each work that began on slots which were not its own, or went on after they had gone."""
    for work in works:
        spans = [span for span in seen.held.get(work.id or "", []) if span.token == work.token]
        begun = any(span.begin - LATE_S <= work.begin <= (span.end or work.last) + LATE_S for span in spans)
        late = work.last - max((span.end or work.last for span in spans), default=work.last)
        if not begun and _was_watched(seen, work.begin):
            yield {"found": "without slots", "at": work.begin, "key": work.run, "work": vars(work)}
        elif late > LATE_S:
            yield {"found": "overstayed", "at": work.last, "key": work.run, "for_s": late, "work": vars(work)}


def _was_watched(seen: Seen, moment: float) -> bool:
    """Tell whether there were looks just before and after a moment."""
    near = [look - moment for look in seen.looks if abs(look - moment) < LATE_S]
    return any(gap < 0 for gap in near) and any(gap > 0 for gap in near)
