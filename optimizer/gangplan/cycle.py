"""The whole story: telemetry -> forecast -> plan -> execute -> (reservations) -> feedback -> telemetry.

Each stage reads what the one before left in MLflow or the ledger, so that each can run in a process of its own.
"""

from gangplan import execute, feedback, forecast, plan, reserve, telemetry, workflows
from gangplan.clock import Clock, system_clock
from gangplan.config import Settings, read_fleet
from gangplan.progress import Progress, no_progress
from gangplan.tracking import open_store
from gangplan.types import Learning, NodeChange, Outcome, Plan, Training


def ingest(
    settings: Settings, source: str, *, clock: Clock = system_clock, progress: Progress = no_progress
) -> telemetry.IngestReport:
    """Bring telemetry into MLflow."""
    return telemetry.ingest(
        source, open_store(settings, create=True), seed=settings.seed, clock=clock, progress=progress
    )


def train(settings: Settings, *, clock: Clock = system_clock, progress: Progress = no_progress) -> Training:
    """Learn the demand, back-test it, register a challenger, promote it if the gate passes."""
    store = open_store(settings)
    return forecast.retrain(telemetry.read_usage(store), store, settings=settings, clock=clock, progress=progress)


def make_plan(
    settings: Settings, *, hold: bool = False, clock: Clock = system_clock, progress: Progress = no_progress
) -> Plan:
    """Forecast, find the cheapest fleet, keep the plan; publish it as the ledger's calendar unless it is to be held."""
    store, fleet = open_store(settings), read_fleet(settings.fleet_file)
    ahead = forecast.predict(telemetry.read_usage(store), store, feedback.read_beliefs(store), settings=settings)
    with reserve.open_ledger(settings.ledger_url, clock=clock) as ledger:
        at = workflows.Planning(store=store, ledger=ledger, settings=settings, clock=clock)
        return at.make(ahead, fleet, hold=hold, progress=progress)


def apply(settings: Settings, *, dry_run: bool = False, clock: Clock = system_clock) -> tuple[NodeChange, ...]:
    """Bring the fleet to what the newest published plan wants now; `dry_run` only shows the steps."""
    planned = plan.read_published(open_store(settings))
    changes = execute.diff(planned, read_fleet(settings.fleet_file), at=clock())
    return changes if dry_run else execute.apply_to_file(changes, settings.fleet_file)


def learn(settings: Settings, *, clock: Clock = system_clock) -> Learning:
    """Hold the plan of a day ago against what happened, write that back, and see it change the next forecast."""
    store = open_store(settings)
    usage, beliefs = telemetry.read_usage(store), feedback.read_beliefs(store)
    before = forecast.predict(usage, store, beliefs, settings=settings)
    planned, foreseen = plan.plan_that_ran(store, usage.end) or plan.replay(
        forecast.backtest_forecast(store), read_fleet(settings.fleet_file), settings=settings
    )
    with reserve.open_ledger(settings.ledger_url, clock=clock) as ledger:
        telemetry.record_reservations(lived := ledger.history(since=foreseen.issued_at), store, clock=clock)
    outcome = Outcome(start=foreseen.issued_at, end=usage.end, demand=usage.demand, reservations=lived)
    beliefs = feedback.learn(score := feedback.score(planned, foreseen, outcome), store, clock=clock)
    after = forecast.predict(usage, store, beliefs, settings=settings)
    return Learning(score=score, beliefs=beliefs, before=before, after=after)
