"""The link from a waiting task to its place in gangplan's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from gangplan_airflow.attempts import Attempt, OfTask
from gangplan_airflow.compat import KILLS_TRIGGERS

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


_PAGE = "/plugin/gangplan/gangplan" if KILLS_TRIGGERS else "/gangplan"
"""Airflow shows what follows the plugin's own route in its frame since 3.3; before, the page is shown by itself."""


class ReservationLink(BaseOperatorLink):
    """Leads to the reservation: who holds its slots, when it starts, why it waits, what would help."""

    @property
    def name(self) -> str:
        """What the button says."""
        return "GPU reservation"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's address; Airflow asks when the task defers, and keeps it."""
        if id := getattr(operator, "reservation_id", ""):
            return f"{_PAGE}/reservations/{quote(id, safe='')}"
        return f"{_PAGE}/find?key={quote(Attempt.of(cast('OfTask', ti_key)).key, safe='')}"
