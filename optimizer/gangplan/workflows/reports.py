"""One page over everything: gathers what all stages left and has the report written."""

from __future__ import annotations

from pathlib import Path

from gangplan import feedback, forecast, plan, report, reserve, telemetry
from gangplan.clock import Clock, system_clock
from gangplan.config import Settings
from gangplan.progress import Progress, no_progress
from gangplan.tracking import open_store
from gangplan.workflows import plans


def write_report(
    settings: Settings, *, compare: bool = False, clock: Clock = system_clock, progress: Progress = no_progress
) -> Path:
    """Write the report's page and return its path.

    `compare` runs the plan beside the alternatives first, if that was not done for this plan yet.
    """
    store = open_store(settings)
    planned, foreseen = plan.read_plan(store)
    if compare and plan.read_alternatives(store, planned) is None:
        plans.compare(store, settings, planned.plan_id, progress)
    with reserve.open_ledger(settings.ledger_url, clock=clock) as ledger:
        lived = ledger.history()
    return report.build(
        settings.report_file,
        usage=telemetry.read_usage(store),
        training=forecast.read_training(store),
        forecast=foreseen,
        plan=planned,
        reservations=lived,
        score=feedback.read_score(store),
        beliefs=feedback.read_beliefs(store),
        alternatives=plan.read_alternatives(store, planned),
    )
