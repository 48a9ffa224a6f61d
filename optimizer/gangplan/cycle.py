"""The whole story: telemetry -> forecast -> plan -> apply -> reserve -> feedback -> telemetry.

Each stage reads what the one before left in MLflow or the ledger, so that a DAG, a pipeline or a shell may call them
one by one, in a process each.
"""

from __future__ import annotations

from pathlib import Path

from gangplan import execute, feedback, forecast, plan, report, reserve, telemetry
from gangplan.clock import Clock, system_clock
from gangplan.config import Settings, read_fleet
from gangplan.tracking import Store
from gangplan.types import Learning, NodeChange, Outcome, Plan, Training


def ingest(settings: Settings, source: str, *, clock: Clock = system_clock) -> telemetry.IngestReport:
    """Bring telemetry into MLflow."""
    return telemetry.ingest(source, Store(uri=settings.mlflow_uri), seed=settings.seed, clock=clock)


def train(settings: Settings, *, clock: Clock = system_clock) -> Training:
    """Learn the demand, back-test it, register a challenger, promote it if the gate passes."""
    store = Store(uri=settings.mlflow_uri)
    usage = telemetry.read_usage(store)
    return forecast.retrain(usage, store, settings=settings, clock=clock)


def make_plan(settings: Settings, *, clock: Clock = system_clock) -> Plan:
    """Forecast, find the cheapest fleet, keep the plan, publish it as the ledger's calendar."""
    store = Store(uri=settings.mlflow_uri)
    ahead = forecast.predict(telemetry.read_usage(store), store, feedback.read_beliefs(store), settings=settings)
    planned = plan.solve(ahead, read_fleet(settings.fleet_file), settings=settings)
    kept = plan.log_plan(planned, ahead, store)
    with reserve.open_ledger(settings.ledger_url, clock=clock) as ledger:
        ledger.publish(plan.to_calendar(kept))
    return kept


def apply(settings: Settings, *, dry_run: bool = False, clock: Clock = system_clock) -> tuple[NodeChange, ...]:
    """Bring the fleet to what the plan wants now; `dry_run` only shows the steps."""
    planned, _ = plan.read_plan(Store(uri=settings.mlflow_uri))
    changes = execute.diff(planned, read_fleet(settings.fleet_file), at=clock())
    return changes if dry_run else execute.apply_to_file(changes, settings.fleet_file)


def learn(settings: Settings, *, clock: Clock = system_clock) -> Learning:
    """Hold the plan against what happened, write that back, and show what it changes."""
    store = Store(uri=settings.mlflow_uri)
    usage = telemetry.read_usage(store)
    before = forecast.predict(usage, store, feedback.read_beliefs(store), settings=settings)
    planned, foreseen = plan.plan_that_ran(store, usage.end) or plan.replay(
        forecast.backtest_forecast(store), read_fleet(settings.fleet_file), settings=settings
    )
    with reserve.open_ledger(settings.ledger_url, clock=clock) as ledger:
        lived = ledger.history(since=foreseen.issued_at)
    telemetry.record_reservations(lived, store, clock=clock)
    outcome = Outcome(start=foreseen.issued_at, end=usage.end, demand=usage.demand, reservations=lived)
    score = feedback.score(planned, foreseen, outcome)
    beliefs = feedback.learn(score, store, clock=clock)
    after = forecast.predict(usage, store, beliefs, settings=settings)
    return Learning(score=score, beliefs=beliefs, before=before, after=after)


def write_report(settings: Settings, *, clock: Clock = system_clock) -> Path:
    """Write the report's page from what the stages left."""
    store = Store(uri=settings.mlflow_uri)
    with reserve.open_ledger(settings.ledger_url, clock=clock) as ledger:
        lived = ledger.history()
    planned, foreseen = plan.read_plan(store)
    return report.build(
        settings.report_file,
        usage=telemetry.read_usage(store),
        training=forecast.read_training(store),
        forecast=foreseen,
        plan=planned,
        reservations=lived,
        score=feedback.read_score(store),
    )
