"""The plan's present step, whenever there is a new plan: the fleet is brought to the nodes that it wants now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, Param, dag, task

from gangplan_airflow.cycle import deadline


@dag(
    schedule=[Asset("gangplan_plan")],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    deadline=deadline(),
    params={"dry_run": Param(False, type="boolean", description="Show the steps, change nothing.")},
)
def gangplan_apply() -> None:
    """Apply the newest plan to the fleet file."""

    @task
    def apply(params: dict[str, Any]) -> list[dict[str, Any]]:
        """Say each pool's step from the nodes it runs to the nodes that the plan wants, and take it."""
        from gangplan import cycle, summaries
        from gangplan_airflow.cycle import stage_settings

        changes = cycle.apply(stage_settings("plan", "fleet"), dry_run=params["dry_run"])
        for change in changes:
            print(f"{change.pool}: {change.current} -> {change.target} nodes")
        return summaries.of_changes(changes)

    apply()


the_dag = gangplan_apply()
