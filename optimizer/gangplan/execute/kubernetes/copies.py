"""Copies of a cluster's objects: watched by a process that stays, or listed anew by a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from gangplan.errors import NotFoundError, UnavailableError
from gangplan.kube import Api, Mirror, Object

T = TypeVar("T", covariant=True)
V = TypeVar("V")

Heard: TypeAlias = Callable[[], None]
"""A callback that runs in a watch's thread and must return quickly."""

READY_S = 60.0
"""The first list of a watched copy must be there after so many seconds."""


def nothing_heard() -> None:
    """Changes are read from the copy."""


class Copy(Protocol[T]):
    """The objects of one list, by name or `namespace/name`."""

    def now(self) -> Mapping[str, T]:
        """Return them as they are, as far as the copy knows."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Listed(Generic[V]):
    """A copy that is read anew each time."""

    def __init__(self, api: Api, path: str, keep: Callable[[Object], V | None], **query: str) -> None:
        self._api, self._path, self._keep, self._query = api, path, keep, query

    def now(self) -> Mapping[str, V]:
        """List the objects."""
        items = self._api.items(self._path, **self._query)
        return {_key(item): value for item in items if (value := self._keep(item)) is not None}

    def close(self) -> None:
        """Nothing is open."""


class Watched(Generic[V]):
    """A copy that a watch keeps."""

    def __init__(self, api: Api, path: str, keep: Callable[[Object], V | None], heard: Heard, **query: str) -> None:
        self._shown = f"{api.shown}: {path}"
        self._mirror = Mirror(api, path, keep, lambda _name, _before, _now: heard(), **query)
        self._mirror.start()

    def now(self) -> Mapping[str, V]:
        """Return what the watch has heard of, once the list was read."""
        if not self._mirror.ready.wait(READY_S):
            raise UnavailableError(f"{self._shown}: was not read within {READY_S:g} s")
        return dict(self._mirror.there)

    def close(self) -> None:
        """End the watch."""
        self._mirror.close()


class Nothing(Generic[V]):
    """The copy of what a cluster does not serve."""

    def now(self) -> Mapping[str, V]:
        """Return nothing."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Copies:
    """Makes copies of one cluster's lists, all watched or all listed; watched ones call `heard` at each change."""

    api: Api
    watched: bool
    heard: Heard = nothing_heard

    def of(self, path: str, keep: Callable[[Object], V | None], *, served: bool = True, **query: str) -> Copy[V]:
        """Return a copy of a list; of what is not served, an empty one."""
        if not served:
            return Nothing()
        if not self.watched:
            return Listed(self.api, path, keep, **query)
        return Watched(self.api, path, keep, self.heard, **query)

    def serves(self, base: str) -> bool:
        """Tell whether a version of an API is served."""
        try:
            self.api.get(base)
        except NotFoundError:
            return False
        return True


def _key(item: Object) -> str:
    meta = item["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])
