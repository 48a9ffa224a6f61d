"""Watches that write down each change of nodes, pods and Workloads, through restarts of the API server too."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any, Self

from benchmarks.parts.execute.history import (
    NODE,
    POD,
    QUOTA,
    WORKLOAD,
    Change,
    State,
    limits_from,
    node_from,
    pod_from,
    workload_from,
)
from gangplan.errors import GangplanError
from gangplan.kube.api import Api, GoneError

Object = dict[str, Any]

NODES, PODS = "/api/v1/nodes", "/api/v1/pods"
WORKLOADS = "/apis/kueue.x-k8s.io/v1beta2/workloads"
COHORTS = "/apis/kueue.x-k8s.io/v1beta2/cohorts"
_KINDS: tuple[tuple[str, str, Callable[[Object], State]], ...] = (
    (NODE, NODES, node_from),
    (POD, PODS, pod_from),
    (WORKLOAD, WORKLOADS, workload_from),
    (QUOTA, COHORTS, limits_from),
)
_WATCH_S = 300
_PAUSE_S = 0.1


class Recorder:
    """The changes since it was started. `gaps` counts lists that were read anew, which may have lost some."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock, self._stop = Lock(), Event()
        self._changes: list[Change] = []
        self._there: dict[tuple[str, str], State] = {}
        self.gaps = 0
        self._heard = Event()
        self._ready = [Event() for _ in _KINDS]
        self._threads = [
            Thread(target=self._run, args=(*kind, ready), daemon=True)
            for kind, ready in zip(_KINDS, self._ready, strict=True)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        for ready in self._ready:
            ready.wait(60)
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()

    @property
    def changes(self) -> list[Change]:
        """What was heard so far."""
        with self._lock:
            return list(self._changes)

    def wait(self, seconds: float) -> None:
        """Wait until a node or a Workload changes, for so many seconds at most."""
        self._heard.clear()
        self._heard.wait(seconds)

    def states(self, kind: str) -> dict[str, State]:
        """Return the objects of a kind as they are now."""
        with self._lock:
            return {name: state for (of, name), state in self._there.items() if of == kind}

    def _run(self, kind: str, path: str, read: Callable[[Object], State], ready: Event) -> None:
        version = ""
        while not self._stop.is_set():
            try:
                if not version:
                    version = self._list(kind, path, read)
                    ready.set()
                with self._api.watch(path, version, seconds=_WATCH_S) as stream:
                    for event, item in stream:
                        version = item["metadata"]["resourceVersion"]
                        if event != "BOOKMARK":
                            self._take(kind, item, None if event == "DELETED" else read(item))
                        if self._stop.is_set():
                            return
            except GoneError:
                version, self.gaps = "", self.gaps + 1
            except GangplanError:  # the API server is away: it may have been killed
                self._stop.wait(_PAUSE_S)

    def _list(self, kind: str, path: str, read: Callable[[Object], State]) -> str:
        """Take all that there is as changes; what is gone since the last list, too."""
        version, names = "", set[str]()
        for page in self._api.pages(path):
            version = version or page["metadata"]["resourceVersion"]
            for item in page["items"]:
                names.add(self._take(kind, item, read(item)))
        for name in self.states(kind).keys() - names:
            self._take(kind, {"metadata": {"name": name, "resourceVersion": version}}, None, unseen=True)
        return version

    def _take(self, kind: str, item: Object, state: State | None, *, unseen: bool = False) -> str:
        meta = item["metadata"]
        name = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])
        with self._lock:
            if state is None:
                self._there.pop((kind, name), None)
            elif self._there.get((kind, name)) == state:
                return name
            else:
                self._there[kind, name] = state
            version = int(meta["resourceVersion"])
            self._changes.append(
                Change(version=version, seen_at=time.monotonic(), kind=kind, name=name, state=state, unseen=unseen)
            )
        if kind != POD:
            self._heard.set()
        return name
