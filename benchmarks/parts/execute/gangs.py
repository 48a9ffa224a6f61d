"""Gangs that ask all the time: each a Job in a queue of Kueue, asked for again as soon as the last one is done."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Condition, Event, Thread
from typing import Any, Self

from tests.cluster.objects import a_job, jobs

from benchmarks.parts.execute.history import GANG
from benchmarks.parts.execute.world import QUEUES, SPACE
from gangplan.errors import ConflictError, GangplanError, NotFoundError
from gangplan.kube.api import Api, part
from gangplan.kube.mirror import Mirror

Object = dict[str, Any]

GANGS = 30
SIZES, SECONDS = (1, 1, 1, 2, 2, 3, 4), (2, 3, 4, 6, 8)
"""Whole nodes of a gang, and how long it works: a spread of small and large, drawn alike for each peer."""

_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A Job as far as its gang must know it: whether it was let in, how many pods run, whether it ended, or failed."""

    admitted: bool
    ready: int
    done: bool
    failed: bool = False


@dataclass(slots=True)
class Run:
    """One try of a gang: when it asked, was admitted, had all its pods, and was done; it fails if it loses a pod."""

    name: str
    nodes: int
    asked: float
    admitted: float = 0.0
    ran: float = 0.0
    done: float = 0.0
    failed: bool = False


@dataclass
class Gangs:
    """The gangs of a load. Leave the block to let none ask again."""

    api: Api
    seed: int = 0
    count: int = GANGS
    runs: list[Run] = field(default_factory=list[Run])
    _stop: Event = field(default_factory=Event)
    _turned: Condition = field(default_factory=Condition)

    def __enter__(self) -> Self:
        self._mirror = Mirror(self.api, jobs(SPACE), _seen, lambda *_: self._wake())
        self._mirror.start()
        self._mirror.ready.wait(60)
        self._threads = [Thread(target=self._gang, args=(number,), daemon=True) for number in range(self.count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._wake()
        for thread in self._threads:
            thread.join(60)
        self._mirror.close()

    def _wake(self) -> None:
        with self._turned:
            self._turned.notify_all()

    def _gang(self, number: int) -> None:
        """Ask, work, and ask again."""
        draw = random.Random(f"{self.seed} {number}")
        turn = 0
        while not self._stop.is_set():
            name = f"gang-{number}-{turn}"
            job = _job(name, draw.choice(QUEUES), draw.choice(SIZES), draw.choice(SECONDS))
            run = Run(name=name, nodes=job["spec"]["parallelism"], asked=time.monotonic())
            self.runs.append(run)
            self._try(partial(self.api.create, jobs(SPACE), job))
            self._follow(run)
            self._try(partial(self.api.delete, f"{jobs(SPACE)}/{name}", propagationPolicy="Background"))
            turn += 1
            self._stop.wait(draw.uniform(0.0, 0.5))

    def _follow(self, run: Run) -> None:
        """Note when a Job gets on, until it is done."""
        while not self._stop.is_set():
            seen = self._mirror.there.get(f"{SPACE}/{run.name}")
            now = time.monotonic()
            if seen is not None:
                run.admitted = run.admitted or (now if seen.admitted else 0.0)
                run.ran = run.ran or (now if seen.ready >= run.nodes or seen.done else 0.0)
                if seen.done:
                    run.done, run.failed = now, seen.failed
                    return
            with self._turned:
                self._turned.wait(_AGAIN_S)

    def _try(self, call: Callable[[], object]) -> None:
        """Make a call until the API server, which may have been killed, has answered it."""
        while not self._stop.is_set():
            try:
                call()
            except (ConflictError, NotFoundError):  # it was done by the try before
                return
            except GangplanError:
                self._stop.wait(_AGAIN_S)
            else:
                return


def _job(name: str, queue: str, nodes: int, seconds: int) -> Object:
    """Return a Job of one pod for each node, with all of the node's GPUs."""
    made = a_job(SPACE, name, pods=nodes, gpus=8, runs_for=f"{seconds}s")
    made["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": queue}
    made["spec"]["suspend"] = True
    made["spec"]["template"]["metadata"]["labels"] = {GANG: name}
    return made


def _seen(item: Object) -> Seen:
    status = part(item, "status")
    conditions = status.get("conditions") or ()
    ended = {one["type"] for one in conditions if one["status"] == "True"} & {"Complete", "Failed"}
    return Seen(
        admitted=not part(item, "spec").get("suspend", False),
        ready=int(status.get("ready", 0)) + int(status.get("succeeded", 0)),
        done=bool(ended),
        failed="Failed" in ended,
    )
