"""How long a dead run keeps its slots: runs that hold gangs on real nodes are ended, and others wait for their slots.

Each run has a step that holds its gang (`python -m gangplan_kfp.held`) in a real pod. Argo's Workflows are played:
`Argo` says of a run whose pod has failed, or is gone, that it has failed, as Argo does when no retry is left. The runs
are ended in turn by SIGKILL of their processes, by Terminate, by deletion of the Workflow, and by deletion of the pod
by force; without a controller the commands of every other run take all of their pods' grace periods. The clock of a
run stops when its reservation has ended; that another gang then has the slots is added.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Condition

from tests.cluster.servers import fleet

from benchmarks.parts.execute.home import Controller, Home
from benchmarks.parts.figures import Figure
from benchmarks.parts.kfp.ground import PODS, RUN, WORKFLOWS, Ground, Object, a_workflow, ground, missing, owned_by
from gangplan import client
from gangplan.clock import system_clock
from gangplan.errors import NotFoundError
from gangplan.kube import Mirror
from gangplan.progress import Progress
from gangplan.reserve import KueueLedger
from gangplan.testing import a_request
from gangplan.types import Fleet, PipelineOwner, PodSet, Reservation, ReservationState
from gangplan_kfp.support import Gang

RUNS = 50
HANDOVER_S = 50.0
"""For how long a gang is kept between two steps: what `reserved_gang` says by itself."""

WITHIN_S = 15.0
"""Seconds within which all runs are ended: at any moment of their renewals."""

KINDS = ("kill -9", "terminate", "delete the Workflow", "delete the pod by force")
_WORK, _STUBBORN = ("sleep", "3600"), ("sh", "-c", "trap '' TERM; while :; do sleep 5; done")
_ONE = (PodSet(count=1, gpus_per_pod=1),)
_PATIENCE_S, _START = 300.0, timedelta(minutes=10)
_SEED = 7
_NAMED = re.compile(rb'(?:GANGPLAN_RESERVATION=|"reservation":")([\w.-]+)')


@dataclass(kw_only=True)
class Run:
    """A run that holds a gang; moments are of the monotonic clock, 0 while not reached."""

    name: str
    kind: str
    held: Reservation
    ended: float = 0.0
    free: float = 0.0


@dataclass
class Watch:
    """Hears when the runs' reservations end, and when the gangs that wait are granted."""

    ledger: KueueLedger
    runs: Sequence[Run]
    granted: list[float] = field(default_factory=list[float])
    _news: Condition = field(default_factory=Condition)

    def begin(self, waiting: Sequence[Reservation]) -> None:
        """Listen from now on."""
        for run in self.runs:
            self.ledger.subscribe(run.held.id, lambda now, run=run: self._ended(run, now))
        for one in waiting:
            self.ledger.subscribe(one.id, self._granted(set()))

    def _ended(self, run: Run, now: Reservation) -> None:
        if now.state.final and not run.free:
            with self._news:
                run.free = time.monotonic()
                self._news.notify_all()

    def _granted(self, seen: set[str]) -> Callable[[Reservation], None]:
        def hear(now: Reservation) -> None:
            if now.state is ReservationState.GRANTED and now.id not in seen:
                seen.add(now.id)
                with self._news:
                    self.granted.append(time.monotonic())
                    self._news.notify_all()

        return hear

    def wait(self, seconds: float, progress: Progress) -> None:
        """Wait until all slots have gone on to others."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not (all(run.free for run in self.runs) and len(self.granted) >= len(self.runs)):
                progress(len(self.granted), len(self.runs), "slots that others have")
                assert self._news.wait(deadline - time.monotonic()), self._left()

    def _left(self) -> str:
        held = [f"{run.name} ({run.kind})" for run in self.runs if not run.free]
        return f"{len(self.granted)} of {len(self.runs)} were granted; still held: {', '.join(held[:10])}"


def slowest(runs: Sequence[tuple[str, float, float]], granted: Sequence[float]) -> tuple[float, str]:
    """Return the slowest run's seconds with those until another gang had slots that were free, and those by kind.

    Parameters
    ----------
    runs
        The kind of each run's end, the moment of the end, and the moment at which its slots were free.
    granted
        The moments at which the gangs that waited were granted.
    """
    freed = sorted(free for _, _, free in runs)
    passed_on = max(then - free for then, free in zip(sorted(granted), freed, strict=True))
    took = {kind: [free - ended for its, ended, free in runs if its == kind] for kind in KINDS}
    words = "; ".join(f"{kind} {max(each):.1f} s of {len(each)}" for kind, each in took.items() if each)
    return max(max(each) for each in took.values() if each) + passed_on, f"{words}; passed on {passed_on:.1f} s"


class Argo:
    """Plays what Argo says of a run: it has failed once its pod has, or is gone."""

    def __init__(self, place: Ground) -> None:
        self._api = place.api
        self._mirror = Mirror(place.api, PODS, _pod, self._heard)

    def __enter__(self) -> Argo:
        self._mirror.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._mirror.close()

    def _heard(self, name: str, before: tuple[str, bool] | None, now: tuple[str, bool] | None) -> None:
        run = (now or before or ("", False))[0]
        if run and (now is None or now[1]):
            with suppress(NotFoundError):  # it was the Workflow that was deleted
                self._api.merge(f"{WORKFLOWS}/{run}", {"status": {"phase": "Failed"}})


def _pod(item: Object) -> tuple[str, bool]:
    """Return the run of a pod, and whether it has ended."""
    over = item.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return item["metadata"].get("labels", {}).get(RUN, ""), over


def dead(_: Path, share: int, progress: Progress) -> list[Figure]:
    """Return the slowest run's time without a controller and with one; none where no real node can be."""
    if why := missing():
        print(f"dead: not measured, {why}")
        return []
    count = max(len(KINDS), RUNS // share)
    with ground(count) as place:
        alone, words = _ended(place, count, progress, controller=False)
        aided, aided_words = _ended(place, count, progress, controller=True)
    return [
        Figure(name="dead_run_free_s", value=alone, unit="s", bar="<= 60", peer=words),
        Figure(name="dead_run_free_controller_s", value=aided, unit="s", bar="<= 5", peer=aided_words),
    ]


def _ended(place: Ground, count: int, progress: Progress, *, controller: bool) -> tuple[float, str]:
    """End so many runs that hold all slots, and return the slowest time until they are others'.

    Beside a controller no command takes its time to end: it gives back nothing that a pod still works on.
    """
    draw, prefix = random.Random(_SEED), "aided" if controller else "alone"
    with place.ledger() as ledger, Argo(place), _controller(place) if controller else nullcontext():
        runs = [_begin(place, ledger, prefix, number, stubborn=not controller) for number in range(count)]
        _wait_held(runs, progress)
        wishes = [a_request(f"{prefix}-waits-{number}", pod_sets=_ONE) for number in range(count)]
        with ThreadPoolExecutor(8) as threads:
            waiting = list(threads.map(ledger.submit, wishes))
        assert not any(one.token for one in waiting), "a gang that should wait was granted"
        watch = Watch(ledger, runs)
        watch.begin(waiting)
        for run in runs:
            time.sleep(draw.uniform(0.0, 2 * WITHIN_S / RUNS))
            run.ended = time.monotonic()
            _END[run.kind](place, run)
        watch.wait(HANDOVER_S + _PATIENCE_S, progress)
        for one in waiting:
            client.end(ledger, ledger.get(one.id))
        _clear(place, runs)
    return slowest([(run.kind, run.ended, run.free) for run in runs], watch.granted)


def _begin(place: Ground, ledger: KueueLedger, prefix: str, number: int, *, stubborn: bool) -> Run:
    """Start a run: its Workflow, its gang as its first step reserves it, and the pod of the step that holds it.

    Of each kind every other gang is one part of a loop, and its command, where `stubborn`, does not end by SIGTERM.
    """
    run, other = f"{prefix}-{number}", number // len(KINDS) % 2 == 1
    workflow = place.api.create(WORKFLOWS, a_workflow(run))
    name = f"gang/part-{number}" if other else "gang"
    key, attempt = f"kfp/{run}/{name}", f"{PipelineOwner(run=run)}/{name}/1"
    asked = client.submit(ledger, a_request(key, pod_sets=_ONE), system_clock() + timedelta(minutes=5), attempt)
    held = client.claim(ledger, asked, _START)  # the step itself renews for a handover alone
    assert held.state is ReservationState.GRANTED, held
    text = Gang(key=key, reservation=str(held.id), handover_s=HANDOVER_S).text()
    work = _STUBBORN if stubborn and other else _WORK
    command = [sys.executable, "-m", "gangplan_kfp.held", "--gang", text, "--", *work]
    pod = place.step(run, f"{run}-step", command, at=number)
    pod["metadata"]["ownerReferences"] = [owned_by(workflow)]
    place.api.create(PODS, pod)
    return Run(name=run, kind=KINDS[number % len(KINDS)], held=held)


def _wait_held(runs: Sequence[Run], progress: Progress) -> None:
    """Wait until every run's command works: then its lease has been renewed by its step."""
    deadline = time.monotonic() + _PATIENCE_S
    while (working := len({run.held.id for run in runs} & _processes("sleep").keys())) < len(runs):
        progress(working, len(runs), "runs that hold their gangs")
        assert time.monotonic() < deadline, f"only {working} of {len(runs)} runs work"
        time.sleep(1.0)


# ---------------------------------------------------------------- the ends


def _kill(place: Ground, run: Run) -> None:
    for process in _processes()[run.held.id]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _terminate(place: Ground, run: Run) -> None:
    """Do what the button does: KFP sets a deadline of 0 s, by which Argo fails the Workflow and ends its pods."""
    failed = {"phase": "Failed", "message": "Step exceeded its deadline"}
    place.api.merge(f"{WORKFLOWS}/{run.name}", {"spec": {"activeDeadlineSeconds": 0}, "status": failed})
    place.api.delete(f"{PODS}/{run.name}-step")


def _delete(place: Ground, run: Run) -> None:
    place.api.delete(f"{WORKFLOWS}/{run.name}", propagationPolicy="Background")


def _force(place: Ground, run: Run) -> None:
    place.api.delete(f"{PODS}/{run.name}-step", gracePeriodSeconds=0)


_END: dict[str, Callable[[Ground, Run], None]] = dict(zip(KINDS, (_kill, _terminate, _delete, _force), strict=True))


def _processes(program: str = "") -> dict[str, list[int]]:
    """Return the processes of steps, by the reservation that their words or their variables name."""
    found: dict[str, list[int]] = {}
    for one in Path("/proc").iterdir():
        if not one.name.isdigit():
            continue
        try:
            words = (one / "cmdline").read_bytes()
            named = _NAMED.search(words) or _NAMED.search((one / "environ").read_bytes())
        except OSError:  # it has ended
            continue
        if named and words.startswith(program.encode()):
            found.setdefault(named[1].decode(), []).append(int(one.name))
    return found


# ---------------------------------------------------------------- around it


@contextmanager
def _controller(place: Ground) -> Iterator[None]:
    """Run `gangplan controller` beside the block; it has no plan, and gives back all the same."""
    with tempfile.TemporaryDirectory(prefix="gangplan-bench-kfp-") as folder:
        home = Home(folder=Path(folder), fleet=Fleet(pools=(fleet.REAL,)), targets={})
        with Controller(place.cluster, home, place.url) as controller:
            controller.wait_for("gangplan_leader", 1)
            yield


def _clear(place: Ground, runs: Sequence[Run]) -> None:
    """Take away what is left of the runs."""
    for run in runs:
        for path, options in ((f"{WORKFLOWS}/{run.name}", {}), (f"{PODS}/{run.name}-step", {"gracePeriodSeconds": 0})):
            with suppress(NotFoundError):
                place.api.delete(path, **options)
