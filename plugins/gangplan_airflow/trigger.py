"""The trigger that waits for a gang's slots, so that no worker has to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Protocol

from airflow.triggers.base import BaseTrigger, TriggerEvent

from gangplan import client
from gangplan.clock import parse_utc
from gangplan.config import present
from gangplan.errors import UnavailableError
from gangplan.reserve import open_ledger
from gangplan.types import Reservation, ReservationId
from gangplan_airflow.hook import GangplanHook
from gangplan_airflow.news import news_of

AGAIN_S = 5.0
"""Seconds until a ledger that cannot be opened is tried again."""


def waiting_text(reservation: Reservation, now: datetime) -> str:
    """Return one line about what a task waits for, until when, and why."""
    return client.wait_text(reservation, client.eta_text(reservation, now=now), name_slots=True)


class Waits(Protocol):
    """What the trigger needs to know of its task."""

    gangplan_conn_id: str
    request_key: str


class GangGrantedTrigger(BaseTrigger):
    """Fires when a reservation no longer waits, or at the deadline; its event has the id, and why it waited at first.

    Every change of the ETA or the reason goes to the task's log. A ledger that does not answer is asked again. All
    triggers of a process share one open ledger, and one thread that looks for changes in it.
    """

    def __init__(
        self,
        *,
        gangplan_conn_id: str,
        request_key: str,
        reservation_id: str,
        because: str,
        until: str,
    ) -> None:
        super().__init__()
        self.gangplan_conn_id = gangplan_conn_id
        self.request_key = request_key
        self.reservation_id = reservation_id
        self.because = because
        self.until = until

    @classmethod
    def waiting(cls, task: Waits, asked: Reservation, until: datetime, because: str) -> GangGrantedTrigger:
        """Make the trigger of a task whose reservation waits."""
        return cls(
            gangplan_conn_id=task.gangplan_conn_id,
            request_key=task.request_key,
            reservation_id=asked.id,
            because=because,
            until=client.patience(asked, until).isoformat(),
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what another triggerer needs to go on: the connection's name, never its URL."""
        return "gangplan_airflow.trigger.GangGrantedTrigger", {
            "gangplan_conn_id": self.gangplan_conn_id,
            "request_key": self.request_key,
            "reservation_id": self.reservation_id,
            "because": self.because,
            "until": self.until,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the reservation no longer waits, or the deadline has come."""
        url = await GangplanHook(self.gangplan_conn_id).aledger_url()
        left = parse_utc("until", self.until) - present()
        try:
            async with asyncio.timeout(left.total_seconds()):
                await self._wait(url)
        except TimeoutError:
            self.log.info("the deadline has come")
        yield TriggerEvent({"reservation_id": self.reservation_id, "because": self.because})

    async def on_kill(self) -> None:
        """Give the request back when a user ends the task (`cleanup` would do so whenever a triggerer restarts)."""
        url = await GangplanHook(self.gangplan_conn_id).aledger_url()
        await asyncio.to_thread(self._give_back, url)

    async def _wait(self, url: str) -> None:
        """Return when the reservation no longer waits; while the ledger does not answer, try again."""
        while True:
            try:
                async with news_of(url, ReservationId(self.reservation_id)) as news:
                    return await self._follow(news)
            except UnavailableError as error:
                self.log.warning("the ledger is away, asking again: %s", error)
                await asyncio.sleep(AGAIN_S)

    async def _follow(self, news: asyncio.Queue[Reservation]) -> None:
        """Log what is new, until the reservation no longer waits."""
        logged = None
        while (seen := await news.get()).state.waits:
            changed = seen.state, seen.reason, seen.eta, seen.eta_range
            if changed != logged:
                logged = changed
                self.log.info(waiting_text(seen, present()))

    def _give_back(self, url: str) -> None:
        """Cancel the request, or release it if it was granted in this moment."""
        with open_ledger(url) as ledger:
            client.give_back(ledger, self.request_key)
