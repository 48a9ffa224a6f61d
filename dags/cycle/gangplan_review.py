"""A person's word on a demand model, asked for in Airflow's own page.

It runs when a challenger waits for a person (setting `promotion: person`): the question says how the model did and
where its page is; the answer is carried out in MLflow's registry, with the name of who answered and the reason given.
A question that nobody answers stays open.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, Param, dag, task

from gangplan_airflow.review import ANSWER, ReviewOperator, page_of

QUESTION = "{{ ti.xcom_pull(task_ids='challenger')"


@dag(
    schedule=Asset("gangplan_challenger"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    params={"version": Param("", type="string", description="A version to ask about; empty: the challenger.")},
)
def gangplan_review() -> None:
    """Ask about the challenger, carry the answer out."""

    @task
    def challenger(params: dict[str, Any]) -> dict[str, str]:
        """Say what is asked, and where the report about the version is."""
        from gangplan import workflows
        from gangplan_airflow.cycle import stage_settings

        return workflows.question(stage_settings(), params["version"] or None, models=page_of("models"))

    @task(trigger_rule="none_failed")
    def heard() -> None:
        """Stand between question and answer: a rejection skips the task right after it, and has to be carried out."""

    @task(trigger_rule="none_failed", outlets=[Asset("gangplan_model")])
    def carry_out(ti: Any = None) -> str:
        """Approve or reject the version, in the name of who answered."""
        from gangplan import workflows
        from gangplan_airflow.cycle import stage_settings

        version, answer = ti.xcom_pull(task_ids="challenger")["version"], ti.xcom_pull(task_ids="ask", key=ANSWER)
        decided = workflows.answered(stage_settings(), version, answer).changes[-1]
        return f"version {version} {decided.action} by {decided.by}: {decided.why}"

    ask = ReviewOperator(
        task_id="ask",
        subject=QUESTION + "['subject'] }}",
        body=QUESTION + "['body'] }}",
        params={"why": Param(None, type=["null", "string"], title="Why", description="Kept with the version.")},
    )
    challenger() >> ask >> heard() >> carry_out()


the_dag = gangplan_review()
