"""Retrain, register, promote; forecast with the champion; read back what was trained."""

from __future__ import annotations

import json
import math
from datetime import datetime
from itertools import accumulate

import numpy as np
import polars as pl
from mlflow.entities.model_registry import ModelVersion as MlflowVersion

from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.errors import NotFoundError
from gangplan.forecast import evaluation, promotion, registry, watch
from gangplan.forecast.evaluation import GateResult, Trial, to_table
from gangplan.forecast.models import with_known_events
from gangplan.forecast.registry import Alias
from gangplan.forecast.series import MEDIAN, Floats, Panel, cleaned, from_usage, tidy
from gangplan.progress import Progress, no_progress
from gangplan.tables import QUANTILE_TABLE
from gangplan.tracking import MODEL, Store
from gangplan.types import Beliefs, Forecast, Training, Usage

_TAG_LIMIT = 4000

_TWIN = 0.001
"""A challenger whose forecast differs from the champion's by less, as a share of the demand, is its twin.

Raised, a person is asked about fewer versions, and the champion may grow old by so much before one is asked about.
"""


def retrain(
    usage: Usage,
    store: Store,
    *,
    settings: Settings,
    clock: Clock,
    progress: Progress = no_progress,
    because: str = "asked for",
    once: str = "",
) -> Training:
    """Back-test and fit the recipe, log it to a run, register a challenger, promote it if the gate passes.

    The version is registered with all its tags at once, so a training that is killed earlier leaves none behind. The
    next training of the same telemetry, settings and code resumes it, and ends with the same model. `once` names who
    asks: asked again in that name, a training that is done is returned.

    Raises
    ------
    InputError
        When the telemetry has no usable hour, or fewer than 48 in all; nothing was written.
    """
    if once and (done := registry.trained_once(store, once)):
        return read_training(store, done)
    panel = cleaned(from_usage(usage))
    # This refuses before anything is written.
    evaluation.choose_window(panel, settings.horizon_hours, settings.backtest_origins)
    registry.record_manual_changes(store, clock)
    at, key = clock(), registry.training_key(usage, settings)
    run_tags = {"kind": "training", "sha256.usage": usage.sha256, "because": because[:_TAG_LIMIT]}
    run_tags |= {registry.ONCE: once} if once else {}
    with registry.training_run(store, key, f"train-{at:%Y%m%dT%H%M%S}", run_tags) as run_id:
        trial = evaluation.run_trial(panel, settings, progress, registry.checkpoints(store, run_id))
        before = registry.alias(store, Alias.CHAMPION)
        progress(10, 12, "ask the gate")
        rival = None if before is None else registry.load(store, before)
        champion = None if rival is None else evaluation.backtest_champion(trial, rival)
        apart = math.inf if rival is None else evaluation.difference(trial, rival, settings.horizon_hours)
        with registry.active_run(store, run_id):
            gate = evaluation.judge(evaluation.evaluate(trial, champion, settings.horizon_hours))
        tags = _tags(trial, gate, settings, because, champion=before, apart=apart)
        progress(11, 12, "log the run and the model")
        registry.log_training(store, run_id, usage=usage, trial=trial, champion=champion, gate=gate, settings=settings)
        uri = registry.log_model(store, run_id, trial.bundle)
    progress(11.5, 12, "register the version")
    version = registry.register(store, run_id, uri, tags)
    progress(11.7, 12, "decide")
    promotion.decide_after_training(store, version, settings=settings, at=clock())
    progress(11.8, 12, "write the page for reviewers")
    promotion.log_page(store, version)
    registry.finish_training(store, run_id, version)
    training = _training(store.client.get_model_version(MODEL, version), trial.table)
    progress(12, 12, f"version {version}: {training.reason}")
    return training


