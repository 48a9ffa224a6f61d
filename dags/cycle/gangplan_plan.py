"""The plan, whenever there is new telemetry or a new model: forecast, cheapest fleet, the ledger's calendar.

Where the newest hour stands out, the next hours of that series are corrected before the plan is made: so capacity is
taken before the peak, in the hour after it began.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, dag, task

from gangplan_airflow.cycle import deadline, figures

PLAN = Asset("gangplan_plan")


@dag(
    schedule=Asset("gangplan_telemetry") | Asset("gangplan_model"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    deadline=deadline(),
)
def gangplan_plan() -> None:
    """Plan the cheapest fleet that serves the forecast."""

    @task(outlets=[PLAN])
    def plan(outlet_events: Any = None) -> dict[str, Any]:
        """Solve, keep the plan in MLflow, publish it as the capacity that the ledger may promise."""
        from gangplan import cycle, summaries
        from gangplan_airflow.cycle import stage_settings

        made = summaries.of_plan(cycle.make_plan(stage_settings("telemetry", "model", "fleet")))
        outlet_events[PLAN].extra = figures(made, "plan_id", "run_id", "total_cost", "gap", "p95_short_gpu_hours")
        return made

    plan()


the_dag = gangplan_plan()
