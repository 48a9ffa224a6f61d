"""A watched copy of a list of objects. A watch that breaks off is resumed, or else the list is read again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from threading import Event, Thread, current_thread
from typing import Generic, TypeAlias, TypeVar

from gangplan.errors import GangplanError
from gangplan.kube.api import Api, GoneError, Object, Stream

_log = logging.getLogger(__name__)
T = TypeVar("T")

_WATCH_S = (240, 480)
"""A watch is reopened after a random time between these, in seconds, so that many watches do not reopen together."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


Listener: TypeAlias = Callable[[str, T | None, T | None], None]
"""A callback with an object's name, its value before (None: it was added) and its value now (None: it was deleted).

It runs in the mirror's thread and must return quickly.
"""


class Mirror(Generic[T]):
    """Keeps the value of `keep` for each object (None: not kept), by `name` or `namespace/name`."""

    def __init__(
        self, api: Api, path: str, keep: Callable[[Object], T | None], heard: Listener[T], **query: str
    ) -> None:
        self._api, self._path, self._query = api, path, query
        self._keep, self._heard = keep, heard
        self.there: dict[str, T] = {}
        self.ready = Event()
        self.lists = self.watches = 0  # how often each was started: it shows a relist
        self.steady = 0  # the number of the list that `there` stands on; 0 while another is being read
        self._seen = ""  # the version that the watch has reached
        self._stop = Event()
        self._stream: Stream | None = None
        self._thread = Thread(target=self._run, name=f"mirror {path}", daemon=True)

    def start(self) -> None:
        """Start the thread that lists and watches."""
        self._thread.start()

    def close(self) -> None:
        """End the watch, and wait for its thread."""
        self._stop.set()
        if self._stream is not None:
            self._stream.close()
        if self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        version, pause = "", _FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                version = version or self._list()
                pause = _FIRST_PAUSE_S
                version = self._watch(version)
            except GoneError:
                version = ""
            except GangplanError as error:
                _log.info("%s", error)
                version = self._seen
                self._stop.wait(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _list(self) -> str:
        """Read the whole list, drop what is not in it any more, and return its version."""
        self.lists += 1
        self.steady = 0
        names: set[str] = set()
        version = ""
        for page in self._api.pages(self._path, **self._query):
            version = version or page["metadata"]["resourceVersion"]
            for item in page["items"]:
                names.add(self._take(item))
        for name in self.there.keys() - names:
            self._drop(name)
        self._seen, self.steady = version, self.lists
        self.ready.set()
        return version

    def _watch(self, version: str) -> str:
        """Read changes until the stream ends; return the version that was reached."""
        seconds = random.randint(*_WATCH_S)
        began = time.monotonic()
        with self._api.watch(self._path, version, seconds=seconds, **self._query) as stream:
            self._stream = stream
            self.watches += 1
            if self._stop.is_set():
                return version
            for kind, item in stream:
                self._seen = item["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    self._drop(_name(item))
                elif kind != "BOOKMARK":
                    self._take(item)
        if time.monotonic() - began < 1:  # do not hurry a server that ends every watch at once
            self._stop.wait(_FIRST_PAUSE_S)
        return self._seen

    def _take(self, item: Object) -> str:
        name, now = _name(item), self._keep(item)
        before = self.there.get(name)
        if now is None:
            self._drop(name)
        elif now != before:
            self.there[name] = now
            self._heard(name, before, now)
        return name

    def _drop(self, name: str) -> None:
        before = self.there.pop(name, None)
        if before is not None:
            self._heard(name, before, None)


def _name(item: Object) -> str:
    """Return an object's `namespace/name`, or its name where it has no namespace."""
    meta = item["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])
