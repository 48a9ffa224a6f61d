"""The trigger that waits for a gang's slots, so that no worker has to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Protocol

from airflow.triggers.base import BaseTrigger, TriggerEvent

from gangplan.clock import parse_utc, system_clock
from gangplan.errors import UnavailableError
from gangplan.reserve import open_ledger
from gangplan.steps import give_back
from gangplan.types import Reservation, ReservationId, ReservationState
from gangplan_airflow.hook import GangplanHook
from gangplan_airflow.waiting import words


class Waits(Protocol):
    """What the trigger needs to know of its task."""

    gangplan_conn_id: str
    request_key: str
    poll_interval: float


class GangGrantedTrigger(BaseTrigger):
    """Fires when a reservation no longer waits, or at the deadline: its id, and `because`, why it waited at first.

    Every change of its ETA or its reason goes to the task's log. A ledger that is away for a while is asked again.
    """

    def __init__(
        self,
        *,
        gangplan_conn_id: str,
        request_key: str,
        reservation_id: str,
        because: str,
        until: str,
        poll_s: float,
    ) -> None:
        super().__init__()
        self.gangplan_conn_id = gangplan_conn_id
        self.request_key = request_key
        self.reservation_id = reservation_id
        self.because = because
        self.until = until
        self.poll_s = poll_s

    @classmethod
    def waiting(cls, task: Waits, asked: Reservation, until: datetime, because: str) -> GangGrantedTrigger:
        """Make the trigger of a task whose reservation waits."""
        latest = asked.request.latest_start
        return cls(
            gangplan_conn_id=task.gangplan_conn_id,
            request_key=task.request_key,
            reservation_id=asked.id,
            because=because,
            until=(until if latest is None else min(until, latest)).isoformat(),
            poll_s=task.poll_interval,
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what another triggerer needs to go on: the connection's name, never its URL."""
        return "gangplan_airflow.trigger.GangGrantedTrigger", {
            "gangplan_conn_id": self.gangplan_conn_id,
            "request_key": self.request_key,
            "reservation_id": self.reservation_id,
            "because": self.because,
            "until": self.until,
            "poll_s": self.poll_s,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the reservation no longer waits, or the deadline has come."""
        url = await GangplanHook(self.gangplan_conn_id).aledger_url()
        until, said = parse_utc("until", self.until), None
        while True:
            reservation = await asyncio.to_thread(self._look, url)
            now = system_clock()
            if reservation is not None and (reservation.state is not ReservationState.WAITING or now >= until):
                yield TriggerEvent({"reservation_id": self.reservation_id, "because": self.because})
                return
            if reservation is not None and (reservation.reason, reservation.eta) != said:
                said = (reservation.reason, reservation.eta)
                self.log.info(words(reservation, now))
            await asyncio.sleep(min(self.poll_s, max(0.0, (until - now).total_seconds())) or self.poll_s)

    async def on_kill(self) -> None:
        """Give the request back when a user ends the task (`cleanup` would do so whenever a triggerer restarts)."""
        url = await GangplanHook(self.gangplan_conn_id).aledger_url()
        await asyncio.to_thread(self._give_back, url)

    def _look(self, url: str) -> Reservation | None:
        """Read the reservation; none while the ledger is away."""
        try:
            with open_ledger(url) as ledger:
                ledger.tick()  # a lease may have run out with nobody there to notice
                return ledger.get(ReservationId(self.reservation_id))
        except UnavailableError as error:
            self.log.warning("the ledger is away, asking again: %s", error)
            return None

    def _give_back(self, url: str) -> None:
        """Cancel the request, or release it if it was granted in this moment."""
        with open_ledger(url) as ledger:
            give_back(ledger, self.request_key)
