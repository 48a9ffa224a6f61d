"""The component `record_feedback`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def record_feedback(
    run_id: str,
    metrics: dsl.Output[dsl.Metrics],
    learned: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
    mlflow: str = "",
    ledger: str = "",
    fleet: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Learned", [("mlflow_run_id", str), ("start", str), ("end", str)]):
    """Hold the plan that ran against what happened, and correct the next forecast by it; no hour counts twice.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a new run looks anew.
        metrics: Cost planned and come, GPU-hours unserved and idle, the forecast's loss, waits in seconds.
        learned: The same in words.
        report: The report with its pictures: demand, plan, reservations, forecast, feedback; it needs no other file.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the step's environment.
        fleet: Fleet file; empty: GANGPLAN_FLEET of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        given = {"mlflow": mlflow, "ledger": ledger, "fleet": fleet, "home": home}
        learning = support.learn(settings, page=report.path, **given)
        support.log_metrics(metrics, support.learning_figures(learning))
        support.write(learned, support.of_learning(learning))
        return str(learning.beliefs.run_id), learning.score.start.isoformat(), learning.score.end.isoformat()
