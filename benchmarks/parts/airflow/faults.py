"""The faults: what users do to tasks and runs, what machines do to processes, and a ledger that goes away."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx
import psutil

from benchmarks.parts.airflow.client import ENDED, STARTED_S, Client, Task
from benchmarks.parts.airflow.stack import until

LIVE = "state IN ('deferred', 'running', 'queued', 'scheduled', 'up_for_retry')"
CLEARABLE = "state IN ('deferred', 'running', 'success', 'failed', 'up_for_retry')"
RECENT = "run_id IN (SELECT run_id FROM dag_run ORDER BY id DESC LIMIT 80)"
AWAY_S, SKEW_S, DELETE_S = (0.5, 6.0), 15, 5.0

WEIGHTS = {
    "clear": 22,
    "mark_failed": 12,
    "mark_success": 10,
    "mark_run": 10,
    "delete": 8,
    "kill_task": 12,
    "kill_triggerer": 5,
    "kill_scheduler": 4,
    "kill_api": 3,
    "kill_dag_processor": 2,
    "swap": 5,
    "ledger_away": 5,
    "clock": 2,
}
"""How often each kind comes."""

MACHINES = tuple(kind for kind in WEIGHTS if kind.startswith(("kill_", "swap", "ledger", "clock")))
NEAR_S = 90

OUTAGES = ("kill_scheduler", "kill_api", "ledger_away", "clock")
"""Faults on which a cleared task may fail by no fault of its own."""


class Faults:
    """Makes faults one after the other; a seed draws their kinds, their moments and which of the tasks they meet."""

    def __init__(self, client: Client, seed: int) -> None:
        self.client = client
        self.stack = client.stack
        self.draw = random.Random(seed)
        self.made: list[dict[str, Any]] = []
        self.cleared = Cleared()
        self.left_out = () if shutil.which("faketime") else ("clock",)
        self._spare = 0
        self._kinds: dict[str, Callable[[float], str]] = {
            "clear": self._clear,
            "mark_failed": lambda at: self._mark(at, "failed"),
            "mark_success": lambda at: self._mark(at, "success"),
            "mark_run": self._mark_run,
            "delete": self._delete,
            "kill_task": self._kill_task,
            "kill_triggerer": lambda at: self._again("triggerer"),
            "kill_scheduler": lambda at: self._again("scheduler"),
            "kill_api": lambda at: self._again("api-server"),
            "kill_dag_processor": lambda at: self._again("dag-processor"),
            "swap": self._swap,
            "ledger_away": self._ledger_away,
            "clock": self._clock,
        }

    def make(self) -> None:
        """Make the next fault."""
        weights = {kind: weight for kind, weight in WEIGHTS.items() if kind not in self.left_out}
        kind = self.draw.choices(list(weights), list(weights.values()))[0]
        at, pause = self.draw.random(), self.draw.uniform(0.1, 0.7)
        if kind in OUTAGES:
            self.cleared.outage()
        began = time.monotonic()
        try:
            said = self._kinds[kind](at)
        except httpx.HTTPError as error:
            said = f"refused: {error}"
            with suppress(httpx.HTTPError):
                self.client.ask("GET", "/api/v2/version")
        self.made.append({"at": began, "took": time.monotonic() - began, "kind": kind, "said": said})
        time.sleep(pause)

    def counts(self) -> str:
        """Return how many there were of each kind."""
        return ", ".join(f"{count} {kind}" for kind, count in Counter(one["kind"] for one in self.made).most_common())

    def touching(self, run: str, moment: float) -> list[str]:
        """Return what was done to a run, and what else went on in the half minute before."""
        near = [one for one in self.made if one["at"] < moment + 1]
        return [
            f"{one['at'] - moment:+.1f} s: {one['kind']} {one['said']}"
            for one in near
            if run in one["said"]
            or (moment - one["at"] < 30 and one["kind"].startswith(("kill_", "led", "swap", "clo")))
        ]

    def _pick(self, where: str, at: float) -> Task | None:
        """Return one of the tasks that fit, by a share of their number."""
        tasks = self.client.tasks(f"{where} AND {RECENT}")
        return tasks[int(at * len(tasks))] if tasks else None

    def _clear(self, at: float) -> str:
        task = self._pick(CLEARABLE, at)
        if task is None:
            return "nothing to clear"
        self.client.clear(task)
        self.cleared.note(task)
        return _name(task)

    def _mark(self, at: float, state: str) -> str:
        task = self._pick(LIVE, at)
        if task is None:
            return "nothing to mark"
        self.cleared.forget(task.run_id)
        self.client.mark_task(task, state)
        return _name(task)

    def _run(self, at: float, *, live: bool) -> tuple[str, str] | None:
        """Return one of the runs that go on, or of all."""
        runs = sorted(run for run, state in self.client.runs().items() if not live or state not in ENDED)
        return runs[int(at * len(runs))] if runs else None

    def _mark_run(self, at: float) -> str:
        run = self._run(at, live=True)
        if run is None:
            return "no run to mark"
        self.cleared.forget(run[1])
        state = "failed" if int(at * 1000) % 3 else "success"
        self.client.mark_run(*run, state)
        return f"{'/'.join(run)} {state}"

    def _delete(self, at: float) -> str:
        """Delete a run; one that goes on is marked as failed first, as Airflow wants it."""
        run = self._run(at, live=bool(int(at * 1000) % 2))
        if run is None:
            return "no run to delete"
        self.cleared.forget(run[1])
        over = time.monotonic() + DELETE_S
        while True:
            try:
                if self.client.runs().get(run) not in ENDED:
                    self.client.mark_run(*run, "failed")
                self.client.delete_run(*run)
                return "/".join(run)
            except httpx.HTTPStatusError:  # it goes on until its teardowns are over
                if time.monotonic() > over:
                    raise
                time.sleep(0.5)

    def _kill_task(self, at: float) -> str:
        """Kill the process of a running task."""
        tasks = [task for task in self.client.tasks("state = 'running'") if task.pid]
        alive = {process.pid: process for process in self.stack.task_processes([task.pid or 0 for task in tasks])}
        tasks = [task for task in tasks if task.pid in alive]
        if not tasks:
            return "no task's process"
        task = tasks[int(at * len(tasks))]
        self.cleared.forget(task.run_id)
        with suppress(psutil.NoSuchProcess):
            alive[task.pid or 0].send_signal(signal.SIGKILL)
        return _name(task)

    def _again(self, name: str, before: Sequence[str] = ()) -> str:
        """Kill a process and start it again."""
        key = next(key for key in self.stack.running if key.partition(" ")[0] == name)
        self.stack.kill(key)
        self.stack.start(name, before=before)
        if name == "api-server":
            until(STARTED_S, "the api-server", self.client.answers)
        return name

    def _swap(self, at: float) -> str:
        """Let a second triggerer take the place of the first."""
        old = next(key for key in self.stack.running if key.startswith("triggerer"))
        self._spare += 1
        self.stack.start("triggerer", beside=f"triggerer {self._spare}")
        time.sleep(5 * at)
        killed = at < 0.5
        (self.stack.kill if killed else self.stack.end)(old)
        return f"{old} {'killed' if killed else 'ended'}"

    def _ledger_away(self, at: float) -> str:
        """Take the ledger's server away for some seconds: frozen, killed, or stopped."""
        how = ("freeze", "kill", "stop")[int(at * 1000) % 3]
        getattr(self.stack.ledger, how)()
        time.sleep(AWAY_S[0] + at * (AWAY_S[1] - AWAY_S[0]))
        self.stack.ledger.back()
        return how

    def _clock(self, at: float) -> str:
        """Start the triggerer on a machine whose clock is wrong by some seconds, until it is started next."""
        skew = round((2 * at - 1) * SKEW_S)
        self._again("triggerer", before=["faketime", "--exclude-monotonic", "-f", f"{skew:+d}s"])
        return f"triggerer {skew:+d} s"


