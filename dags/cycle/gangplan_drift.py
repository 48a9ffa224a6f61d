"""Is the demand model still what was promised? Looked at every six hours; a drift asks for a training at once.

Days are judged by what the champion of each day forecasts, so that a model which is trained every night is watched as
well. Where inputs changed, a person should look at the telemetry first: that is only said.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, dag, task

from gangplan_airflow.compat import AirflowSkipException
from gangplan_airflow.cycle import deadline

DRIFT = Asset("gangplan_drift")


@dag(
    schedule="37 */6 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    deadline=deadline(),
)
def gangplan_drift() -> None:
    """Judge the last days; then ask for a training, where it would help."""

    @task
    def judge() -> dict[str, str]:
        """Hold the last days against what was promised."""
        from gangplan import workflows
        from gangplan_airflow.cycle import stage_settings

        health, cause = workflows.drift(stage_settings("telemetry", "model"))
        print(f"{health.verdict.value}, {health.days} days: {health.reason}")
        return {"verdict": health.verdict.value, "reason": health.reason, "cause": cause}

    @task(outlets=[DRIFT])
    def ask_for_training(judged: dict[str, str], outlet_events: Any = None) -> None:
        """Tell `gangplan_retrain` the cause, at most once a day; without one, this is skipped."""
        if not judged["cause"]:
            raise AirflowSkipException(f"no training is asked for: {judged['verdict']}")
        outlet_events[DRIFT].extra = {"cause": judged["cause"]}

    ask_for_training(judge())


the_dag = gangplan_drift()
