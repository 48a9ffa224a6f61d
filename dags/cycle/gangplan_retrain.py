"""The demand model, every night and whenever a drift was seen: trained, back-tested, registered, held at the gate.

Whoever sees a drift updates the asset `gangplan_drift`; its `extra` may say the `cause`, which is kept with the
version. A training that was killed is taken up where it stopped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, dag, task

from gangplan_airflow.compat import AssetOrTimeSchedule, CronTriggerTimetable
from gangplan_airflow.cycle import deadline, figures

DRIFT, MODEL = Asset("gangplan_drift"), Asset("gangplan_model")


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("30 2 * * *", timezone="UTC"), assets=DRIFT),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
    deadline=deadline(),
)
def gangplan_retrain() -> None:
    """Train a challenger on what is in MLflow."""

    @task(outlets=[MODEL])
    def train(triggering_asset_events: Any = None, outlet_events: Any = None) -> dict[str, Any]:
        """Train, back-test, register; the champion of the registry is what the next plan uses."""
        from gangplan import cycle, summaries
        from gangplan_airflow.cycle import stage_settings

        seen = triggering_asset_events.get(DRIFT, []) if triggering_asset_events else []
        causes = [str(event.extra.get("cause", "not said")) for event in seen]
        because = f"drift: {'; '.join(causes)}" if causes else "schedule"
        trained = summaries.of_training(cycle.train(stage_settings("history"), because=because))
        outlet_events[MODEL].extra = figures(trained, "version", "wql", "naive_wql", "coverage_80", "promoted")
        return trained

    train()


the_dag = gangplan_retrain()
