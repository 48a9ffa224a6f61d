"""The stages that steps run, by the same functions as the commands and the DAGs; nothing of a stage is done here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gangplan_kfp.support.steps import refuse_secrets, run_key, say, settings_from

if TYPE_CHECKING:
    from gangplan.telemetry import IngestReport
    from gangplan.types import Learning, Plan, Training
    from gangplan.workflows import Applied

# What takes seconds to import is imported in the functions: a wrong setting is told before it.


def ingest(
    settings: Mapping[str, Any], *, source: str, until: str, replay: bool, draft_fleet: bool, mlflow: str, home: str
) -> IngestReport:
    """Bring telemetry into MLflow, and draft a fleet from it where that is wanted and none is there."""
    refuse_secrets({"source": source})
    read = settings_from(settings, mlflow=mlflow, home=home, telemetry=source, telemetry_until=until)
    from gangplan import cycle, telemetry, workflows
    from gangplan.errors import InputError

    if not read.telemetry:
        raise InputError("source", "", "is needed: give it, or set GANGPLAN_TELEMETRY in the step's environment")
    timing = telemetry.Timing(until=read.telemetry_until, replay=replay)
    brought = cycle.ingest(read, read.telemetry, timing, progress=_tell)
    say(f"run {brought.run_id}: {'was there already' if brought.reused else 'written'}")
    if draft_fleet:
        workflows.ensure_fleet(read)
    return brought


def train(
    settings: Mapping[str, Any], *, run_id: str, name: str, because: str, promotion: str, mlflow: str, home: str
) -> Training:
    """Train, back-test, register; promote if the gate passes and nobody else decides."""
    read = settings_from(settings, promotion=promotion, mlflow=mlflow, home=home)
    once = run_key(run_id, name, settings, promotion)
    from gangplan import cycle

    trained = cycle.train(read, because=because or f"asked for by run {run_id}", once=once, progress=_tell)
    say(f"version {trained.version}: {trained.reason}")
    return trained


def promote(
    settings: Mapping[str, Any], *, version: str, by: str, why: str, mlflow: str, home: str
) -> tuple[bool, str]:
    """Make a version the champion, once: what was champion before is only brought back by `gangplan review rollback`.

    Returns whether that was done now, and the champion afterwards.
    """
    read = settings_from(settings, mlflow=mlflow, home=home)
    from gangplan import forecast, workflows
    from gangplan.tracking import open_store

    store = open_store(read)
    forecast.record_manual_changes(store, read.clock)
    before = forecast.show_version(store, version).decision
    due = before is None or not before.action.makes_champion
    if before is None or due:
        workflows.decide_model(read, version, workflows.Answer(approved=True, by=by, why=why))
        say(f"version {version} is the champion")
    else:
        say(f"version {version} was {before.action} by {before.by} at {before.at:%Y-%m-%d %H:%M} UTC: nothing to do")
    return due, next((one.version for one in forecast.list_versions(store) if "champion" in one.aliases), "")


def make_plan(settings: Mapping[str, Any], *, run_id: str, name: str, page: str, **named: str) -> Plan:
    """Forecast, plan, keep the plan, publish the calendar; write the plan's page."""
    read = settings_from(settings, **named)
    once = run_key(run_id, name, settings)
    from gangplan import cycle, plan, report
    from gangplan.tracking import open_store

    made = cycle.make_plan(read, once=once, progress=_tell)
    report.write_plan(Path(page), *plan.read_plan(open_store(read), made.plan_id))
    return made


def apply_plan(settings: Mapping[str, Any], *, dry_run: bool, **named: str) -> Applied:
    """Carry the newest published plan out in one pass, and say each step."""
    read = settings_from(settings, **named)
    from gangplan import cycle

    applied = cycle.apply(read, dry_run=dry_run)
    for line in applied.lines():
        say(line)
    return applied


def learn(settings: Mapping[str, Any], *, page: str, **named: str) -> Learning:
    """Hold the plan that ran against what happened, learn from it, and write the report."""
    read = settings_from(settings, **named)
    from gangplan import cycle

    learned = cycle.learn(read)
    cycle.write_report(read, out=Path(page))
    return learned


def _tell(done: float, total: float, text: str, /) -> None:
    """Print how far the stage is."""
    say(f"{done:g}/{total:g} {text}")
