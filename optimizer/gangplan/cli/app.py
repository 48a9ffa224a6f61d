"""The command `gangplan`. Exit codes: 0 done, 1 failed, 2 bad input, 3 an expected no, 4 a store is unreachable."""

from __future__ import annotations

import gc
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from gangplan import __version__, plan, summaries, workflows
from gangplan.cli import screen
from gangplan.cli.doctor import doctor_app
from gangplan.cli.execution import apply_app, controller_app, cycle_run, power_app, prices_app
from gangplan.cli.forecast import forecast_app
from gangplan.cli.forecast_hours import hours_app
from gangplan.cli.ledger import ledger_app
from gangplan.cli.node import node_app
from gangplan.cli.plan import plan_app
from gangplan.cli.plan_purchases import purchases_app
from gangplan.cli.platforms import airflow_app, kfp_app, kube_app
from gangplan.cli.policy import policy_app
from gangplan.cli.quarantine import quarantine_app
from gangplan.cli.reserve import emit_reservation, find, require_one, reserve_app
from gangplan.cli.review import review_app
from gangplan.cli.terminal import AsJson, console, emit, open_ledger_here, open_store_here, settings_here, use
from gangplan.errors import GangplanError
from gangplan.extras import needs_extras
from gangplan.types import ReservationState
from gangplan.urls import without_secrets

_COLLECTED_AFTER = 50_000
"""Objects between two garbage collections. The import of MLflow makes half a million objects that stay alive, and with
Python's own threshold of some hundreds a command would scan them again and again."""

Until = Annotated[str, typer.Option(help="When a file was exported: now, or a time; jobs without an end run to it.")]
Replay = Annotated[bool, typer.Option("--replay", help="Move an old trace so that it ends now, for trial.")]
At = Annotated[str, typer.Option(help="With --replay: the moment of the trace that becomes now; default: its end.")]

app = typer.Typer(
    name="gangplan",
    help="GPU capacity that a pipeline can be promised: forecast it, plan it, reserve it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="rich",
)
app.add_typer(reserve_app)
app.add_typer(review_app)
app.add_typer(apply_app)
app.add_typer(controller_app)
app.add_typer(doctor_app)
forecast_app.add_typer(hours_app)
app.add_typer(forecast_app, name="forecast")
plan_app.add_typer(purchases_app)
app.add_typer(plan_app, name="plan")
app.add_typer(node_app, name="node")
app.add_typer(policy_app, name="policy")
app.add_typer(ledger_app, name="ledger")
app.add_typer(kube_app, name="kube")
app.add_typer(power_app, name="power")
app.add_typer(airflow_app, name="airflow")
app.add_typer(kfp_app, name="kfp")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(prices_app, name="prices")


