"""What is due in the model registry after each import.

Changes of alias made by hand are recorded, a challenger in its shadow forecasts beside the champion, and when its days
are over it is promoted or rejected by what came. Where a person decides, they are asked once (`gangplan_review`).
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Asset, dag, task

from gangplan_airflow.compat import AirflowSkipException
from gangplan_airflow.cycle import deadline


@dag(
    schedule=Asset("gangplan_telemetry") | Asset("gangplan_model"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    deadline=deadline(),
)
def gangplan_watch() -> None:
    """Do what is due in the registry; then ask a person, where one has to decide."""

    @task
    def settle() -> str:
        """Record, forecast in the shadow, decide."""
        from gangplan import workflows
        from gangplan_airflow.cycle import stage_settings

        decided = workflows.watch(stage_settings("telemetry"))
        return "nothing was due" if decided is None else f"version {decided.version} {decided.action}: {decided.why}"

    @task(outlets=[Asset("gangplan_challenger")])
    def needs_a_person() -> str:
        """Tell `gangplan_review` of a version that waits for a person, once; without one, this is skipped."""
        from gangplan import workflows
        from gangplan_airflow.cycle import stage_settings

        waiting = workflows.questions(stage_settings("telemetry"))
        if not waiting:
            raise AirflowSkipException("nobody has to be asked")
        return waiting[0]

    settle() >> needs_a_person()


the_dag = gangplan_watch()
