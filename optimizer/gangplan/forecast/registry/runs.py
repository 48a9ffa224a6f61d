"""A training's MLflow run: what it keeps, and how a training that was killed at any moment is resumed in it.

A training is identified by its key: the telemetry's content, the settings that matter and the code. Its MLflow run
carries the key, and at the very end the tag `training.done`. A later training of the same key resumes a run that is not
done and whose process is gone: fits with a checkpoint are not made again, nor is a version registered again.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import polars as pl
from mlflow.artifacts import list_artifacts
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.git_utils import get_git_commit

import gangplan
from gangplan import __version__
from gangplan.config import Settings
from gangplan.forecast import evaluation, models
from gangplan.forecast.evaluation import GateResult, Trial
from gangplan.forecast.models import TREES, DemandModel, bundle_bytes, read_model, write_model
from gangplan.tracking import FORECAST, Store, table_sha256
from gangplan.types import Usage

KEY, DONE, OWNER, SEEN = "training.key", "training.done", "training.process", "training.seen"
ONCE = "training.once"
"""The tag of a run with the name of who asked for it and wants it once."""

SILENT_S = 900.0
"""A training on another machine that tagged nothing for so long is taken for dead."""

_FOLDER = "checkpoints"


def training_key(usage: Usage, settings: Settings) -> str:
    """Return what makes two trainings the same: telemetry, settings, code."""
    parts = (usage.sha256, settings.seed, settings.horizon_hours, settings.backtest_origins, code_sha256())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def code_sha256() -> str:
    """Return the sha256 over the package's Python files: what was really run, also between two releases."""
    root = Path(gangplan.__file__).parent
    digest = hashlib.sha256(__version__.encode())
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@contextmanager
def training_run(store: Store, key: str, name: str, described: Mapping[str, str]) -> Generator[str]:
    """Open a training's run, or resume the one that a killed training of this key left; give its id.

    It ends FINISHED, or FAILED when the block raises.
    """
    unfinished = _unfinished(store, key)
    tags = {**described, KEY: key, OWNER: _process(os.getpid()), SEEN: str(time.time())}
    if unfinished is None:
        run_id = store.client.create_run(store.experiment(FORECAST), run_name=name, tags=tags).info.run_id
    else:
        run_id = unfinished.info.run_id
        store.client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
        for tag, value in tags.items():
            store.client.set_tag(run_id, tag, value)
    with store.ending(run_id):
        yield run_id


def checkpoints(store: Store, run_id: str) -> Callable[[str, Callable[[], DemandModel]], DemandModel]:
    """Return what keeps each fit in the run as soon as it is made, and reads it back when the training is resumed."""

    def checkpoint(name: str, make: Callable[[], DemandModel]) -> DemandModel:
        kept = _read(store, run_id, name)
        if kept is not None:
            return kept
        model = make()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.json"
            write_model(file, model)
            store.client.log_artifact(run_id, str(file), _FOLDER)  # pyright: ignore[reportUnknownMemberType]
            # the tag comes last: a file that was half written when the process was killed has none
            store.client.set_tag(run_id, f"sha256.{name}", hashlib.sha256(file.read_bytes()).hexdigest())
        store.client.set_tag(run_id, SEEN, str(time.time()))
        return model

    return checkpoint


def trained_once(store: Store, once: str) -> str | None:
    """Return the version that a training in that name has registered, once all of it was done."""
    return next((done for run in store.runs(FORECAST, {ONCE: once}) if (done := run.data.tags.get(DONE))), None)


def finish_training(store: Store, run_id: str, version: str) -> None:
    """Tag the training as done, and delete its checkpoints: the model has the fits."""
    store.client.set_tag(run_id, DONE, version)
    artifacts = get_artifact_repository(
        str(store.client.get_run(run_id).info.artifact_uri), tracking_uri=store.tracking_uri
    )
    if list_artifacts(run_id=run_id, artifact_path=_FOLDER, tracking_uri=store.tracking_uri):
        artifacts.delete_artifacts(_FOLDER)  # pyright: ignore[reportUnknownMemberType]


def _read(store: Store, run_id: str, name: str) -> DemandModel | None:
    """Return the fit of a checkpoint, if it was written completely."""
    wanted = store.client.get_run(run_id).data.tags.get(f"sha256.{name}")
    if wanted is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = Path(store.client.download_artifacts(run_id, f"{_FOLDER}/{name}.json", folder))
        except (MlflowException, OSError):  # its folder was deleted: the fit is made again
            return None
        return read_model(file) if hashlib.sha256(file.read_bytes()).hexdigest() == wanted else None


def _unfinished(store: Store, key: str) -> Run | None:
    """Return the newest run of that key that is not done and whose process is gone."""
    runs = store.client.search_runs(
        [store.experiment(FORECAST)],
        filter_string=f"tags.`{KEY}` = '{key}'",
        run_view_type=ViewType.ACTIVE_ONLY,
        order_by=["attributes.start_time DESC"],
        max_results=10,
    )
    return next((run for run in runs if DONE not in run.data.tags and not _lives(run)), None)


