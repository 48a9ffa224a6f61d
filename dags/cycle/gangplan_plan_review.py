"""A person's word on a plan, asked for in Airflow's own page.

It asks about the newest plan where a person has to let it hold: each plan (setting `publication: person`), or one that
costs more than the setting `approve_above`. Approved, the plan is published as the ledger's calendar; rejected, it is
not. A newer plan is asked about anew: a question that nobody answered in time needs no answer any more.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, Param, dag, task

from gangplan_airflow.compat import AirflowSkipException
from gangplan_airflow.review import ANSWER, ReviewOperator, page_of

QUESTION = "{{ ti.xcom_pull(task_ids='waiting')"


@dag(
    schedule=Asset("gangplan_plan"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["gangplan"],
    doc_md=__doc__,
    params={"plan": Param("", type="string", description="A plan to ask about; empty: the newest, if it waits.")},
)
def gangplan_plan_review() -> None:
    """Ask about the plan that waits, carry the answer out."""

    @task
    def waiting(params: dict[str, Any]) -> dict[str, str]:
        """Say what is asked, and where the plan's page is; where no plan waits for a person, this is skipped."""
        from gangplan import workflows
        from gangplan_airflow.cycle import stage_settings

        settings = stage_settings()
        asked = (params["plan"],) if params["plan"] else workflows.open_plans(settings)
        if not asked:
            raise AirflowSkipException("no plan waits for a person")
        return workflows.plan_question(settings, asked[0], plans=page_of("plans"))

    @task(trigger_rule="none_failed")
    def heard() -> None:
        """Stand between question and answer: a rejection skips the task right after it, and has to be carried out."""

    @task(trigger_rule="none_failed", outlets=[Asset("gangplan_plan")])
    def carry_out(ti: Any = None) -> str:
        """Publish or reject the plan, in the name of who answered."""
        from gangplan import workflows
        from gangplan.reserve import open_ledger
        from gangplan_airflow.cycle import stage_settings

        question = ti.xcom_pull(task_ids="waiting")
        if question is None:
            raise AirflowSkipException("no plan waits for a person")
        settings, answer = stage_settings(), ti.xcom_pull(task_ids="ask", key=ANSWER)
        with open_ledger(settings.ledger_url, clock=settings.clock) as ledger:
            return workflows.plan_answered(settings, ledger, question["plan"], answer)

    ask = ReviewOperator(
        task_id="ask",
        subject=QUESTION + "['subject'] }}",
        body=QUESTION + "['body'] }}",
        params={"why": Param(None, type=["null", "string"], title="Why", description="Kept with the plan.")},
    )
    waiting() >> ask >> heard() >> carry_out()


the_dag = gangplan_plan_review()
