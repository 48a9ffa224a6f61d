"""A question about a demand model, asked by Airflow's own ApprovalOperator."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

ANSWER = "answer"
"""The XCom under which the answer is found, a rejection too."""


class ReviewOperator(ApprovalOperator):
    """Asks, and keeps the answer for the tasks that follow.

    A rejection skips the task right after it, and Airflow (3.3) keeps no return value of a task that skips others: then
    nobody would know who rejected, and why.
    """

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Keep who said what, then go on as ApprovalOperator does."""
        kept = ("chosen_options", "params_input", "responded_by_user")
        context["ti"].xcom_push(ANSWER, {name: event.get(name) for name in kept})
        return super().execute_complete(context, event)
