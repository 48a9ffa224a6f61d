"""A question about a demand model or a plan, asked by Airflow's own ApprovalOperator."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from gangplan.config import load_settings
from gangplan_airflow.compat import conf

ANSWER = "answer"
"""The XCom under which the answer is found, a rejection too."""


class ReviewOperator(ApprovalOperator):
    """Asks, and keeps the answer for the tasks that follow.

    A rejection skips the task right after it, and Airflow (3.3) keeps no return value of a task that skips others: then
    nobody would know who rejected, and why.
    """

    def execute(self, context: Any) -> Any:
        """Ask those whom the setting `reviewers` names; where it names nobody, all who may answer the DAG."""
        if names := load_settings().reviewers:
            self.assigned_users = [{"id": name, "name": name} for name in names]
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Keep who said what, then go on as ApprovalOperator does."""
        kept = ("chosen_options", "params_input", "responded_by_user")
        context["ti"].xcom_push(ANSWER, {name: event.get(name) for name in kept})
        return super().execute_complete(context, event)


def page_of(what: str) -> str:
    """Return the address of the pages of `models` or `plans`; a path where [api] base_url is not set."""
    return conf.get("api", "base_url", fallback="").rstrip("/") + f"/gangplan/{what}"
