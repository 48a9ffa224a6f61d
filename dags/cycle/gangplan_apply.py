"""The published plan carried out, at each new plan and every ten minutes: one pass, which takes what can be taken now.

What waits is taken by a later run; a run fails where an engine refused a step, or could not be reached.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, Param, dag, task

from gangplan_airflow.compat import AssetOrTimeSchedule, CronTriggerTimetable
from gangplan_airflow.cycle import deadline


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("*/10 * * * *", timezone="UTC"), assets=[Asset("gangplan_plan")]
    ),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    deadline=deadline(),
    params={"dry_run": Param(False, type="boolean", description="Show the steps, change nothing.")},
)
def gangplan_apply() -> None:
    """Apply the newest plan to the engines of targets.yaml, or to the fleet file."""

    @task
    def apply(params: dict[str, Any]) -> dict[str, Any]:
        """Take the steps that can be taken now; say what was done, what waits and for what."""
        from gangplan import cycle, summaries
        from gangplan_airflow.cycle import stage_settings

        applied = cycle.apply(stage_settings("plan", "fleet"), dry_run=params["dry_run"])
        for line in applied.lines():
            print(line)
        applied.require_taken()
        return summaries.of_applied(applied)

    apply()


the_dag = gangplan_apply()
