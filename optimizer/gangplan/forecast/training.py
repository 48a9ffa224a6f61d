# pyright: reportUnknownMemberType=false
"""Retrain, register, promote; forecast with the champion; read back what was trained."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.entities.model_registry import ModelVersion as MlflowVersion

from gangplan import __version__
from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.errors import NotFoundError
from gangplan.forecast import lifts, model, plots, registry, trial
from gangplan.forecast.arrays import Floats
from gangplan.forecast.backtest import to_table
from gangplan.forecast.cleaning import cleaned
from gangplan.forecast.gate import Verdict, judge
from gangplan.forecast.panel import Panel, from_usage
from gangplan.forecast.registry import Change
from gangplan.progress import Progress, no_progress
from gangplan.tables import QUANTILE_TABLE
from gangplan.tracking import FORECAST, MODEL, Store
from gangplan.types import Beliefs, Forecast, Training, Usage

GATE = "gate"
"""Who promotes when no person did."""
_NO_TRAINING = f"{MODEL}: no training in the registry: train one with `gangplan train`"
_TAG_LIMIT = 4000


def retrain(
    usage: Usage, store: Store, *, settings: Settings, clock: Clock, progress: Progress = no_progress
) -> Training:
    """Back-test and fit the recipe, keep it all in a run, register a challenger, promote it if the gate passes.

    The version is registered last and with all its tags at once: a training killed before leaves none behind.

    Raises
    ------
    InputError
        When the telemetry has no usable hour, or fewer than 48 in all; nothing was written.
    """
    panel = cleaned(from_usage(usage))
    found = trial.run(panel, settings, progress)
    before = registry.alias(store, registry.CHAMPION)
    verdict = _judge(store, before, found)
    moment = clock()
    tags = _tags(found, verdict, first=before is None)
    kind = {"kind": "training", "sha256.usage": usage.sha256}
    with store.run(FORECAST, f"train-{moment:%Y%m%dT%H%M%S}", kind) as run_id:
        progress(11, 12, "log the run and the model")
        _log(store, run_id, usage, found, settings, tags)
        uri = registry.log_model(store, run_id, found.bundle)
    progress(11.5, 12, "register the version")
    version = registry.register(store, run_id, uri, tags)
    _promote_or_refuse(store, version, before, verdict, moment, tags["reason"])
    progress(12, 12, f"version {version}: {tags['reason']}")
    return _training(store, store.client.get_model_version(MODEL, version), found.table)


def predict(usage: Usage, store: Store, beliefs: Beliefs | None, *, settings: Settings) -> Forecast:
    """Forecast the hours after the telemetry's end with the champion, corrected by what feedback believes.

    Raises
    ------
    NotFoundError
        When there is no champion, or its model cannot be loaded.
    """
    champion = registry.champion(store)
    fitted = registry.load(store, str(champion.version)).steering
    panel = cleaned(from_usage(usage))
    alone, _ = fitted.quantiles(panel, settings.horizon_hours)
    made = lifts.foreseen(alone, panel, usage.announced, fitted.kinds)
    return Forecast(
        issued_at=panel.end,
        model=f"{MODEL}/{champion.version}",
        quantiles=to_table(panel, _corrected(made, panel, beliefs)),
        run_id=champion.run_id,
        corrected_by=None if beliefs is None else beliefs.run_id,
    )


def backtest_forecast(store: Store) -> Forecast:
    """Return the last rolling origin's out-of-sample forecast of the champion's training."""
    champion = registry.champion(store)
    table = store.read_table(str(champion.run_id), "backtest")
    last = table.filter(pl.col("origin") == pl.col("origin").max())
    issued_at = last["origin"].max()
    if not isinstance(issued_at, datetime):
        raise NotFoundError(f"run {champion.run_id}: its back-test is empty: train again with `gangplan train`")
    return Forecast(
        issued_at=issued_at,
        model=f"{MODEL}/{champion.version}",
        quantiles=last.select(list(QUANTILE_TABLE)),
        run_id=champion.run_id,
    )


def read_training(store: Store) -> Training:
    """Return the newest training that was registered, or say what makes one."""
    found = registry.versions(store)
    if not found:
        raise NotFoundError(_NO_TRAINING)
    return _training(store, found[0], store.read_table(str(found[0].run_id), "backtest"))


def _judge(store: Store, before: str | None, found: trial.Trial) -> Verdict:
    """Ask the gate, with the champion's figures where it can be compared."""
    against = None if before is None else trial.against(found, registry.load(store, before))
    mine, naive = found.quality, found.naive_quality
    return judge(wql=mine.wql, naive_wql=naive.wql, coverage_80=mine.coverage_80, against=against)


