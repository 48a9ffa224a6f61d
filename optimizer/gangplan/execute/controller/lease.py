"""Who of several processes leads: the holder of a cluster's Lease, or of a file's lock where there is no cluster."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Event, Thread
from typing import TextIO
from uuid import uuid4

from gangplan.clock import Clock
from gangplan.errors import ConflictError, GangplanError, NotFoundError, UnavailableError
from gangplan.kube import Api, Object

_log = logging.getLogger(__name__)

LEASE_S = 15.0
"""How long a Lease holds that nobody renews."""

LAST_PASS = "gangplan.io/last-pass"  # noqa: S105 - an annotation's name
"""The annotation of the Lease that says what the leader did last."""

_RENEWED, _TRUSTED = 1 / 5, 2 / 3
"""Shares of the lease: after which it is renewed, and after which its holder no longer acts on it.

Between the second and the whole lease nobody acts, so that a call which was under way then has ended or failed.
"""

_LOOK_S = 0.5

Monotonic = Callable[[], float]


class Lead(ABC):
    """A claim to lead, pursued by a thread of its own; `changed` hears when leading begins and when it is over."""

    def __init__(self, *, changed: Callable[[bool], None]) -> None:
        self.holder = f"{socket.gethostname()}_{uuid4().hex[:8]}"
        self._changed, self._led = changed, False
        self._stop = Event()
        self._ends, self._in_hand, self._turned = False, 0, Condition()
        self._said = ""
        self._thread = Thread(target=self._run, name="lead", daemon=True)

    @property
    @abstractmethod
    def leads(self) -> bool:
        """Whether this process may act now."""

    def start(self) -> None:
        """Start to pursue it."""
        self._thread.start()

    def may_write(self) -> None:
        """Raise UnavailableError where another process may lead by now."""
        if not self.leads:
            raise UnavailableError("controller: does not lead any more: whoever leads goes on")

    def may_begin(self) -> None:
        """Raise UnavailableError where another process may lead by now, or this one is about to end."""
        self.may_write()
        if self._ends:
            raise UnavailableError("controller: was asked to stop: whoever leads next goes on")

    def say(self, text: str) -> None:
        """Let others read what was done last."""
        self._said = text

    @contextmanager
    def step(self) -> Generator[None]:
        """Take a step, which is refused as by `may_begin`; the lead is not given up before all of them are done."""
        with self._turned:
            self.may_begin()
            self._in_hand += 1
        try:
            yield
        finally:
            with self._turned:
                self._in_hand -= 1
                self._turned.notify_all()

    def close(self) -> None:
        """Begin nothing more, wait for the steps in hand, and give it up, so that another process can lead at once."""
        with self._turned:
            self._ends = True
            self._turned.wait_for(lambda: not self._in_hand)
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._give_up()
        self._tell(False)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._pursue()
            except GangplanError as error:
                _log.warning("lease: %s", error)
            self._tell(self.leads)
            self._stop.wait(self._pause() * random.uniform(0.8, 1.2))

    def _tell(self, leads: bool) -> None:
        if leads != self._led:
            self._led = leads
            _log.info("%s %s", self.holder, "leads" if leads else "does not lead any more")
            self._changed(leads)

    def _pause(self) -> float:
        return _LOOK_S

    @abstractmethod
    def _pursue(self) -> None: ...

    @abstractmethod
    def _give_up(self) -> None: ...


class ClusterLead(Lead):
    """The holder of a Lease (coordination.k8s.io/v1), written with the version that was read.

    Nobody's clock is trusted: a lease has run out when it stood unchanged for its whole time by the monotonic clock of
    who looks at it. Its holder counts from before its own last write, and so stops first.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        *,
        clock: Clock,
        changed: Callable[[bool], None],
        seconds: float = LEASE_S,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        super().__init__(changed=changed)
        self._api, self._list, self._name, self._namespace = api, leases(namespace), name, namespace
        self._clock, self._seconds, self._monotonic = clock, seconds, monotonic
        self._until = 0.0
        self._seen: tuple[object, float] = None, 0.0  # the Lease's version, and since when we know it

    @property
    def leads(self) -> bool:
        """See `Lead.leads`."""
        return self._monotonic() < self._until

    def _pause(self) -> float:
        return self._seconds * _RENEWED if self.leads else min(_LOOK_S, self._seconds * _RENEWED)

    def _pursue(self) -> None:
        """Take the Lease if it is free or has run out, and renew it if it is ours."""
        began = self._monotonic()
        lease = self._read()
        if lease is None:
            body = {"metadata": {"name": self._name, "namespace": self._namespace}}
            self._write(body, began, create=True)
            return
        holder = lease["spec"].get("holderIdentity")
        if holder == self.holder or not holder or self._has_run_out(lease, began):
            self._write(lease, began)
        else:
            self._until = 0.0

    def _read(self) -> Object | None:
        try:
            return self._api.get(f"{self._list}/{self._name}")
        except NotFoundError:
            return None

    def _has_run_out(self, lease: Object, now: float) -> bool:
        version = lease["metadata"]["resourceVersion"]
        if self._seen[0] != version:
            self._seen = version, now
        return now - self._seen[1] > float(lease["spec"].get("leaseDurationSeconds") or self._seconds)

    def _write(self, lease: Object, began: float, *, create: bool = False) -> None:
        """Write the Lease as ours; who was faster is seen at the next look."""
        before: Object = lease.get("spec") or {}
        ours = before.get("holderIdentity") == self.holder
        moment = _micro_time(self._clock)
        spec: Object = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "acquireTime": before.get("acquireTime", moment) if ours else moment,
            "renewTime": moment,
            "leaseTransitions": before.get("leaseTransitions", -1) + (not ours),
        }
        try:
            self._put(lease, spec, create=create)
        except ConflictError:
            return
        self._until = began + self._seconds * _TRUSTED

    def _put(self, lease: Object, spec: Object, *, create: bool = False) -> None:
        meta = dict(lease["metadata"])
        if self._said:
            meta["annotations"] = {**(meta.get("annotations") or {}), LAST_PASS: self._said}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        if create:
            self._api.create(self._list, body)
        else:
            self._api.call("PUT", f"{self._list}/{self._name}", body)

    def _give_up(self) -> None:
        """Empty the Lease, if it is ours."""
        self._until = 0.0
        lease = self._read()
        if lease is not None and lease["spec"].get("holderIdentity") == self.holder:
            self._put(lease, {**lease["spec"], "holderIdentity": "", "renewTime": _micro_time(self._clock)})


class FileLead(Lead):
    """The holder of a file's lock on this machine, which ends with its process; what was done last is in the file."""

    def __init__(self, file: Path, *, changed: Callable[[bool], None]) -> None:
        super().__init__(changed=changed)
        self._file = file
        self._locked: TextIO | None = None

    @property
    def leads(self) -> bool:
        """See `Lead.leads`."""
        return self._locked is not None

    def say(self, text: str) -> None:
        """See `Lead.say`."""
        super().say(text)
        if self._locked is not None:
            self._locked.seek(0)
            self._locked.write(text)
            self._locked.truncate()
            self._locked.flush()

    def _pursue(self) -> None:
        if self._locked is not None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return
        self._locked = file

    def _give_up(self) -> None:
        if self._locked is not None:
            self._locked.close()
            self._locked = None


def is_locked(file: Path) -> bool:
    """Return whether a process of this machine leads by this file."""
    if not file.exists():
        return False
    with file.open("r+") as looked:
        try:
            fcntl.flock(looked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def leases(namespace: str) -> str:
    """Return the path of a namespace's Leases."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"


def _micro_time(clock: Clock) -> str:
    return clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
