"""The demand model, every night: trained, back-tested against seasonal naive, registered, promoted by the gate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, dag, task


@dag(
    schedule="30 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    tags=["gangplan"],
    doc_md=__doc__,
)
def gangplan_retrain() -> None:
    """Train a challenger on what is in MLflow."""

    @task(outlets=[Asset("gangplan_model")])
    def train() -> dict[str, Any]:
        """Train, back-test, register; the champion of the registry is what the next plan uses."""
        from gangplan import cycle, summaries
        from gangplan.config import load_settings

        return summaries.of_training(cycle.train(load_settings()))

    train()


gangplan_retrain()
