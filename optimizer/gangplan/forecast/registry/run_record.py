# pyright: reportUnknownMemberType=false
"""What a training's MLflow run keeps: data sets, parameters, code, figures, tables, pictures, the gate's words."""

from __future__ import annotations

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
from gangplan.forecast.evaluation import Verdict
from gangplan.forecast.models import TREES, bundle_sha256
from gangplan.forecast.registry.runs import code_sha256
from gangplan.tracking import Store, table_sha256
from gangplan.types import Usage


def log(
    store: Store,
    run_id: str,
    *,
    usage: Usage,
    found: evaluation.Trial,
    champion: pl.DataFrame | None,
    verdict: Verdict,
    settings: Settings,
) -> None:
    """Put everything but the model into the run."""
    store.client.log_batch(run_id, params=_parameters(found, settings), tags=_code(found))
    store.log_metrics(run_id, _metrics(found, store.client.get_run(run_id).info.start_time))
    store.client.log_inputs(run_id, _data_sets(usage))
    store.log_table(run_id, "backtest", found.table)
    store.log_table(run_id, "backtest_naive", found.naive)
    if champion is not None:
        store.log_table(run_id, "backtest_champion", champion)
    store.client.log_text(run_id, "\n".join((verdict.reason, *found.notes)) + "\n", "notes.txt")
    store.client.log_text(run_id, json.dumps([asdict(check) for check in verdict.checks], indent=2), "gate.json")
    with tempfile.TemporaryDirectory() as folder:
        evaluation.draw(Path(folder), found.table, found.bundle.steering)
        store.client.log_artifacts(run_id, folder, "plots")


def _metrics(found: evaluation.Trial, stamp: int) -> list[Metric]:
    """The figures, and those by day ahead with the day's last hour as their step.

    All of the moment that the run began: logged again, by a training that was killed, they are the same points.
    """
    pooled = [Metric(name, value, stamp, 0) for name, value in evaluation.figures(found).items()]
    return pooled + [Metric(name, value, stamp, hour) for name, hour, value in evaluation.by_day(found)]


def _data_sets(usage: Usage) -> list[DatasetInput]:
    """Name the telemetry, and each of its tables, by our own sha256: MLflow's digest is of a sample, blind to times."""
    tables = {"demand": usage.demand, "jobs": usage.jobs, "events": usage.events}
    each = [data_set(usage, name, table, table_sha256(table)) for name, table in tables.items()]
    return [data_set(usage, "telemetry", usage.demand, usage.sha256), *each]


def data_set(usage: Usage, name: str, table: pl.DataFrame, sha256: str) -> DatasetInput:
    """Describe one table."""
    source = {"source": usage.source, "run_id": usage.run_id}
    profile = {"rows": table.height, "start": usage.start.isoformat(), "end": usage.end.isoformat()}
    columns = [{"name": column, "type": str(kind)} for column, kind in table.schema.items()]
    data_set = Dataset(
        name=name,
        digest=sha256[:32],
        source_type="gangplan-telemetry",
        source=json.dumps(source),
        schema=json.dumps({"columns": columns}),
        profile=json.dumps(profile),
    )
    return DatasetInput(data_set, [InputTag("mlflow.data.context", "training"), InputTag("sha256", sha256)])


def _code(found: evaluation.Trial) -> list[RunTag]:
    """What ran, and the content of what came of it: the same of both in two trainings is the same model."""
    tags = {"sha256.code": code_sha256(), "sha256.fits": bundle_sha256(found.bundle), "gangplan.version": __version__}
    commit = get_git_commit(str(Path(gangplan.__file__).parent))  # none outside a checkout
    return [RunTag(name, value) for name, value in tags.items()] + (
        [RunTag("mlflow.source.git.commit", commit)] if commit else []
    )


def _parameters(found: evaluation.Trial, settings: Settings) -> list[Param]:
    """What the training was made with."""
    named = {
        "seed": settings.seed,
        "horizon_hours": settings.horizon_hours,
        "backtest_horizon_hours": found.window.horizon,
        "backtest_origins": len(found.window.origins),
        "series": len(found.panel.keys),
        "hours": found.panel.hours,
        "rows": found.bundle.steering.rows,
        "event_kinds": ",".join(found.bundle.steering.kinds) or "none",
        "rounds": models.ROUNDS,
        "gangplan": __version__,
        **{name: value for name, value in TREES.items() if name != "verbosity"},
    }
    return [Param(name, str(value)) for name, value in named.items()]
