"""`make run`: the main job, end to end, through real Airflow DAGs, in a home of its own under .run/.

    python scripts/run_cycle.py [--telemetry SOURCE]

A file is replayed: telemetry that ended more than six hours ago is moved, and the run says by how much.

What is Airflow's here: the metadata database, the six DAGs of dags/, the LocalExecutor with a process for each task,
the API that tasks report to, and the triggerer that deferred tasks wait in. What is left out is the scheduler's loop:
in its place, `DAG.test(use_executor=True)` walks through one run after the other.

Killed at any second it can be started again: databases are made aside and then moved into place, every process ends
with its parent, and what a killed run left (processes, DAG runs, held slots) is ended at the next start.

Exit codes: 0 done, 1 a task failed, 2 bad input, 3 an expected no, 4 another run is going on or a service died.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from run_home import HOME, LOG, LOGS, ROOT, hermetic, one_at_a_time, prepare, quiet, start_over
from run_processes import MARK, end_leftovers, services

from gangplan import errors, reserve
from gangplan.cli import screen
from gangplan.config import Settings, load_settings
from gangplan.errors import GangplanError, InputError

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.sdk import DAG

STEPS: tuple[tuple[str, str], ...] = (
    ("gangplan_ingest", "telemetry into MLflow"),
    ("gangplan_retrain", "demand model, back-tested and registered"),
    ("gangplan_plan", "cheapest fleet, the ledger's calendar"),
    ("gangplan_apply", "the plan's steps on the fleet file"),
    ("example_reserved_training", "two trainings want the same 8 GPUs"),
    ("gangplan_feedback", "planned against happened, the report"),
)


class TaskFailedError(GangplanError):
    """A task of a DAG failed. The exit code is that of the task's own error; bad input needs no log to be mended."""

    def __init__(self, task: str, kind: str, message: str, log: Path) -> None:
        self.exit_code = getattr(getattr(errors, kind, GangplanError), "exit_code", 1)
        super().__init__(message if self.exit_code == 2 else f"{message} (task {task}, log {log})")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One DAG's run: what its tasks said."""

    run_id: str
    tasks: int
    seconds: float
    said: dict[str, Any] = field(default_factory=dict)


def main(arguments: list[str]) -> int:
    """Run the cycle; every expected error is one line on standard error and an exit code."""
    parser = argparse.ArgumentParser(prog="run_cycle.py", description="Run the whole cycle through Airflow.")
    parser.add_argument("--telemetry", default="sample", help="sample, a file or folder, prometheus+URL, mlflow+URI")
    source = parser.parse_args(arguments).telemetry
    signal.signal(signal.SIGTERM, _terminated)
    try:
        settings = load_settings(home=HOME)
        source = checked(source)
        if os.environ.get(MARK) != str(HOME):
            start_over(hermetic(dict(os.environ)))
        with one_at_a_time(), quiet() as terminal:
            cycle(settings, source, Console(file=terminal))
    except GangplanError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; start it again at any time", file=sys.stderr)
        return 130
    return 0


def cycle(settings: Settings, source: str, console: Console) -> None:
    """Prepare a home, start the services, run the DAGs one after the other, show what came of it."""
    started = time.monotonic()
    end_leftovers(str(HOME))
    prepare(settings, console)
    with services(LOG) as alive:
        warm()
        dags = load_dags()
        end_broken_runs(settings)
        alive.wait()
        console.print(f"ready in {time.monotonic() - started:.0f} s: {len(dags)} DAGs")
        conf = {"gangplan_ingest": {"source": source, "draft_fleet": True, "replay": "://" not in source}}
        ran = {name: step(console, number, dags[name], conf.get(name)) for number, (name, _) in enumerate(STEPS, 1)}
        console.print(table(settings, ran))
        console.print(f"done in {time.monotonic() - started:.0f} s; the report: {settings.report_file}", soft_wrap=True)


def checked(source: str) -> str:
    """Return a telemetry source with its path made absolute, or refuse a path that is not there."""
    if source == "sample" or "://" in source:
        return source
    path = Path(source).expanduser()
    if not source or not path.exists():
        remedy = "is not there: give sample, a CSV or Parquet file, a folder, prometheus+http://host or mlflow+URI"
        raise InputError("TELEMETRY", source, remedy)
    return str(path.resolve())


def _terminated(number: int, _: FrameType | None) -> NoReturn:
    """End in good order when somebody ends this process."""
    raise SystemExit(128 + number)


def end_broken_runs(settings: Settings) -> None:
    """Mark the DAG runs of a killed run as failed, and give back what their tasks hold or wait for."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, State
    from sqlalchemy import delete, or_, select, update

    going_on = DagRun.state.in_([DagRunState.QUEUED, DagRunState.RUNNING])
    unfinished = or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(State.finished))
    with create_session() as session:
        broken = session.execute(select(DagRun.dag_id, DagRun.run_id).where(going_on)).all()
        keys = tuple(f"airflow/{dag_id}/{run_id}/" for dag_id, run_id in broken)
        tasks = update(TaskInstance).where(TaskInstance.run_id.in_([run_id for _, run_id in broken]), unfinished)
        plainly = {"synchronize_session": False}
        session.execute(tasks.values(state=State.FAILED, trigger_id=None), execution_options=plainly)
        session.execute(update(DagRun).where(going_on).values(state=State.FAILED), execution_options=plainly)
        session.execute(delete(Trigger))
    if keys:
        with reserve.open_ledger(settings.ledger_url) as ledger:
            for reservation in ledger.list():
                if not reservation.state.final and reservation.request.request_key.startswith(keys):
                    ledger.cancel(reservation.id)


def warm() -> None:
    """Import what all tasks import: their processes are forks of this one, and each would spend 5 s on it.

    Not Polars and not LightGBM, whose thread pools do not survive a fork.
    """
    import mlflow  # noqa: F401


def load_dags() -> dict[str, DAG]:
    """Read the DAG files, or say which of them cannot be read."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    for file, error in bag.import_errors.items():
        raise GangplanError(f"{file}: {error.strip().splitlines()[-1]}")
    return dict(bag.dags)


