"""Run a Job, JobSet or TrainJob on the slots of the gang that this step holds: followed to its end, its log shown.

The step is held (`gangplan_kfp.held`), which renews the lease, says by a file that the slots must be left, and ends the
step when they were lost. The Job's own time limit follows the lease, so that it ends with it whatever becomes of us.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from gangplan.client import MUST_LEAVE
from gangplan.clock import Clock
from gangplan.errors import (
    ConflictError,
    ForbiddenError,
    GangplanError,
    InputError,
    NotFoundError,
    StaleTokenError,
    UnavailableError,
)
from gangplan.kube import RESERVATION, Api, Object, connect, job_rights, may
from gangplan.reserve import KueueLedger, Ledger, open_ledger
from gangplan.types import Reservation, ReservationId
from gangplan_kfp.support.job_logs import Logs, troubles
from gangplan_kfp.support.manifests import JOB, KINDS, OF_JOBSET, OWN_DEADLINE, Kind, limited, placed, read_job
from gangplan_kfp.support.steps import say, settings_from

LAUNCHER = "gangplan.io/launcher"
"""The annotation of a Job that names the pod of the step that follows it."""

REQUEST = "gangplan.io/request-key"

_LOOK_S, _LIMIT_EVERY_S = 1.0, 5.0
_LEAVE_S = 20.0
"""So long a stopped Job's pods are waited for, their last words shown: a step has 30 s to end."""

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class JobFailedError(GangplanError):
    """The Job ended without having completed."""


class _Stopped(BaseException):
    """The step must end: by SIGTERM, or because its slots are to be left."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A Job that has completed, where, and how long it took."""

    kind: str
    name: str
    seconds: float
    pods: tuple[tuple[str, str, str], ...]
    """Rank, pod and node of each."""

    def page(self) -> str:
        """Return a page about it: how long it took, and which pods ran where."""
        head = f"# {self.kind} {self.name}: completed in {self.seconds:.0f} s"
        rows = [("rank", "pod", "node"), ("---",) * 3, *self.pods]
        return "\n".join((head, "", *("| " + " | ".join(row) + " |" for row in rows), ""))


def run_job(job: Mapping[str, Any], job_yaml: str, *, node_label: str, ledger: str, home: str) -> Ran:
    """Run a Job on the slots that this step holds, and return when it has completed.

    Raises JobFailedError when it failed. When the slots must be left, or on SIGTERM, the Job is deleted, and the
    process ends with MUST_LEAVE or 143.
    """
    manifest = read_job(job, job_yaml)
    settings = settings_from(ledger=ledger, home=home)
    with open_ledger(settings.ledger_url, clock=settings.clock) as book:
        held = _held(book)
        run = _Run(book, held, placed(manifest, book, held, node_label), settings.clock)
        with _told_to_stop():
            try:
                return run.to_its_end()
            except _Stopped as stopped:
                say(f"{run.shown}: {stopped}: it is stopped")
                run.stop()
                raise SystemExit(stopped.code) from None