def predict(usage: Usage, store: Store, beliefs: Beliefs | None, *, settings: Settings) -> Forecast:
    """Forecast the hours after the telemetry's end with the champion, corrected by feedback's beliefs.

    Series whose last known hour stands out have the six hours after it corrected (setting `nowcast`).
    """
    champion = registry.champion(store)
    fitted = registry.load(store, str(champion.version)).steering
    panel = cleaned(from_usage(usage))

    def ask(known: Panel) -> Floats:
        quantiles, _ = fitted.quantiles(known, settings.horizon_hours)
        return _corrected(with_known_events(quantiles, known, usage.announced, fitted.kinds), known, beliefs)

    quantiles, alarms = watch.forecast_past_alarms(panel, ask) if settings.nowcast else (ask(panel), ())
    return Forecast(
        issued_at=panel.end,
        model=f"{MODEL}/{champion.version}",
        quantiles=to_table(panel, quantiles),
        run_id=champion.run_id,
        corrected_by=None if beliefs is None else beliefs.run_id,
        stands_out=tuple(alarm.words for alarm in alarms),
        known_until=usage.known_until or usage.end,
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


def read_training(store: Store, version: str | None = None) -> Training:
    """Return the training of a version (default: the newest that was registered), or say what makes one."""
    versions = [found for found in registry.versions(store) if version in (None, str(found.version))]
    if not versions:
        what = "training" if version is None else f"version {version}"
        raise NotFoundError(f"{MODEL}: no {what} in the registry: train one with `gangplan train`")
    return _training(versions[0], store.read_table(str(versions[0].run_id), "backtest"))


def _tags(
    trial: Trial, gate: GateResult, settings: Settings, because: str, *, champion: str | None, apart: float
) -> dict[str, str]:
    """Return what a version carries from its first moment on; `apart` is how far it is from the champion."""
    return {
        "wql": repr(trial.quality.wql),
        "naive_wql": repr(trial.naive_quality.wql),
        "coverage_80": repr(trial.quality.coverage_80),
        "gate": "passed" if gate.passed else "refused",
        "reason": gate.reason[:_TAG_LIMIT],
        "notes": json.dumps(_shortened(trial.notes)),
        "because": because[:_TAG_LIMIT],
        "shadow_days": repr(0.0 if champion is None else settings.shadow_days),
        **({} if champion is None else {"compared_with": champion, promotion.APART: f"{apart:.4%}"}),
        **({promotion.TWIN: "yes"} if apart < _TWIN else {}),
    }


def _shortened(notes: tuple[str, ...]) -> list[str]:
    """Return as many notes as a tag holds; the run's notes.txt has all of them."""
    kept = [note for note, length in zip(notes, accumulate(map(len, notes)), strict=True) if length <= _TAG_LIMIT]
    left = len(notes) - len(kept)
    return [*kept, f"and {left} more: see notes.txt of the run"] if left else kept


def _training(version: MlflowVersion, table: pl.DataFrame) -> Training:
    tags: dict[str, str] = dict(version.tags)
    return Training(
        run_id=str(version.run_id),
        version=str(version.version),
        wql=float(tags["wql"]),
        naive_wql=float(tags["naive_wql"]),
        coverage_80=float(tags["coverage_80"]),
        promoted="promoted_at" in tags,
        reason=tags.get(promotion.DECIDED, tags["reason"]),
        backtest=table,
        notes=tuple(json.loads(tags["notes"])),
    )


def _corrected(quantiles: Floats, panel: Panel, beliefs: Beliefs | None) -> Floats:
    """Apply each series' level to all quantiles, and its width to their distance from the median."""
    if beliefs is None:
        return quantiles
    factors = {tuple(row[:3]): row[3:5] for row in beliefs.corrections.iter_rows()}
    pairs = np.array([factors.get(key, (1.0, 1.0)) for key in panel.keys], dtype=np.float64)
    level, width = pairs[:, 0, None, None], pairs[:, 1, None, None]
    median = quantiles[:, :, [MEDIAN]]
    return tidy(level * (median + width * (quantiles - median)))
