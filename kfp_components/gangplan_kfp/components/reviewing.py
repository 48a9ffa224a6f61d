"""The component `review_gate`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def review_gate(
    run_id: str,
    answer: dsl.Output[dsl.Markdown],
    version: str = "",
    timeout_seconds: int = 86400,
    on_timeout: str = "fail",
    poll_seconds: int = 30,
    pages: str = "",
    mlflow: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Reviewed", [("decision", str), ("approved", bool), ("by", str), ("why", str)]):
    """Wait until a reviewer has answered in MLflow's registry whether a version may steer.

    It does not wait where the decision was made. A no is carried out in the registry; a yes is for `promote_model`.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a step that runs again has the time that its first run left.
        answer: The question, and what was answered by whom.
        version: The version; empty: the challenger.
        timeout_seconds: How long to wait for an answer.
        on_timeout: What a silence means: fail, reject (the version), keep (the question open, and go on).
        poll_seconds: How often to look.
        pages: Address of gangplan's page, like https://airflow.example/gangplan; empty: links lead to MLflow.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        patience = support.Patience(timeout_seconds=timeout_seconds, on_timeout=on_timeout, poll_seconds=poll_seconds)
        decided, asked = support.review_model(
            settings, patience, run_id=run_id, version=version, pages=pages, mlflow=mlflow, home=home
        )
        support.write(answer, support.of_decided(decided, asked))
        return decided.decision, decided.approved, decided.by, decided.why
