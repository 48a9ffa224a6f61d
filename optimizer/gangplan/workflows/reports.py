"""The report: one page about all stages, from what they kept."""

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
    """Write the report and return its path.

    `compare` first simulates the plan beside its alternatives, unless that was done for this plan before.
    """
    store = open_store(settings)
    planned, foreseen = plan.read_plan(store)
    if compare and plan.read_alternatives(store, planned) is None:
        plans.compare(store, settings, planned.plan_id, progress)
    with reserve.open_ledger(settings.ledger_url, clock=clock) as ledger:
        reservations = ledger.history()
    return report.build(
        settings.report_file,
        usage=telemetry.read_usage(store),
        training=forecast.read_training(store),
        forecast=foreseen,
        plan=planned,
        reservations=reservations,
        score=feedback.read_score(store),
        beliefs=feedback.read_beliefs(store),
        alternatives=plan.read_alternatives(store, planned),
    )