def _lives(run: Run) -> bool:
    """Tell whether the process of a run is still alive."""
    if run.info.status != RunStatus.to_string(RunStatus.RUNNING):
        return False
    owner, seen = run.data.tags.get(OWNER, ""), float(run.data.tags.get(SEEN, "0"))
    host, pid = owner.split(":")[:2] if owner.count(":") >= 2 else ("", "0")
    if host == socket.gethostname():
        return owner == _process(int(pid))
    return time.time() - seen < SILENT_S


def _process(pid: int) -> str:
    """Identify a process by host, number and start time, so that no later one with its number is taken for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        started = "gone" if fields[0] == "Z" else fields[19]
    except OSError:  # gone, or a system without /proc, where only the number is known
        try:
            os.kill(pid, 0)
            started = "?"
        except OSError:
            started = "gone"
    return f"{socket.gethostname()}:{pid}:{started}"


def log_training(
    store: Store,
    run_id: str,
    *,
    usage: Usage,
    trial: Trial,
    champion: pl.DataFrame | None,
    gate: GateResult,
    settings: Settings,
) -> None:
    """Put everything but the model into the run; `champion` is its back-test, none where it could not be tested."""
    store.client.log_batch(run_id, params=_parameters(trial, settings), tags=_code(trial))
    store.log_metrics(run_id, _metrics(trial, store.client.get_run(run_id).info.start_time))
    store.client.log_inputs(run_id, _data_sets(usage))
    store.log_table(run_id, "backtest", trial.table)
    store.log_table(run_id, "backtest_naive", trial.naive)
    if champion is not None:
        store.log_table(run_id, "backtest_champion", champion)
    store.client.log_text(run_id, "\n".join((gate.reason, *trial.notes)) + "\n", "notes.txt")
    store.client.log_text(run_id, json.dumps([asdict(check) for check in gate.checks], indent=2), "gate.json")
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in evaluation.draw_pictures(trial.table, trial.bundle.steering).items():
            (Path(folder) / f"{name}.png").write_bytes(picture)
        store.client.log_artifacts(run_id, folder, "plots")  # pyright: ignore[reportUnknownMemberType]


def _metrics(trial: Trial, stamp: int) -> list[Metric]:
    """Return the figures, and those by day ahead with the day's last hour as their step.

    All carry the time at which the run began: logged again by a training that is resumed, they are the same points.
    """
    pooled = [Metric(name, value, stamp, 0) for name, value in evaluation.metrics_of(trial).items()]
    return pooled + [Metric(name, value, stamp, hour) for name, hour, value in evaluation.daily_wql(trial)]


def _data_sets(usage: Usage) -> list[DatasetInput]:
    """Name the telemetry and its tables by our own sha256: MLflow's digest is of a sample, and leaves times out."""
    tables = {"demand": usage.demand, "jobs": usage.jobs, "events": usage.events}
    each = [data_set(usage, name, table, table_sha256(table)) for name, table in tables.items()]
    return [data_set(usage, "telemetry", usage.demand, usage.sha256), *each]


def data_set(usage: Usage, name: str, table: pl.DataFrame, sha256: str) -> DatasetInput:
    """Describe one table."""
    source = {"source": usage.source, "run_id": usage.run_id}
    profile = {"rows": table.height, "start": usage.start.isoformat(), "end": usage.end.isoformat()}
    columns = [{"name": column, "type": str(kind)} for column, kind in table.schema.items()]
    described = Dataset(
        name=name,
        digest=sha256[:32],
        source_type="gangplan-telemetry",
        source=json.dumps(source),
        schema=json.dumps({"columns": columns}),
        profile=json.dumps(profile),
    )
    return DatasetInput(described, [InputTag("mlflow.data.context", "training"), InputTag("sha256", sha256)])


def _code(trial: Trial) -> list[RunTag]:
    """Return the sha256 of the code and of the fits: two trainings that share both made the same model."""
    fits = hashlib.sha256(bundle_bytes(trial.bundle)).hexdigest()
    tags = {"sha256.code": code_sha256(), "sha256.fits": fits, "gangplan.version": __version__}
    commit = get_git_commit(str(Path(gangplan.__file__).parent))  # none outside a checkout
    if commit:
        tags["mlflow.source.git.commit"] = commit
    return [RunTag(name, value) for name, value in tags.items()]


def _parameters(trial: Trial, settings: Settings) -> list[Param]:
    named = {
        "seed": settings.seed,
        "horizon_hours": settings.horizon_hours,
        "backtest_horizon_hours": trial.window.horizon,
        "backtest_origins": len(trial.window.origins),
        "series": len(trial.panel.keys),
        "hours": trial.panel.hours,
        "rows": trial.bundle.steering.rows,
        "event_kinds": ",".join(trial.bundle.steering.kinds) or "none",
        "rounds": models.ROUNDS,
        "gangplan": __version__,
        **{name: value for name, value in TREES.items() if name != "verbosity"},
    }
    return [Param(name, str(value)) for name, value in named.items()]