def step(console: Console, number: int, dag: DAG, conf: dict[str, Any] | None) -> Ran:
    """Run one DAG and say how it went, in a line."""
    from airflow.utils.state import DagRunState

    head = f"{number}/{len(STEPS)} {dag.dag_id:26}"
    if console.is_terminal:
        console.print(f"{head} ...", end="\r")
    started = time.monotonic()
    run = dag.test(use_executor=True, run_conf=conf)
    seconds = time.monotonic() - started
    good = run.state == DagRunState.SUCCESS
    outcome = "[green]done[/]" if good else "[red]failed[/]"
    about = f"[dim]{STEPS[number - 1][1]}[/]"
    console.print(f"{head} {len(dag.tasks)} tasks {seconds:6.1f} s  {outcome}  {about}", soft_wrap=True)
    if not good:
        raise failure(run)
    return Ran(run_id=run.run_id, tasks=len(dag.tasks), seconds=seconds, said=results(run))


def results(run: DagRun) -> dict[str, Any]:
    """Return what the tasks of a run returned."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.scalars(XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id, key="return_value"))
        return {row.task_id: XComModel.deserialize_value(row) for row in rows}


def failure(run: DagRun) -> GangplanError:
    """Find the task that failed first, and its own error in its log."""
    from airflow.utils.state import TaskInstanceState

    failed = [task for task in run.get_task_instances() if task.state == TaskInstanceState.FAILED]
    if not failed:
        return GangplanError(f"{run.dag_id}: no task failed, but the run did: see {LOG}")
    first = min(failed, key=lambda task: (task.start_date is None, task.start_date))
    folder = LOGS / "tasks" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}" / f"task_id={first.task_id}"
    log = folder / f"attempt={first.try_number}.log"
    kind, message = last_error(log)
    return TaskFailedError(f"{run.dag_id}.{first.task_id}", kind, message, log)


def last_error(log: Path) -> tuple[str, str]:
    """Return the class and the message of the last error in a task's log."""
    for line in reversed(log.read_text().splitlines() if log.exists() else []):
        with suppress(json.JSONDecodeError, KeyError, IndexError, TypeError):
            error = json.loads(line)["error_detail"][0]
            kind, words = error["exc_type"], error["exc_value"]
            return kind, words if hasattr(errors, kind) else f"{kind}: {words}"
    return "GangplanError", "the task ended without a word"


def table(settings: Settings, ran: dict[str, Ran]) -> RenderableType:
    """Sum up what the DAGs did."""
    telemetry = ran["gangplan_ingest"].said["ingest"]
    model, plan = ran["gangplan_retrain"].said["train"], ran["gangplan_plan"].said["plan"]
    learned = ran["gangplan_feedback"].said["learn"]
    hours = (datetime.fromisoformat(telemetry["end"]) - datetime.fromisoformat(telemetry["start"])) / timedelta(hours=1)
    before, after = learned["forecast_gpu_hours_before"], learned["forecast_gpu_hours_after"]
    better = 1 - model["wql"] / model["naive_wql"]
    pairs = [
        ("telemetry", f"{hours:,.0f} hours, {telemetry['series']} series, {telemetry['jobs']:,} jobs"),
        ("rows kept out", f"{telemetry['rejected_count']:,}"),
        *(("note", escape(note)) for note in telemetry["notes"]),
        ("forecast WQL", f"{model['wql']:.2f} (seasonal naive {model['naive_wql']:.2f}, {better:.0%} better)"),
        ("model", f"version {model['version']}, {'champion' if model['promoted'] else 'challenger'}"),
        ("plan", f"cost {plan['total_cost']:,.0f}, gap {plan['gap']:.1%}"),
        ("short in the 95 % case", f"{plan['p95_short_gpu_hours']:,.1f} GPU-hours"),
        ("fleet", f"{len(ran['gangplan_apply'].said['apply']['done'])} steps to the plan"),
        ("feedback", f"forecast of {before:,.0f} GPU-hours becomes {after:,.0f}; plan scored {learned['wql']:.2f} WQL"),
    ]
    trainings = ran["example_reserved_training"]
    why = [f"second: {escape(trainings.said['second.reserve']['waited_because'] or 'did not wait')}"]
    return Group(screen.fields("The cycle", pairs), reservations(settings, trainings.run_id), *why)


def reservations(settings: Settings, run_id: str) -> RenderableType:
    """Show how long each gang of the example waited, beside what was foretold."""
    with reserve.open_ledger(settings.ledger_url) as ledger:
        found = [row for row in ledger.history() if f"/{run_id}/" in row.request.request_key]
    rows = [
        (
            row.request.request_key.split("/")[3].split(".")[0],
            f"{row.request.gpus} on {', '.join(sorted({place.node for place in row.placements}))}",
            f"{row.waited.total_seconds():.1f} s" if row.waited else "0 s",
            f"{(row.first_eta - row.submitted_at).total_seconds():.0f} s" if row.first_eta else "-",
        )
        for row in found
    ]
    return screen.table("Reservations", ("training", "GPUs", "waited", "foretold at most"), rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
