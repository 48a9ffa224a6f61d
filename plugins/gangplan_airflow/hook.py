"""The hook: from an Airflow connection to gangplan's ledger."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Event
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from gangplan import reserve
from gangplan.client import Held, hold
from gangplan.config import Settings, load_settings, present
from gangplan.errors import GangplanError, InputError, StaleTokenError
from gangplan.types import Notice, Reservation, ReservationId, ReservationState, Token
from gangplan_airflow.compat import AirflowFailException, AirflowNotFoundException
from gangplan_airflow.connection import describe, shows_password, url_of
from gangplan_airflow.owners import keep_for_retry

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from gangplan.reserve import Ledger


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
        return reserve.open_ledger(self.ledger_url())

    def settings(self) -> Settings:
        """Return gangplan's settings with the connection's ledger: what every stage of the cycle works with."""
        return load_settings(ledger=self.ledger_url())

    def ledger_url(self) -> str:
        """Return the ledger's URL; it may hold a password, so it is never logged."""
        connection = self._connection()
        return self._url_without_connection() if connection is None else self._url_of(connection)

    def names_ledger(self) -> bool:
        """Tell whether the connection, or a setting, names a ledger: to open the default of none would make one."""
        return self._connection() is not None or load_settings().ledger != ""

    async def aledger_url(self) -> str:
        """Return the ledger's URL, for a trigger."""
        try:
            return self._url_of(await self.aget_connection(self.gangplan_conn_id))
        except AirflowNotFoundException:
            return self._url_without_connection()

    @contextmanager
    def hold(self, slots: Mapping[str, Any] | None) -> Generator[Held | NotHeld]:
        """Keep the lease of what ReserveGangOperator returned while the block runs (see `gangplan.hold`).

        Without slots, or when they went back already, the task fails before the block, and is not tried again. When the
        block fails and the task will be, the lease is renewed for as long as that takes. What runs without slots
        (`on_timeout="run_anyway"`) has nothing to keep and to lose.
        """
        given = require_slots(slots)
        if given["id"] is None:
            yield NotHeld()
            return
        with ExitStack() as stack:
            ledger = stack.enter_context(self.get_conn())
            try:
                held = stack.enter_context(hold(ledger, ReservationId(given["id"]), Token(given["token"])))
            except StaleTokenError as error:
                raise AirflowFailException(f"{error}: {AGAIN}") from error
            try:
                yield held
            except BaseException as error:
                keep_for_retry(ledger, held, error)
                raise

    def test_connection(self) -> tuple[bool, str]:
        """Say what answers, or what is wrong: for the button in the connection's form."""
        try:
            url, connection = self.ledger_url(), self._connection()
            with reserve.open_ledger(url) as ledger:
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


AGAIN = "clear the reserve task, which clears this task and its release too"
"""What gives a task slots again."""


def require_slots(slots: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Refuse what a reserve task that reserved nothing returns: one that somebody marked as a success."""
    if not slots:
        raise AirflowFailException(f"there are no slots: the reserve task reserved none (was it marked?): {AGAIN}")
    return slots


def require_held(hook: GangplanHook, slots: Mapping[str, Any]) -> None:
    """Refuse slots that are not held any more under their token; those of a wait in vain are none, and pass."""
    if slots.get("id") is None:
        return
    with hook.get_conn() as ledger:
        seen = ledger.get(ReservationId(slots["id"]))
    if seen.state is not ReservationState.GRANTED or seen.token != slots["token"]:
        raise AirflowFailException(f"the slots of reservation {seen.id} are not this gang's any more: {AGAIN}")


class NotHeld:
    """What work without slots has in the place of a lease: nothing is lost, and nobody wants it back."""

    notice: Notice | None = None

    def __init__(self) -> None:
        self.lost = Event()

    def check(self) -> None:
        """See `Held.check`."""


def no_slots(reservation: Reservation, because: str | None) -> dict[str, Any]:
    """Return what a task gives whose wait was in vain, and whose work is to run all the same."""
    return {**slots(reservation, because), "id": None, "token": None, "gpus": 0, "placements": [], "nodes": []}


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
        "attempt": reservation.attempt,
    }
