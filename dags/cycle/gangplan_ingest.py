"""Telemetry into MLflow, every hour.

`source` is what `gangplan ingest` takes: a CSV or Parquet file or folder, `prometheus+http://...`, `mlflow+<tracking
URI>`, or `sample`, which is made up. It is by default the setting `telemetry` (GANGPLAN_TELEMETRY); without either,
nothing is imported. `until` says when a file was exported, `now` for an export of every hour (setting
`telemetry_until`); `replay` moves an old trace to the present, for trial. `draft_fleet` writes a first fleet file from
the telemetry where there is none yet. Each import brings all that the source has; so a backfill imports only where an
interval's hours are missing, and never sets the telemetry back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, Param, dag, task

from gangplan_airflow.compat import AirflowSkipException
from gangplan_airflow.cycle import deadline, figures

TELEMETRY = Asset("gangplan_telemetry")


@dag(
    schedule="7 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    deadline=deadline(),
    params={
        "source": Param("", type="string", description="Empty: the setting telemetry (GANGPLAN_TELEMETRY)."),
        "until": Param("", type="string", description="When a file was exported: now, or a time. Empty: the setting."),
        "replay": Param(False, type="boolean", description="Move an old trace so that it ends now."),
        "draft_fleet": Param(False, type="boolean"),
    },
)
def gangplan_ingest() -> None:
    """Bring telemetry into MLflow; where it is wanted, draft a fleet from it."""

    @task(outlets=[TELEMETRY])
    def ingest(params: dict[str, Any], dag_run: Any = None, outlet_events: Any = None) -> dict[str, Any]:
        """Read the source, keep its runs, metrics and tables in MLflow, count the rows that were kept out."""
        from gangplan import cycle, summaries, telemetry, workflows
        from gangplan_airflow.cycle import stage_settings

        settings = stage_settings()
        source = params["source"] or settings.telemetry
        if not source:
            raise AirflowSkipException("there is no source of telemetry: set GANGPLAN_TELEMETRY, or give `source`")
        if dag_run.run_type == "backfill" and workflows.has_hours(settings, until=dag_run.data_interval_end):
            raise AirflowSkipException(f"the hours until {dag_run.data_interval_end} are there already")
        timing = telemetry.Timing(until=params["until"] or settings.telemetry_until, replay=params["replay"])
        brought = summaries.of_ingest(cycle.ingest(settings, source, timing))
        outlet_events[TELEMETRY].extra = figures(brought, "run_id", "end", "rows", "rejected_count", "age_hours")
        return brought

    @task.run_if(lambda context: context["params"]["draft_fleet"])
    @task
    def draft_fleet() -> list[str]:
        """Write a first fleet file; one that is there stays as it is."""
        from gangplan import workflows
        from gangplan_airflow.cycle import stage_settings

        return [pool.name for pool in workflows.ensure_fleet(stage_settings("telemetry")).pools]

    ingest() >> draft_fleet()


the_dag = gangplan_ingest()