class Cleared:
    """Follows the tasks that were cleared, to see that each ends well unless something else happens to it."""

    def __init__(self) -> None:
        self.failed: list[dict[str, Any]] = []
        self.ended_well = 0
        self._open: dict[tuple[str, str, str, int], int] = {}
        self._waits: set[tuple[str, str, str, int]] = set()
        self._gate = threading.Lock()

    def note(self, task: Task) -> None:
        """Follow a task that was just cleared: its tries after the present one count."""
        with self._gate:
            self._open[task.key] = task.try_number

    def forget(self, run: str) -> None:
        """Follow a run's tasks no more: something else has happened to them."""
        with self._gate:
            self._open = {key: tried for key, tried in self._open.items() if key[1] != run}

    def outage(self) -> None:
        """Follow no more those who may fail on an outage; those who wait in the triggerer may not."""
        with self._gate:
            self._open = {key: tried for key, tried in self._open.items() if key in self._waits}

    def look(self, tasks: dict[Any, tuple[str | None, int]]) -> None:
        """Note which have ended."""
        with self._gate:
            for key, before in list(self._open.items()):
                state, tried = tasks.get(key, (None, 0))
                (self._waits.add if state == "deferred" and tried > before else self._waits.discard)(key)
                if tried <= before or state not in ("success", "failed", "up_for_retry"):
                    continue
                del self._open[key]
                if state == "success":
                    self.ended_well += 1
                else:
                    self.failed.append({"found": "cleared failed", "at": time.monotonic(), "key": "/".join(key[:3])})


def _name(task: Task) -> str:
    return f"{task.dag_id}/{task.run_id}/{task.task_id}/{task.map_index} ({task.state}, try {task.try_number})"
