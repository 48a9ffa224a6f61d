"""The hook: from an Airflow connection to gangplan's ledger."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from gangplan.client import Held, hold
from gangplan.config import Settings, load_settings, present
from gangplan.errors import GangplanError, InputError
from gangplan.reserve import Ledger, open_ledger
from gangplan.types import Reservation, ReservationId, Token
from gangplan_airflow.compat import AirflowNotFoundException
from gangplan_airflow.connection import describe, shows_password, url_of

if TYPE_CHECKING:
    from airflow.sdk import Connection


class GangplanHook(BaseHook):
    """Opens the ledger of a connection of type `gangplan`.

    The connection's host is the ledger's URL, or the host of PostgreSQL. The default connection may be missing or name
    no ledger: then it is the one of gangplan's own settings (GANGPLAN_LEDGER, or SQLite in GANGPLAN_HOME).
    """

    conn_name_attr = "gangplan_conn_id"
    default_conn_name = "gangplan_default"
    conn_type = "gangplan"
    hook_name = "gangplan ledger"

    def __init__(self, gangplan_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.gangplan_conn_id = gangplan_conn_id

    def get_conn(self) -> AbstractContextManager[Ledger]:
        """Return the ledger, to be used in a `with` statement."""
        return open_ledger(self.ledger_url())

    def settings(self) -> Settings:
        """Return gangplan's settings with the connection's ledger: what every stage of the cycle works with."""
        return load_settings(ledger=self.ledger_url())

    def ledger_url(self) -> str:
        """Return the ledger's URL; it may hold a password, so it is never logged."""
        connection = self._connection()
        return self._url_without_connection() if connection is None else self._url_of(connection)

    async def aledger_url(self) -> str:
        """Return the ledger's URL, for a trigger."""
        try:
            return self._url_of(await self.aget_connection(self.gangplan_conn_id))
        except AirflowNotFoundException:
            return self._url_without_connection()

    @contextmanager
    def hold(self, slots: Mapping[str, Any]) -> Generator[Held]:
        """Keep the lease of what ReserveGangOperator returned while the block runs (see `gangplan.hold`)."""
        with self.get_conn() as ledger, hold(ledger, ReservationId(slots["id"]), Token(slots["token"])) as held:
            yield held

    def test_connection(self) -> tuple[bool, str]:
        """Say what answers, or what is wrong: for the button in the connection's form."""
        try:
            url, connection = self.ledger_url(), self._connection()
            with open_ledger(url) as ledger:
                said = describe(ledger, url, present())
        except GangplanError as error:
            return False, str(error)
        shown = connection is not None and shows_password(connection)
        return True, f"{said}. {'Its URL shows a password: put that into the field Password.' if shown else ''}".strip()

    def _connection(self) -> Connection | None:
        try:
            return self.get_connection(self.gangplan_conn_id)
        except AirflowNotFoundException:
            return None

    def _url_of(self, connection: Connection) -> str:
        """Read the ledger's URL out of a connection."""
        return url_of(connection) or load_settings().ledger_url

    def _url_without_connection(self) -> str:
        """Fall back to gangplan's settings, but only for the default connection: another name may be a slip."""
        if self.gangplan_conn_id != self.default_conn_name:
            raise InputError("gangplan_conn_id", self.gangplan_conn_id, "is no connection: add it, or leave it out")
        return load_settings().ledger_url


def slots(reservation: Reservation, because: str | None) -> dict[str, Any]:
    """Return a granted reservation as plain values for a task's XCom; the token in it is not a secret."""
    waited, first_eta, expires_at = reservation.waited, reservation.first_eta, reservation.expires_at
    return {
        "id": reservation.id,
        "token": reservation.token,
        "key": reservation.request.request_key,
        "gpus": reservation.request.gpus,
        "placements": [vars(placement) for placement in reservation.placements],
        "nodes": sorted({placement.node for placement in reservation.placements}),
        "expires_at": expires_at.isoformat() if expires_at else None,
        "waited_s": round(waited.total_seconds(), 1) if waited else 0.0,
        "first_eta": first_eta.isoformat() if first_eta else None,
        "waited_because": because,
        "interruptions": reservation.interruptions,
    }