def _held(book: Ledger) -> Reservation:
    """Return the reservation that this step holds."""
    id, token = (os.environ.get(f"GANGPLAN_{name}", "") for name in ("RESERVATION", "TOKEN"))
    if not id:
        remedy = "is not set: this step holds no gang: use run_on_gang inside `with reserved_gang(...)`"
        raise InputError("GANGPLAN_RESERVATION", "", remedy)
    held = book.get(ReservationId(id))
    if str(held.token) != token:
        raise StaleTokenError(f"reservation {id}: is {held.state}, and no longer this step's")
    return held


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Let SIGTERM end the block."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # we are at it
        raise _Stopped(128 + number, "the step was told to end")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """One Job, from its creation to its end."""

    def __init__(self, book: Ledger, held: Reservation, body: Object, clock: Clock) -> None:
        self._book, self._held, self._body, self._clock = book, held, body, clock
        self._api: Api = book.api if isinstance(book, KueueLedger) else connect()
        self._kind: Kind = KINDS[body["kind"]]
        self._name: str = body["metadata"]["name"]
        self.namespace: str = body["metadata"].setdefault("namespace", _namespace(book))
        self._path = f"{self._kind.path(self.namespace)}/{self._name}"
        self._logs = Logs(self._api, self.namespace, f"{self._kind.pods}={self._name}", say)
        self._limited_at = 0.0
        self._notice = Path(os.environ.get("GANGPLAN_NOTICE") or os.devnull)
        self._began = time.monotonic()

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return f"{self._body['kind'].lower()} {self._name}"

    def to_its_end(self) -> Ran:
        """Create it, or find it where this step ran before, and wait until it has ended."""
        self._begin()
        while True:
            seen = self._api.get(self._path)
            self._logs.look()
            if (ended := _ended(seen, self._kind)) is not None:
                break
            self._leave_if_told()
            self._limit()
            time.sleep(_LOOK_S)
        self._logs.close()
        if ended:
            raise JobFailedError(f"{self.shown}: failed: {'; '.join([ended, *troubles(self._logs.pods)])}")
        return Ran(
            kind=self._body["kind"],
            name=self._name,
            seconds=time.monotonic() - self._began,
            pods=tuple(self._logs.where()),
        )

    def stop(self) -> None:
        """Delete it, and wait a while for its pods to end; where that fails, its time limit ends it with the lease."""
        with suppress(NotFoundError):
            self._api.delete(self._path, propagationPolicy="Background")
        deadline = time.monotonic() + _LEAVE_S
        while self._logs.look() and time.monotonic() < deadline:
            time.sleep(_LOOK_S / 4)
        self._logs.close()

    # ---------------------------------------------------------------- its beginning

    def _require_rights(self) -> None:
        """Refuse to begin what could not be followed to its end."""
        of = {"", "batch", self._kind.version.partition("/")[0]}
        for group, resource, verb in job_rights():
            if group in of and not may(self._api, self.namespace, group, resource, verb):
                what = f"{verb} {resource} in namespace {self.namespace}"
                remedy = f"gangplan kube manifests --jobs --namespace {self.namespace} | kubectl apply -f -"
                raise ForbiddenError(f"{self.shown}: this step's account may not {what}: {remedy}")

    def _begin(self) -> None:
        self._require_rights()
        notes: dict[str, str] = self._body["metadata"].get("annotations") or {}
        ours = {LAUNCHER: os.environ.get("KFP_POD_NAME", ""), REQUEST: _key(self._held)}
        self._body["metadata"]["annotations"] = notes | ours
        body = limited(self._body, self._seconds_of_lease())
        where = self._kind.path(self.namespace)
        if not self._found():
            self._api.create(where, body, fieldValidation="Strict", dryRun="All")
            self._api.create(where, body, fieldValidation="Strict")
            say(f"{self.shown}: created on {_nodes(self._held)}")

    def _found(self) -> bool:
        """Tell whether it runs on these slots already: this step runs again. One that has ended makes room."""
        try:
            there = self._api.get(self._path)
        except NotFoundError:
            return False
        notes: dict[str, str] = there["metadata"].get("annotations") or {}
        if notes.get(REQUEST) != _key(self._held):
            raise InputError("job.metadata.name", self._name, "is another's: delete that one, or rename this")
        other = notes.get(LAUNCHER, "")
        if other != os.environ.get("KFP_POD_NAME", "") and self._runs(other):
            remedy = f"is run by step {other} now: give the Job of each step a name of its own"
            raise InputError("job.metadata.name", self._name, remedy)
        here = there["metadata"].get("labels", {}).get(RESERVATION) == self._held.id
        if here and "deletionTimestamp" not in there["metadata"] and _ended(there, self._kind) is None:
            own = {"metadata": {"annotations": {LAUNCHER: os.environ.get("KFP_POD_NAME", "")}}}
            self._api.merge(self._path, own)
            say(f"{self.shown}: runs already, begun by an earlier try of this step")
            return True
        self._make_room()
        return False

    def _make_room(self) -> None:
        """Delete one that an earlier try left, and wait until it is gone with its pods."""
        say(f"{self.shown}: one of an earlier try is deleted")
        with suppress(NotFoundError, ConflictError):
            self._api.delete(self._path, propagationPolicy="Foreground")
        while True:
            try:
                self._api.get(self._path)
            except NotFoundError:
                return
            self._leave_if_told()
            time.sleep(_LOOK_S / 4)

    def _runs(self, pod: str) -> bool:
        """Tell whether a step's pod is at work."""
        if not pod:
            return False
        try:
            seen = self._api.get(f"/api/v1/namespaces/{self.namespace}/pods/{pod}")
        except NotFoundError:
            return False
        return seen["status"].get("phase") == "Running" and "deletionTimestamp" not in seen["metadata"]

    # ---------------------------------------------------------------- while it runs

    def _leave_if_told(self) -> None:
        if self._notice.is_file():
            raise _Stopped(MUST_LEAVE, "its slots are to be left")

    def _limit(self) -> None:
        """Let its time limit, and that of the Jobs that it is made of, follow the lease."""
        if time.monotonic() - self._limited_at < _LIMIT_EVERY_S:
            return
        self._limited_at = time.monotonic()
        try:
            self._held = self._book.get(self._held.id)
        except UnavailableError as error:  # it may answer again before the lease ends
            say(f"the ledger does not answer: {error}")
            return
        for job in self._jobs():
            self._limit_job(job)

    def _jobs(self) -> Iterator[Object]:
        path = JOB.path(self.namespace)
        if self._kind is JOB:
            yield self._api.get(self._path)
        else:
            yield from self._api.items(path, labelSelector=f"{OF_JOBSET}={self._name}")

    def _limit_job(self, job: Object) -> None:
        began, ends = job.get("status", {}).get("startTime"), self._held.expires_at
        if began is None or ends is None or _ended(job, JOB) is not None:
            return
        seconds = ceil((ends - datetime.fromisoformat(began)).total_seconds())
        own = (job["metadata"].get("annotations") or {}).get(OWN_DEADLINE)
        seconds = max(1, seconds if own is None else min(int(own), seconds))
        if seconds != job["spec"].get("activeDeadlineSeconds"):
            path = f"{JOB.path(self.namespace)}/{job['metadata']['name']}"
            self._api.merge(path, {"spec": {"activeDeadlineSeconds": seconds}})

    def _seconds_of_lease(self) -> int:
        left = timedelta(0) if self._held.expires_at is None else self._held.expires_at - self._clock()
        return max(1, ceil(left.total_seconds()))


def _key(held: Reservation) -> str:
    """Return the key of a gang's request, whichever of its reservations this is."""
    return held.request.request_key.partition("#")[0]


def _nodes(held: Reservation) -> str:
    return ", ".join(dict.fromkeys(place.node or place.pool for place in held.placements))


def _namespace(book: Ledger) -> str:
    """Return where Jobs are created: the ledger's own namespace, or that of this pod."""
    if isinstance(book, KueueLedger):
        return book.place.namespace
    return _ACCOUNT.read_text().strip() if _ACCOUNT.exists() else "default"


def _ended(body: Object, kind: Kind) -> str | None:
    """Return why a Job failed, an empty text when it has completed, and None while it has not ended."""
    marks: list[Object] = body.get("status", {}).get("conditions") or []
    true = {mark["type"]: mark for mark in marks if mark["status"] == "True"}
    if kind.complete in true:
        return ""
    if "Failed" in true:
        return true["Failed"].get("message") or true["Failed"].get("reason") or "for no reason that it says"
    return None