def main() -> None:
    """Run the command; every expected error is one line on standard error and an exit code."""
    gc.set_threshold(_COLLECTED_AFTER)
    try:
        with needs_extras():
            code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except GangplanError as error:
        _fail(str(error), error.exit_code)
    except typer.TyperException as error:
        words = " ".join(error.format_message().split())
        if not words:  # a group of commands without one of them: its help was printed
            sys.exit(2)
        _fail(f"{words} (see `gangplan --help`)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130)
    except Exception:  # noqa: BLE001 - a defect of ours: its trace is shown, without the passwords of URLs in it
        sys.stderr.write(without_secrets(traceback.format_exc()))
        sys.exit(1)


def _fail(message: str, code: int) -> None:
    """Print one line on standard error and exit."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _version(asked: bool) -> None:
    if asked:
        print(f"gangplan {__version__}")
        raise typer.Exit


@app.callback()
def options(
    home: Annotated[Path | None, typer.Option(help="Folder of everything gangplan keeps (GANGPLAN_HOME).")] = None,
    now: Annotated[
        str | None, typer.Option(help="Work as of this moment, like 2026-03-01T12:00:00Z (GANGPLAN_NOW).")
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """GPU capacity that a pipeline can be promised: forecast it, plan it, reserve it."""
    use(home=home, now=now)


@app.command(epilog="Example:  gangplan --home .run init")
def init(
    from_telemetry: Annotated[bool, typer.Option(help="Draft the fleet from the telemetry in MLflow.")] = False,
    force: Annotated[bool, typer.Option(help="Write over files that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write gangplan.yaml and a starter fleet, and open the ledger with that fleet as its first calendar."""
    written = workflows.initialise(settings_here(), from_telemetry=from_telemetry, force=force)
    emit(as_json, {"written": [str(path) for path in written]}, screen.written)


@app.command(
    epilog="Example:  gangplan ingest sacct.txt --zone Europe/Berlin --preview   |   ... ingest trace.csv --replay"
)
def ingest(
    source: Annotated[
        str,
        typer.Argument(help="sample, a path of tables (sacct -P too), prometheus+URL, kubernetes+context, mlflow+URI."),
    ],
    mapping: Annotated[
        str | None, typer.Option(help="How a table of others is read: a mapping's name, or its file.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Time zone of times without an offset, like Europe/Berlin.")] = None,
    decimal: Annotated[str | None, typer.Option(help="Decimal sign of numbers, where it is in doubt: . or ,")] = None,
    until: Until = "",
    replay: Replay = False,
    at: At = "",
    preview: Annotated[bool, typer.Option("--preview", help="Show how it is understood; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring telemetry into MLflow with its own times; bad rows are named and kept out."""
    from gangplan import cycle, telemetry

    settings = settings_here(mapping=mapping, zone=zone, decimal=decimal)
    timing = telemetry.Timing(until=until, replay=replay, at=at)
    with screen.progress(console, not as_json) as progress:
        if preview:
            shown = summaries.of_preview(cycle.preview(settings, source, timing, progress=progress))
        else:
            shown = summaries.of_ingest(cycle.ingest(settings, source, timing, progress=progress))
    emit(as_json, shown, screen.preview if preview else screen.ingest)


@app.command(epilog="Example:  gangplan train --because 'drift: search / latency / l4'")
def train(
    because: Annotated[str, typer.Option(help="What set it off, kept with the version.")] = "asked for",
    as_json: AsJson = False,
) -> None:
    """Train a demand model, back-test it against seasonal naive, register it; promote it if the gate passes."""
    from gangplan import cycle

    with screen.progress(console, not as_json) as progress:
        training = cycle.train(settings_here(), because=because, progress=progress)
    emit(as_json, summaries.of_training(training), screen.training)


@app.command(epilog="Example:  gangplan status --state waiting")
def status(
    state: Annotated[ReservationState | None, typer.Option(help="Only reservations in this state.")] = None,
    owner: Annotated[str, typer.Option(help="Only what it has: the beginning of its path, like airflow/train.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the reservations: who holds what, who waits, until when and why; and how far ETAs were off so far."""
    from gangplan.reserve import eta_errors, waited

    with open_ledger_here() as ledger:
        ledger.tick()
        listed = ledger.list(state, owner.rstrip("/"))
    errors = eta_errors(reservation for reservation in waited(listed) if not reservation.interruptions)
    summary = [summaries.of_reservation(reservation) for reservation in listed]
    emit(as_json, summary, lambda _: screen.reservations(listed, errors))


@app.command(epilog="Example:  gangplan calendar --hours 48")
def calendar(
    hours: Annotated[int, typer.Option(min=1, max=24 * 90, help="How far ahead to look.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Show the free capacity over time: planned, held and free GPUs of each pool."""
    now = settings_here().clock()
    with open_ledger_here() as ledger:
        free = ledger.calendar(now, now + timedelta(hours=hours))
    emit(as_json, summaries.of_free(free), screen.calendar)


@app.command(epilog="Example:  gangplan explain --key nightly-train   |   gangplan explain")
def explain(
    id: Annotated[str | None, typer.Argument(help="A reservation; without one, the newest plan is explained.")] = None,
    key: Annotated[str | None, typer.Option(help="The request key of a reservation.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say why a request waits and what would help; or who is short in the newest plan, when and why."""
    if id is not None or key is not None:
        require_one(id, key)
        with open_ledger_here() as ledger:
            ledger.tick()
            reservation = find(ledger, id, key)
        return emit_reservation(as_json, reservation)
    newest, _ = plan.read_plan(open_store_here())
    text = plan.explain(newest)
    return emit(as_json, {"plan_id": newest.plan_id, "text": text}, lambda _: escape(text))


@app.command(epilog="Example:  gangplan feedback")
def feedback(as_json: AsJson = False) -> None:
    """Hold the plan against what happened, write that back, and show what it changes in the next forecast."""
    from gangplan import cycle

    with screen.progress(console, not as_json) as progress:
        progress(0, 1, "holding the plan against what happened")
        learned = cycle.learn(settings_here())
    emit(as_json, summaries.of_learning(learned), screen.learning)


@app.command(epilog="Example:  gangplan report   |   gangplan report --no-compare")
def report(
    compare: Annotated[
        bool, typer.Option(help="Run the plan beside its alternatives first, once for each plan (some seconds).")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Write the report: demand and forecast, plan and alternatives, reservations, shortage, what feedback changed."""
    from gangplan import cycle

    with screen.progress(console, not as_json) as progress:
        written = cycle.write_report(settings_here(), compare=compare, progress=progress)
    emit(as_json, {"written": [str(written)]}, screen.written)


@app.command(epilog="Example:  gangplan --home .run run sample")
def run(
    source: Annotated[str, typer.Argument(help="Telemetry, as for `gangplan ingest`.")] = "sample",
    until: Until = "",
    replay: Replay = False,
    at: At = "",
    as_json: AsJson = False,
) -> None:
    """Run the whole cycle once, without Airflow: ingest, train, plan, apply, feedback, report."""
    from gangplan import cycle, telemetry

    settings, timing = settings_here(), telemetry.Timing(until=until, replay=replay, at=at)
    summary: dict[str, Any] = {}
    with screen.progress(console, not as_json) as progress:
        summary["ingest"] = summaries.of_ingest(cycle.ingest(settings, source, timing, progress=progress))
        workflows.ensure_fleet(settings)
        summary["train"] = summaries.of_training(cycle.train(settings, progress=progress))
        summary["plan"] = summaries.of_plan(cycle.make_plan(settings, progress=progress))
        summary["apply"] = summaries.of_applied(cycle.apply(settings))
        summary["feedback"] = summaries.of_learning(cycle.learn(settings))
        summary["report"] = {"written": [str(cycle.write_report(settings))]}
    emit(as_json, summary, cycle_run)
