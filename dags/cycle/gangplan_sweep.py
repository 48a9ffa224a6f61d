"""Give back what tasks reserved whose run has ended or was deleted, and who did not do it themselves.

A task ends its own request, the listener that of a run that ends, and what nobody claims goes back by itself: this
finds what is left when a machine was lost with all of them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import dag, task


@dag(
    schedule="*/10 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
)
def gangplan_sweep() -> None:
    """Look for it."""

    @task
    def give_back(ti: Any = None) -> list[str]:
        """Give it back, and return the ids of the reservations."""
        from gangplan_airflow import GangplanHook, sweep

        with GangplanHook().get_conn() as ledger:
            return [reservation.id for reservation in sweep(ledger, ti)]

    give_back()


the_dag = gangplan_sweep()
