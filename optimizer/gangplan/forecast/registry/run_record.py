"""What a training's MLflow run keeps: data sets, parameters, code, figures, tables, pictures, the gate's words."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import polars as pl
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.utils.git_utils import get_git_commit

import gangplan
from gangplan import __version__
from gangplan.config import Settings
from gangplan.forecast import evaluation, models
from gangplan.forecast.evaluation import GateResult, Trial
from gangplan.forecast.models import TREES, bundle_bytes
from gangplan.forecast.registry.runs import code_sha256
from gangplan.tracking import Store, table_sha256
from gangplan.types import Usage


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
    """What the training was made with."""
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
