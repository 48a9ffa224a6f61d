"""An operator that renews a gang's lease between two steps that hold nothing themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from gangplan.errors import StaleTokenError
from gangplan.types import ReservationId, Token
from gangplan_airflow.compat import AirflowFailException
from gangplan_airflow.hook import AGAIN, GangplanHook, require_slots
from gangplan_airflow.operators import Span, read_span

if TYPE_CHECKING:
    from airflow.sdk import Context


class RenewGangOperator(BaseOperator):
    """Lets the lease of `slots` (what a reserve task returned) last `duration` from now, within the walltime.

    By default as long as the request's `duration`. Returns when it ends now. Where the slots went back already, the
    task fails, and is not tried again.
    """

    template_fields = ("slots", "duration", "gangplan_conn_id")

    def __init__(
        self,
        *,
        slots: Any,
        duration: Span | None = None,
        gangplan_conn_id: str = GangplanHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.slots, self.duration, self.gangplan_conn_id = slots, duration, gangplan_conn_id

    def execute(self, context: Context) -> str | None:
        """Renew once."""
        held = require_slots(self.slots)
        lasts = None if self.duration is None else read_span("duration", self.duration)
        with GangplanHook(self.gangplan_conn_id).get_conn() as ledger:
            try:
                kept = ledger.renew(ReservationId(held["id"]), Token(held["token"]), lasts)
            except StaleTokenError as error:
                raise AirflowFailException(f"{error}: {AGAIN}") from error
        self.log.info("%s: %s GPUs are held until %s", kept.id, kept.request.gpus, kept.expires_at)
        return kept.expires_at.isoformat() if kept.expires_at else None
