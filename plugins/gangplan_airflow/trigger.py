"""The trigger that waits for a gang's slots, so that no worker has to, and ends the task when it has them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Protocol

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from gangplan import client, reserve
from gangplan.clock import parse_utc
from gangplan.config import present
from gangplan.errors import Refusal, StaleTokenError, UnavailableError
from gangplan.types import Reservation, ReservationId, ReservationState
from gangplan_airflow.attempts import Attempt
from gangplan_airflow.compat import KILLS_TRIGGERS, RETRIES_FROM_TRIGGERS
from gangplan_airflow.hook import GangplanHook, slots
from gangplan_airflow.news import News, news_of
from gangplan_airflow.owners import ENDED, LOST, can_end_here, push, state_of, take
from gangplan_airflow.wait_log import WaitLog

AGAIN_S = 5.0
"""Seconds until a ledger that cannot be opened is tried again."""

ARRIVES_S = 10.0
"""Seconds after which Airflow has heard that a task has ended from its trigger."""

_afterwards: set[asyncio.Task[Any]] = set()
_asked: set[int] = set()
"""The processes in which Airflow was asked something."""


def waiting_text(reservation: Reservation, now: datetime) -> str:
    """Return one line about what a task waits for, until when, and why."""
    return client.wait_text(reservation, client.eta_text(reservation, now=now), name_slots=True)


def granted_text(held: dict[str, Any]) -> str:
    """Return one line about what a task was granted."""
    return f"granted after {held['waited_s']} s: {held['gpus']} GPUs on {', '.join(held['nodes'])}"


def require_granted(seen: Reservation) -> Reservation:
    """Refuse a reservation that has ended while its task waited."""
    if seen.state is not ReservationState.GRANTED:
        raise Refusal(f"reservation {seen.id} was {seen.state} while the task waited for it")
    return seen


class Waits(Protocol):
    """What the trigger needs to know of its task."""

    gangplan_conn_id: str
    request_key: str
    on_timeout: Any


class GangGrantedTrigger(BaseTrigger):
    """Waits until a reservation no longer waits, or until the deadline, and then ends the task; no worker is needed.

    Every change of the ETA or the reason goes to the task's log. A ledger that does not answer is asked again. All
    triggers of a process share one open ledger, and one thread that looks for changes in it. The trigger is of one try
    (`attempt`): what a later one has taken over it leaves alone. `in_worker` lets a worker end the task, as it must
    where Airflow runs the trigger itself, without a triggerer.
    """

    def __init__(
        self,
        *,
        gangplan_conn_id: str,
        request_key: str,
        reservation_id: str,
        because: str,
        until: str,
        attempt: str = "",
        in_worker: bool = False,
        on_timeout: str = "fail",
        zone: str = "UTC",
        said: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.gangplan_conn_id = gangplan_conn_id
        self.request_key = request_key
        self.reservation_id = reservation_id
        self.because = because
        self.until = until
        self.attempt = attempt
        self.in_worker = in_worker
        self.on_timeout = on_timeout
        self.zone = zone
        self.said = list(said)

    @classmethod
    def waiting(
        cls, task: Waits, asked: Reservation, until: datetime, because: str, said: WaitLog, *, in_worker: bool = False
    ) -> GangGrantedTrigger:
        """Make the trigger of a task whose reservation waits."""
        return cls(
            gangplan_conn_id=task.gangplan_conn_id,
            request_key=task.request_key,
            reservation_id=asked.id,
            because=because,
            until=client.patience(asked, until).isoformat(),
            attempt=asked.attempt,
            in_worker=in_worker,
            on_timeout=task.on_timeout,
            zone=said.zone,
            said=said.said,
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what another triggerer needs to go on: the connection's name, never its URL."""
        return "gangplan_airflow.trigger.GangGrantedTrigger", {
            "gangplan_conn_id": self.gangplan_conn_id,
            "request_key": self.request_key,
            "reservation_id": self.reservation_id,
            "because": self.because,
            "until": self.until,
            "attempt": self.attempt,
            "in_worker": self.in_worker,
            "on_timeout": self.on_timeout,
            "zone": self.zone,
            "said": self.said,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and end the task; without an event when another try has taken its place."""
        self._warm_up()
        try:
            event = await self._outcome()
        except asyncio.CancelledError:
            if not KILLS_TRIGGERS:  # Airflow before 3.3 tells a killed trigger no other way
                await self.on_kill()
            raise
        if event is not None:
            yield event
            _after(self._arrives())

    async def on_kill(self) -> None:
        """Give the request back if the task has ended; one that was cleared keeps its place in line for its next try.

        (`cleanup` would do so whenever a triggerer restarts.)
        """
        if await self._state() in ENDED:
            await self._give_back()

    async def _outcome(self) -> TriggerEvent | None:
        """Wait until the slots are there or the deadline has come, and return what that means for the task."""
        url = await GangplanHook(self.gangplan_conn_id).aledger_url()
        left = parse_utc("until", self.until) - present()
        try:
            async with asyncio.timeout(left.total_seconds()):
                held = slots(require_granted(await self._wait(url)), self.because)
                return await self._granted(held)
        except TimeoutError:
            return await self._failed(f"the deadline has come ({self.until}): the request is cancelled", late=True)
        except StaleTokenError as error:
            self.log.warning("nothing to do: %s", error)
            return None
        except Refusal as error:
            return await self._failed(str(error))

    async def _granted(self, held: dict[str, Any]) -> TriggerEvent:
        """Hand the slots over, and end the task."""
        if self.in_worker or not can_end_here():
            return self._resumes()
        await push(self._of(), held)
        self.log.info(granted_text(held))
        return TaskSuccessEvent()

    async def _failed(self, why: str, *, late: bool = False) -> TriggerEvent:
        """Give back what the attempt has, and fail the task; what becomes of another one a worker decides."""
        decides = self.in_worker or (late and self.on_timeout != "fail")
        if decides or not can_end_here() or not RETRIES_FROM_TRIGGERS:
            return self._resumes(late=late)
        self.log.error(why)
        await self._give_back()
        return TaskFailedEvent()

    def _resumes(self, *, late: bool = False) -> TriggerEvent:
        """Return the event with which a worker goes on."""
        return TriggerEvent({"reservation_id": self.reservation_id, "because": self.because, "late": late})

    async def _wait(self, url: str) -> Reservation:
        """Return what was granted, or has ended; while the ledger does not answer, try again."""
        while True:
            try:
                async with news_of(url, ReservationId(self.reservation_id)) as news:
                    seen = await self._taken(news)
            except UnavailableError as error:
                self.log.warning("the ledger is away, asking again: %s", error)
                await asyncio.sleep(AGAIN_S)
                continue
            if not seen.state.waits:
                return seen
            self.reservation_id = seen.id  # it asked again

    async def _taken(self, news: News) -> Reservation:
        """Wait until the reservation no longer waits, and take up what was granted."""
        await self._follow(news.seen)
        return await asyncio.to_thread(
            take, news.ledger, self.attempt, self.request_key, ReservationId(self.reservation_id), present
        )

    async def _follow(self, news: asyncio.Queue[Reservation]) -> None:
        """Log what is new, until the reservation no longer waits."""
        said = WaitLog(self.zone, self.said)
        while (seen := await news.get()).state.waits:
            for line in said.news(seen, present()):
                self.log.info(line)

    async def _arrives(self) -> None:
        """See that the task ended as its trigger said: one that was ended otherwise meanwhile uses no slots."""
        await asyncio.sleep(ARRIVES_S)
        if await self._state() in LOST:
            await self._give_back()

    def _warm_up(self) -> None:
        """Ask Airflow something now: a triggerer's first answer takes seconds, and no grant should wait for it."""
        if can_end_here() and os.getpid() not in _asked:
            _asked.add(os.getpid())
            _after(self._state())

    async def _state(self) -> str | None:
        """Return the state of the task that this trigger is of."""
        return await state_of(self._of())

    def _of(self) -> Attempt:
        """Return the attempt that this trigger is of; of one that an older gangplan made, as Airflow knows it."""
        return Attempt.read(self.attempt) or Attempt.of(self.task_instance)  # pyright: ignore[reportArgumentType]

    async def _give_back(self) -> None:
        """End what this attempt waits for or holds; a ledger that is away ends it by itself, when nobody claims it."""
        url = await GangplanHook(self.gangplan_conn_id).aledger_url()
        try:
            await asyncio.to_thread(give_back, url, self.request_key, self.attempt)
        except UnavailableError as error:
            self.log.warning("the ledger is away: the request ends by itself: %s", error)


def give_back(url: str, request_key: str, attempt: str) -> list[Reservation]:
    """End what an attempt waits for or holds."""
    with reserve.open_ledger(url) as ledger:
        return client.give_back(ledger, request_key, attempt or None)


def _after(coroutine: Any) -> None:
    """Let something go on in the triggerer after its trigger is over."""
    task = asyncio.get_running_loop().create_task(coroutine)
    _afterwards.add(task)
    task.add_done_callback(_afterwards.discard)
