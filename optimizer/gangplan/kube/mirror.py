"""A watched copy of a list of objects: resumed where it broke off, listed anew where the cluster forgot."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from threading import Event, Thread, current_thread
from typing import Generic, Protocol, TypeVar

from gangplan.errors import GangplanError
from gangplan.kube.api import Api, GoneError, Object, Stream

_log = logging.getLogger(__name__)
T = TypeVar("T")
Seen = TypeVar("Seen", contravariant=True)

_WATCH_S = (240, 480)
"""A watch is opened anew after a time between these, so that many do not come back together."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


class Heard(Protocol[Seen]):
    """Told of each change from the mirror's thread, and to return soon: the old picture and the new one."""

    def __call__(self, name: str, before: Seen | None, now: Seen | None) -> None:
        """Take in that an object came (before is None), changed, or went (now is None)."""
        ...


class Mirror(Generic[T]):
    """Keeps what `keep` makes of each object (None: nothing), by its name with its namespace in front if it has one."""

    def __init__(self, api: Api, path: str, keep: Callable[[Object], T | None], heard: Heard[T], **query: str) -> None:
        self._api, self._path, self._query = api, path, query
        self._keep, self._heard = keep, heard
        self.there: dict[str, T] = {}
        self.ready = Event()
        self.lists = self.watches = 0  # so often each was asked for: a relist shows
        self.steady = 0  # the number of the list that it goes by; 0 while it makes another
        self._seen = ""  # the version that the watch has got to
        self._stop = Event()
        self._stream: Stream | None = None
        self._thread = Thread(target=self._run, name=f"mirror {path}", daemon=True)

    def start(self) -> None:
        """Begin to list and to watch."""
        self._thread.start()

    def close(self) -> None:
        """End the watch, and wait for its thread."""
        self._stop.set()
        if self._stream is not None:
            self._stream.close()
        if self._thread.is_alive() and self._thread is not current_thread():
            self._thread.join(timeout=5)

    def interrupt(self) -> None:
        """End the present watch; the next goes on where it was."""
        if self._stream is not None:
            self._stream.close()

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
        """Take in the whole list, what went meanwhile included; return its version."""
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
        """Take in changes until the stream ends; return the version that it got to."""
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
        if time.monotonic() - began < 1:  # a server that ends every watch at once is not to be asked at full speed
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
    """Return an object's name, with its namespace in front if it has one."""
    meta = item["metadata"]
    space = meta.get("namespace")
    return f"{space}/{meta['name']}" if space else str(meta["name"])
