"""The component `ingest_telemetry`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def ingest_telemetry(
    run_id: str,
    metrics: dsl.Output[dsl.Metrics],
    telemetry: dsl.Output[dsl.Markdown],
    source: str = "",
    until: str = "",
    replay: bool = False,
    draft_fleet: bool = False,
    mlflow: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Ingested", [("mlflow_run_id", str), ("end", str), ("already_there", bool)]):
    """Bring telemetry into MLflow; the same telemetry is kept once, however often the step runs.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a new run reads the source anew.
        metrics: Rows, series and jobs, the rows that were kept out, and the age of the last hour in hours.
        telemetry: The span, the counts, and what was kept out and why.
        source: What `gangplan ingest` takes; empty: GANGPLAN_TELEMETRY of the step's environment.
        until: When a file was exported: now, or a UTC time.
        replay: Move an old trace to the present, for trial.
        draft_fleet: Write a first fleet file from the telemetry where there is none.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings, like {"zone": "Europe/Berlin"}.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        brought = support.ingest(
            settings, source=source, until=until, replay=replay, draft_fleet=draft_fleet, mlflow=mlflow, home=home
        )
        support.log_metrics(metrics, support.ingest_figures(brought))
        support.write(telemetry, support.of_ingest(brought))
        return brought.run_id, brought.usage.end.isoformat(), brought.reused
