"""Planned against happened, every morning: what it teaches corrects the next forecast; the report is written anew."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import dag, task


@dag(
    schedule="30 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
)
def gangplan_feedback() -> None:
    """Score the plan that ran, learn from it, write the report."""

    @task
    def learn() -> dict[str, Any]:
        """Hold the plan against what happened, write that back as telemetry and as beliefs about the forecast."""
        from gangplan import cycle, summaries
        from gangplan.config import load_settings

        return summaries.of_learning(cycle.learn(load_settings()))

    @task
    def report() -> str:
        """Write the report's page."""
        from gangplan import cycle
        from gangplan.config import load_settings

        return str(cycle.write_report(load_settings()))

    learn() >> report()


gangplan_feedback()
