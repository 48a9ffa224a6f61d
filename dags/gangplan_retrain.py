"""The demand model, every night and whenever a drift was seen: trained, back-tested, registered, held at the gate.

Whoever sees a drift updates the asset `gangplan_drift`; its `extra` may say the `cause`, which is kept with the
version. A training that was killed is taken up where it stopped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, dag, task

from gangplan_airflow.compat import AssetOrTimeSchedule, CronTriggerTimetable

DRIFT = Asset("gangplan_drift")


@dag(
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("30 2 * * *", timezone="UTC"), assets=DRIFT),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
)
def gangplan_retrain() -> None:
    """Train a challenger on what is in MLflow."""

    @task(outlets=[Asset("gangplan_model")])
    def train(triggering_asset_events: Any = None) -> dict[str, Any]:
        """Train, back-test, register; the champion of the registry is what the next plan uses."""
        from gangplan import cycle, summaries
        from gangplan.config import load_settings

        seen = (triggering_asset_events or {}).get(DRIFT, [])
        causes = [str(event.extra.get("cause", "not said")) for event in seen]
        because = f"drift: {'; '.join(causes)}" if causes else "schedule"
        return summaries.of_training(cycle.train(load_settings(), because=because))

    train()


gangplan_retrain()
