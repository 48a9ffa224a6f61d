"""Telemetry into MLflow, every hour.

`source` is what `gangplan ingest` takes: `sample`, a CSV or Parquet file or folder, `prometheus+http://...` or
`mlflow+<tracking URI>`; its default is the environment's GANGPLAN_TELEMETRY. `until` says when a file was exported,
`now` for an export of every hour (GANGPLAN_TELEMETRY_UNTIL); `replay` moves an old trace to the present, for trial.
`draft_fleet` writes a first fleet file from the telemetry where there is none yet.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, Param, dag, task

SOURCE = os.environ.get("GANGPLAN_TELEMETRY", "sample")
UNTIL = os.environ.get("GANGPLAN_TELEMETRY_UNTIL", "")


@dag(
    schedule="7 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    params={
        "source": Param(SOURCE, type="string", minLength=1),
        "until": Param(UNTIL, type="string", description="When a file was exported: now, or a time."),
        "replay": Param(False, type="boolean", description="Move an old trace so that it ends now."),
        "draft_fleet": Param(False, type="boolean"),
    },
)
def gangplan_ingest() -> None:
    """Bring telemetry into MLflow; where it is wanted, draft a fleet from it."""

    @task(outlets=[Asset("gangplan_telemetry")])
    def ingest(params: dict[str, Any]) -> dict[str, Any]:
        """Read the source, keep its runs, metrics and tables in MLflow, count the rows that were kept out."""
        from gangplan import cycle, summaries, telemetry
        from gangplan.config import load_settings

        timing = telemetry.Timing(until=params["until"], replay=params["replay"])
        return summaries.of_ingest(cycle.ingest(load_settings(), params["source"], timing))

    @task.run_if(lambda context: context["params"]["draft_fleet"])
    @task
    def draft_fleet() -> list[str]:
        """Write a first fleet file; one that is there stays as it is."""
        from gangplan import workflows
        from gangplan.config import load_settings

        return [pool.name for pool in workflows.ensure_fleet(load_settings()).pools]

    ingest() >> draft_fleet()


gangplan_ingest()
