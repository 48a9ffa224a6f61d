"""A sensor that waits for what becomes of somebody's reservation: until it is granted, or until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from gangplan import client, reserve
from gangplan.errors import InputError, UnavailableError
from gangplan.types import Reservation, ReservationState
from gangplan_airflow.hook import GangplanHook

if TYPE_CHECKING:
    from airflow.sdk import Context

Until: TypeAlias = Literal["granted", "ended"]


class GangSensor(BaseSensorOperator):
    """Waits in the triggerer until the reservation of a request key holds its slots, or has given them back.

    `until="granted"` waits for slots that are held now, `until="ended"` for a reservation that is over. One that does
    not exist yet is waited for, and so is the next one of the key where the last was never granted. Returns its id. It
    reserves nothing: that is what ReserveGangOperator does.
    """

    template_fields = ("request_key", "gangplan_conn_id")

    def __init__(
        self,
        *,
        request_key: str,
        until: Until = "granted",
        gangplan_conn_id: str = GangplanHook.default_conn_name,
        poke_interval: timedelta | float = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        if until not in get_args(Until):
            raise InputError("until", until, f"is unknown: use one of {', '.join(get_args(Until))}")
        self.request_key, self.gangplan_conn_id = request_key, gangplan_conn_id
        self.until: Until = until

    def execute(self, context: Context) -> str:  # noqa: RET503 - defer never returns
        """Look once; then wait in the triggerer."""
        found = there(GangplanHook(self.gangplan_conn_id).ledger_url(), self.request_key, self.until)
        if found is not None:
            return found.id
        trigger = GangStateTrigger(
            gangplan_conn_id=self.gangplan_conn_id,
            request_key=self.request_key,
            until=self.until,
            pause_s=float(self.poke_interval),
        )
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=self.timeout))

    def resume(self, context: Context, event: Mapping[str, str]) -> str:
        """Return the id of what was waited for."""
        return event["reservation_id"]


class GangStateTrigger(BaseTrigger):
    """Fires when the reservation of a key is granted, or has ended."""

    def __init__(self, *, gangplan_conn_id: str, request_key: str, until: Until, pause_s: float) -> None:
        super().__init__()
        self.gangplan_conn_id, self.request_key, self.pause_s = gangplan_conn_id, request_key, pause_s
        self.until: Until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what another triggerer needs to go on: the connection's name, never its URL."""
        names = ("gangplan_conn_id", "request_key", "until", "pause_s")
        return "gangplan_airflow.gangs.sensor.GangStateTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again."""
        url = await GangplanHook(self.gangplan_conn_id).aledger_url()
        while (found := await self._look(url)) is None:
            await asyncio.sleep(self.pause_s)
        yield TriggerEvent({"reservation_id": found.id})

    async def _look(self, url: str) -> Reservation | None:
        try:
            return await asyncio.to_thread(there, url, self.request_key, self.until)
        except UnavailableError as error:
            self.log.warning("the ledger is away, asking again: %s", error)
            return None


def there(url: str, request_key: str, until: Until) -> Reservation | None:
    """Return the newest reservation of a key where it is as far as is waited for."""
    with reserve.open_ledger(url) as ledger:
        newest = client.lives(ledger, request_key)[-1:]
    for seen in newest:
        if until == "ended" and seen.state.final and seen.granted_at is not None:
            return seen
        if until == "granted" and seen.state is ReservationState.GRANTED:
            return seen
    return None
