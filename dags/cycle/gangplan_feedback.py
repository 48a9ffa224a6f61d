"""Planned against happened, every morning: what it teaches corrects the next forecast; the report is written anew."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import dag, task

from gangplan_airflow.cycle import deadline


@dag(
    schedule="30 3 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    deadline=deadline(),
)
def gangplan_feedback() -> None:
    """Score the plan that ran, learn from it, write the report."""

    @task
    def learn() -> dict[str, Any]:
        """Hold the plan against what happened, write that back as telemetry and as beliefs about the forecast."""
        from gangplan import cycle, summaries
        from gangplan_airflow.cycle import stage_settings

        return summaries.of_learning(cycle.learn(stage_settings("telemetry", "model", "fleet")))

    @task
    def report() -> str:
        """Write the report's page."""
        from gangplan import cycle
        from gangplan_airflow.cycle import stage_settings

        return str(cycle.write_report(stage_settings("plan")))

    learn() >> report()


the_dag = gangplan_feedback()
