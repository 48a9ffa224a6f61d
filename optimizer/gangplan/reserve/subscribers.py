"""The subscribers of this process, by reservation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from threading import Lock

from gangplan.types import Reservation, ReservationId

_log = logging.getLogger(__name__)

Callback = Callable[[Reservation], None]
Unsubscribe = Callable[[], None]


class Subscribers:
    """Callbacks that are told how a reservation stands, and then of its changes."""

    def __init__(self) -> None:
        self._gate = Lock()
        self._keys = count()
        self._by_id: dict[ReservationId, dict[int, Callback]] = {}
        self._fresh: dict[ReservationId, set[int]] = {}  # the callbacks that have been told nothing yet

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """Add a callback: it is told soon how the reservation stands, then of every change."""
        with self._gate:
            key = next(self._keys)
            self._by_id.setdefault(id, {})[key] = callback
            self._fresh.setdefault(id, set()).add(key)
        return lambda: self._drop(id, key)

    def _drop(self, id: ReservationId, key: int) -> None:
        with self._gate:
            of_id = self._by_id.get(id, {})
            of_id.pop(key, None)
            if not of_id:
                self._by_id.pop(id, None)
                self._fresh.pop(id, None)

    def ids(self) -> set[ReservationId]:
        """Return all reservations that have subscribers."""
        with self._gate:
            return set(self._by_id)

    def take_fresh(self) -> dict[ReservationId, set[int]]:
        """Return the callbacks that were added since the last time, by reservation."""
        with self._gate:
            fresh, self._fresh = self._fresh, {}
            return fresh

    def again(self, fresh: dict[ReservationId, set[int]]) -> None:
        """Take back what `take_fresh` returned, as the reservations could not be read."""
        with self._gate:
            for id, keys in fresh.items():
                if id in self._by_id:
                    self._fresh.setdefault(id, set()).update(keys)

    def tell(self, reservation: Reservation, keys: set[int] | None = None) -> None:
        """Tell the subscribers of a reservation, or those of `keys`, how it stands; a final one has none any more."""
        with self._gate:
            of_id = self._by_id.get(reservation.id, {})
            callbacks = [(key, of_id[key]) for key in of_id if keys is None or key in keys]
        for key, callback in callbacks:
            try:
                callback(reservation)
            except Exception:  # noqa: BLE001 (whatever it is, the others must be told)
                _log.exception("a subscriber to %s failed and is told no more", reservation.id)
                self._drop(reservation.id, key)
            if reservation.state.final:
                self._drop(reservation.id, key)
