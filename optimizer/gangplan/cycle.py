"""The whole cycle: telemetry -> forecast -> plan -> execute -> (reservations) -> feedback -> telemetry, and its report.

Each stage reads from MLflow or the ledger what the stage before wrote, so each can run in a process of its own.
"""

from dataclasses import replace
from pathlib import Path

from gangplan import execute, feedback, forecast, plan, report, reserve, telemetry, workflows
from gangplan.config import Settings, read_fleet
from gangplan.progress import Progress, no_progress
from gangplan.tracking import Store, open_store
from gangplan.types import Learning, Outcome, Plan, Training


def ingest(
    settings: Settings, source: str, timing: telemetry.Timing | None = None, *, progress: Progress = no_progress
) -> telemetry.IngestReport:
    """Read telemetry from a source and keep it in MLflow, with its own times unless `timing` asks for a replay."""
    return telemetry.ingest(
        source,
        open_store(settings, create=True),
        seed=settings.seed,
        clock=settings.clock,
        timing=_timing(settings, timing),
        reading=_reading(settings),
        progress=progress,
    )


def preview(
    settings: Settings, source: str, timing: telemetry.Timing | None = None, *, progress: Progress = no_progress
) -> telemetry.Preview:
    """Read telemetry from a source as `ingest` does, and write nothing."""
    return telemetry.preview(
        source,
        Store(uri=settings.mlflow_uri),
        seed=settings.seed,
        clock=settings.clock,
        timing=_timing(settings, timing),
        reading=_reading(settings),
        progress=progress,
    )


def _timing(settings: Settings, timing: telemetry.Timing | None) -> telemetry.Timing:
    """Return what is said about times; a clock that was set walks through a trace."""
    return replace(timing or telemetry.Timing(), walks=settings.now is not None)


def _reading(settings: Settings) -> telemetry.Reading:
    """Return how files are read."""
    return telemetry.Reading(mapping=settings.mapping, zone=settings.zone, decimal=settings.decimal)


def train(
    settings: Settings, *, because: str = "asked for", once: str = "", progress: Progress = no_progress
) -> Training:
    """Train a demand model, back-test it, register it as challenger, promote it if it passes the gate.

    `because` is kept with the version: what caused the training, such as a schedule, or a drift and its reason. `once`
    names who asks: asked again in that name, a training that is done is returned.
    """
    store = open_store(settings)
    usage, clock = telemetry.read_usage(store, settings.clock()), settings.clock
    return forecast.retrain(usage, store, settings=settings, because=because, once=once, clock=clock, progress=progress)


def make_plan(settings: Settings, *, hold: bool = False, once: str = "", progress: Progress = no_progress) -> Plan:
    """Forecast, find the cheapest fleet, keep the plan; publish it as the ledger's calendar unless `hold` is true.

    `once` names who asks: asked again in that name, the plan that was made is returned, and published if it was not.

    Raises
    ------
    OldTelemetryError
        When the telemetry's last hour is older than the setting `stale_after_hours`.
    """
    store, fleet = open_store(settings), read_fleet(settings.fleet_file)
    with reserve.open_ledger(settings.ledger_url, clock=settings.clock) as ledger:
        if once and (made := plan.plan_made_once(store, once)) is not None:
            workflows.Planning(store=store, ledger=ledger, settings=settings, clock=settings.clock).settle(
                made, hold=hold
            )
            return made
        usage = workflows.usage_now(store, ledger, settings)
        demand = forecast.predict(usage, store, feedback.read_beliefs(store), settings=settings)
        denied = tuple(map(str, usage.quarantined))
        planning = workflows.Planning(store=store, ledger=ledger, settings=settings, clock=settings.clock, notes=denied)
        return planning.make(demand, fleet, hold=hold, once=once, progress=progress)


def apply(settings: Settings, *, dry_run: bool = False) -> workflows.Applied:
    """Bring the engines to what the newest published plan wants now, as far as can be; `dry_run` only says what."""
    with workflows.open_execution(settings) as execution:
        return execution.once(dry_run=dry_run)


def learn(settings: Settings) -> Learning:
    """Compare the plan of a day ago with what happened, learn from it, and forecast again with what was learned."""
    store, clock = open_store(settings), settings.clock
    usage, beliefs = telemetry.read_usage(store, clock()), feedback.read_beliefs(store)
    before = forecast.predict(usage, store, beliefs, settings=settings)
    planned, foreseen = plan.plan_that_ran(store, usage.end) or plan.replay(
        forecast.backtest_forecast(store), read_fleet(settings.fleet_file), settings=settings
    )
    with reserve.open_ledger(settings.ledger_url, clock=clock) as ledger:
        reservations = ledger.history(since=foreseen.issued_at)
    telemetry.record_reservations(reservations, store, clock=clock)
    outcome = Outcome(start=foreseen.issued_at, end=usage.end, demand=usage.demand, reservations=reservations)
    score = feedback.score(planned, foreseen, outcome)
    beliefs = feedback.learn(score, store, clock=clock)
    after = forecast.predict(usage, store, beliefs, settings=settings)
    return Learning(score=score, beliefs=beliefs, before=before, after=after)


def write_report(
    settings: Settings, *, compare: bool = False, out: Path | None = None, progress: Progress = no_progress
) -> Path:
    """Write the report, keep it with the plan in MLflow, where the web page finds it, and return its path.

    `out` is where it goes, by default the folder `report` of the home folder. `compare` first simulates the plan beside
    its alternatives, unless that was done for this plan before.
    """
    store = open_store(settings)
    planned, foreseen = plan.read_plan(store)
    if compare and plan.read_alternatives(store, planned) is None:
        workflows.compare(store, settings, planned.plan_id, progress)
    with reserve.open_ledger(settings.ledger_url, clock=settings.clock) as ledger:
        reservations = ledger.history()
    page = report.build(
        out or settings.report_file,
        usage=telemetry.read_usage(store, settings.clock()),
        training=forecast.read_training(store),
        forecast=foreseen,
        plan=planned,
        reservations=reservations,
        score=feedback.read_score(store),
        beliefs=feedback.read_beliefs(store),
        alternatives=plan.read_alternatives(store, planned),
        carried=execute.carried_hours(store),
    )
    plan.log_report(store, planned, page.read_text())
    return page