def _tags(found: trial.Trial, verdict: Verdict, *, first: bool) -> dict[str, str]:
    """What a version carries from its first moment on."""
    reason = verdict.reason
    if first:
        reason = f"first model, promoted by default: {'gate passed' if verdict.passed else 'the gate says'}: {reason}"
    return {
        "wql": repr(found.quality.wql),
        "naive_wql": repr(found.naive_quality.wql),
        "coverage_80": repr(found.quality.coverage_80),
        "gate": "passed" if verdict.passed else "refused",
        "reason": reason[:_TAG_LIMIT],
        "notes": json.dumps(_shortened(found.notes)),
    }


def _shortened(notes: tuple[str, ...]) -> list[str]:
    """As many notes as a tag holds; the run's notes.txt has all of them."""
    kept: list[str] = []
    for place, note in enumerate(notes):
        if sum(map(len, kept)) + len(note) > _TAG_LIMIT:
            return [*kept, f"and {len(notes) - place} more: see notes.txt of the run"]
        kept.append(note)
    return kept


def _promote_or_refuse(
    store: Store, version: str, before: str | None, verdict: Verdict, moment: datetime, reason: str
) -> None:
    """Make the version champion when the gate passed or there is none; else keep the refusal in the history."""
    promoted = verdict.passed or before is None
    change = Change(
        at=moment,
        by=GATE,
        action=registry.PROMOTED if promoted else registry.REFUSED,
        version=version,
        why=reason,
        champion_before=before,
    )
    if promoted:
        registry.crown(store, change)
    else:
        registry.record(store, change)


def _log(store: Store, run_id: str, usage: Usage, found: trial.Trial, settings: Settings, tags: dict[str, str]) -> None:
    """Put everything but the model into the run."""
    stamp = int(time.time() * 1000)
    metrics = [Metric(name, value, stamp, 0) for name, value in trial.figures(found).items()]
    metrics += [Metric("wql_by_day", value, stamp, hour) for hour, value in trial.by_day(found) if np.isfinite(value)]
    store.client.log_batch(run_id, metrics=metrics, params=_parameters(found, settings))
    tagged = [InputTag("mlflow.data.context", "training"), InputTag("sha256", usage.sha256)]
    store.client.log_inputs(run_id, [DatasetInput(_data_set(usage), tagged)])
    store.log_table(run_id, "backtest", found.table)
    store.log_table(run_id, "backtest_naive", found.naive)
    store.client.log_text(run_id, "\n".join((tags["reason"], *found.notes)) + "\n", "notes.txt")
    with tempfile.TemporaryDirectory() as folder:
        plots.draw(Path(folder), found.table, found.bundle.steering)
        store.client.log_artifacts(run_id, folder, "plots")


def _data_set(usage: Usage) -> Dataset:
    """Name the telemetry by its own sha256: MLflow's digest is of a sample, and blind to times."""
    source = {"source": usage.source, "run_id": usage.run_id}
    profile = {"rows": usage.demand.height, "start": usage.start.isoformat(), "end": usage.end.isoformat()}
    return Dataset(
        name="demand",
        digest=usage.sha256[:32],
        source_type="gangplan-telemetry",
        source=json.dumps(source),
        profile=json.dumps(profile),
    )


def _parameters(found: trial.Trial, settings: Settings) -> list[Param]:
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
        "rounds": model.ROUNDS,
        "gangplan": __version__,
        **{name: value for name, value in model.TREES.items() if name != "verbosity"},
    }
    return [Param(name, str(value)) for name, value in named.items()]


def _training(store: Store, version: MlflowVersion, table: pl.DataFrame) -> Training:
    """Read a training from its version's tags."""
    tags: dict[str, str] = dict(version.tags)
    return Training(
        run_id=str(version.run_id),
        version=str(version.version),
        wql=float(tags["wql"]),
        naive_wql=float(tags["naive_wql"]),
        coverage_80=float(tags["coverage_80"]),
        promoted="promoted_at" in tags,
        reason=tags["reason"],
        backtest=table,
        notes=tuple(json.loads(tags["notes"])),
    )


def _corrected(made: Floats, panel: Panel, beliefs: Beliefs | None) -> Floats:
    """Apply each series' level to all quantiles, and its width to their distance from the median."""
    if beliefs is None:
        return made
    factors = {tuple(row[:3]): row[3:5] for row in beliefs.corrections.iter_rows()}
    pairs = np.array([factors.get(key, (1.0, 1.0)) for key in panel.keys], dtype=np.float64)
    level, width = pairs[:, 0, None, None], pairs[:, 1, None, None]
    median = made[:, :, 1:2]
    return np.maximum(0.0, np.sort(level * (median + width * (made - median)), axis=2))
