"""One open ledger for all waits of a process: a triggerer with thousands of deferred tasks has one thread for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from gangplan import reserve
from gangplan.types import Reservation, ReservationId

if TYPE_CHECKING:
    from gangplan.reserve import Ledger


@dataclass(frozen=True)
class News:
    """What one waits for, and the ledger that tells it, which others use too."""

    seen: asyncio.Queue[Reservation]
    ledger: Ledger


class _Shared:
    """A ledger that is opened by the first who waits and closed after the last."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.users = 0
        self._ledger: Ledger | None = None
        self._gate = Lock()

    def start(self, id: ReservationId, tell: Callable[[Reservation], None], undo: list[Callable[[], None]]) -> Ledger:
        """Let `tell` hear of a reservation; what ends that is added to `undo`. Return the ledger."""
        with self._gate:
            if self._ledger is None:
                self._ledger = reserve.open_ledger(self.url)
            undo.append(self._ledger.subscribe(id, tell))
            return self._ledger

    def stop(self, undo: list[Callable[[], None]]) -> None:
        """End what was started, once its start is over, and close the ledger if nobody waits any more."""
        with self._gate:
            for unsubscribe in undo:
                unsubscribe()
            if self.users == 0 and self._ledger is not None:
                self._ledger.close()
                self._ledger = None


_gate = Lock()
_open: dict[str, _Shared] = {}


@asynccontextmanager
async def news_of(url: str, id: ReservationId) -> AsyncGenerator[News]:
    """Yield what tells soon how a reservation stands, then every change of it; waiting on it costs no thread.

    Raises `UnavailableError` when the ledger cannot be opened; one that goes away later is asked until it answers.
    """
    loop, news = asyncio.get_running_loop(), asyncio.Queue[Reservation]()

    def tell(seen: Reservation) -> None:
        loop.call_soon_threadsafe(news.put_nowait, seen)

    shared, undo = _join(url), list[Callable[[], None]]()
    try:
        ledger = await asyncio.to_thread(shared.start, id, tell, undo)
        yield News(news, ledger)
    finally:
        _leave(shared)
        await asyncio.to_thread(shared.stop, undo)


def _join(url: str) -> _Shared:
    """Return the process's ledger of a URL, which stays open until `_leave`."""
    with _gate:
        shared = _open.setdefault(url, _Shared(url))
        shared.users += 1
        return shared


def _leave(shared: _Shared) -> None:
    """Note that one fewer waits; whoever comes after the last opens the ledger anew."""
    with _gate:
        shared.users -= 1
        if shared.users == 0:
            del _open[shared.url]
