"""The component `approve_plan`. No postponed annotations here: KFP's compiler reads them as they are written."""

# pyright: reportInvalidTypeForm=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import dsl

from gangplan_kfp.components.keyed import keyed
from gangplan_kfp.support import IMAGE


@keyed
@dsl.component(base_image=IMAGE, install_kfp_package=False)
def approve_plan(
    run_id: str,
    answer: dsl.Output[dsl.Markdown],
    plan_id: str = "",
    timeout_seconds: int = 86400,
    on_timeout: str = "fail",
    poll_seconds: int = 30,
    pages: str = "",
    mlflow: str = "",
    ledger: str = "",
    home: str = "",
    settings: dict = {},
) -> NamedTuple("Approved", [("decision", str), ("approved", bool), ("by", str), ("why", str)]):
    """Wait until a person has let a plan hold, where the settings ask for one; then publish it, once.

    A plan needs a person where `publication` is person, or where it costs more than `approve_above`.

    Args:
        run_id: Pass dsl.PIPELINE_JOB_ID_PLACEHOLDER; a step that runs again has the time that its first run left.
        answer: The question, and what was answered by whom.
        plan_id: The plan; empty: the newest.
        timeout_seconds: How long to wait for an answer.
        on_timeout: What a silence means: fail, reject (the plan), keep (the question open, and go on).
        poll_seconds: How often to look.
        pages: Address of gangplan's page, like https://airflow.example/gangplan, for links.
        mlflow: MLflow tracking URI; empty: GANGPLAN_MLFLOW of the step's environment.
        ledger: URL of the ledger; empty: GANGPLAN_LEDGER of the step's environment.
        home: gangplan's folder; empty: GANGPLAN_HOME of the step's environment.
        settings: Any other gangplan settings, like {"approve_above": 10000}.
    """
    from gangplan_kfp import support

    with support.one_line_errors():
        patience = support.Patience(timeout_seconds=timeout_seconds, on_timeout=on_timeout, poll_seconds=poll_seconds)
        named = {"mlflow": mlflow, "ledger": ledger, "home": home}
        decided, asked = support.review_plan(settings, patience, run_id=run_id, plan_id=plan_id, pages=pages, **named)
        support.write(answer, support.of_decided(decided, asked))
        return decided.decision, decided.approved, decided.by, decided.why
