"""The component `evaluate_challenger`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_challenger(
    run_id: str,
    metrics: dsl.Output[dsl.Metrics],
    question: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
    version: str = "",
    pages: str = "",
    mlflow: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Evaluated", [("version", str), ("decision", str), ("needs_review", bool), ("why", str)]):
    """Show how a version did beside the champion, and say whether a person has to decide about it.

    What is due in the registry is done first: a forecast beside the champion, and a decision when its days are over.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a new run looks anew.
        metrics: Weighted quantile loss beside seasonal naive, and the coverage of the 80 % band.
        question: What a reviewer is asked, in words.
        report: The page for reviewers, with its pictures; it needs no other file.
        version: The version; empty: the challenger.
        pages: Address of gangplan's page, like https://airflow.example/gangplan; empty: links lead to MLflow.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings, like {"shadow_days": 3}.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        found = support.evaluate(settings, version=version, pages=pages, page=report.path, mlflow=mlflow, home=home)
        support.log_metrics(metrics, found.figures)
        support.write(question, found.question)
        return found.version, found.decided.decision, found.decided.decision == "open", found.decided.why
