# pyright: reportUnknownMemberType=false
"""Retrain, register, promote; forecast with the champion; read back what was trained."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import polars as pl
from mlflow.entities.model_registry import ModelVersion as MlflowVersion

from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.errors import NotFoundError
from gangplan.forecast import evaluation, models, promotion, registry, watch
from gangplan.forecast.evaluation import Evidence, Verdict, choose_window, evaluate, judge, to_table
from gangplan.forecast.models import bundle_size
from gangplan.forecast.registry import sync
from gangplan.forecast.series import Floats, Panel, cleaned, from_usage
from gangplan.progress import Progress, no_progress
from gangplan.tables import QUANTILE_TABLE
from gangplan.tracking import MODEL, Store
from gangplan.types import Beliefs, Forecast, Training, Usage

_NO_TRAINING = f"{MODEL}: no training in the registry: train one with `gangplan train`"
_TAG_LIMIT = 4000


def retrain(
    usage: Usage,
    store: Store,
    *,
    settings: Settings,
    clock: Clock,
    progress: Progress = no_progress,
    because: str = "asked for",
) -> Training:
    """Back-test and fit the recipe, keep it all in a run, register a challenger, promote it if the gate passes.

    The version is registered with all its tags at once: a training killed before leaves none behind. One killed at any
    moment is taken up by the next of the same telemetry, settings and code, and comes to the same model.

    Raises
    ------
    InputError
        When the telemetry has no usable hour, or fewer than 48 in all; nothing was written.
    """
    panel = cleaned(from_usage(usage))
    choose_window(panel, settings.horizon_hours, settings.backtest_origins)  # refuses before anything is written
    sync(store, clock)
    moment, key = clock(), registry.key_of(usage, settings)
    kind = {"kind": "training", "sha256.usage": usage.sha256, "because": because[:_TAG_LIMIT]}
    with registry.training_run(store, key, f"train-{moment:%Y%m%dT%H%M%S}", kind) as run_id:
        found = evaluation.run_trial(panel, settings, progress, registry.keeper(store, run_id))
        before = registry.alias(store, registry.CHAMPION)
        progress(10, 12, "ask the gate")
        champion = None if before is None else evaluation.of_champion(found, registry.load(store, before))
        verdict = _judge(store, run_id, found, champion, settings)
        tags = _tags(found, verdict, settings, because, champion=before)
        progress(11, 12, "log the run and the model")
        registry.log(store, run_id, usage=usage, found=found, champion=champion, verdict=verdict, settings=settings)
        uri = registry.log_model(store, run_id, found.bundle)
    progress(11.5, 12, "register the version")
    version = registry.register(store, run_id, uri, tags)
    progress(11.7, 12, "decide")
    promotion.after_training(store, version, verdict, settings=settings, moment=moment)
    progress(11.8, 12, "write the page for reviewers")
    promotion.keep(store, version)
    registry.close(store, run_id, version)
    made = _training(store, store.client.get_model_version(MODEL, version), found.table)
    progress(12, 12, f"version {version}: {made.reason}")
    return made


def predict(usage: Usage, store: Store, beliefs: Beliefs | None, *, settings: Settings) -> Forecast:
    """Forecast the hours after the telemetry's end with the champion, corrected by what feedback believes.

    Series whose newest hour stands out have their next six hours corrected by the nowcast (setting `nowcast`).

    Raises
    ------
    NotFoundError
        When there is no champion, or its model cannot be loaded.
    """
    champion = registry.champion(store)
    fitted = registry.load(store, str(champion.version)).steering
    panel = cleaned(from_usage(usage))

    def ask(seen: Panel) -> Floats:
        alone, _ = fitted.quantiles(seen, settings.horizon_hours)
        return _corrected(models.foreseen(alone, seen, usage.announced, fitted.kinds), seen, beliefs)

    made, alarms = watch.foresee(panel, ask) if settings.nowcast else (ask(panel), ())
    return Forecast(
        issued_at=panel.end,
        model=f"{MODEL}/{champion.version}",
        quantiles=to_table(panel, made),
        run_id=champion.run_id,
        corrected_by=None if beliefs is None else beliefs.run_id,
        stands_out=tuple(alarm.words for alarm in alarms),
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


def _judge(
    store: Store, run_id: str, found: evaluation.Trial, champion: pl.DataFrame | None, settings: Settings
) -> Verdict:
    """Lay the evidence before the gate, inside the run."""
    evidence = Evidence(
        table=found.table,
        naive=found.naive,
        champion=champion,
        leak_gpus=evaluation.leak(found),
        seen_hours=evaluation.seen_hours(found),
        size_mib=bundle_size(found.bundle) / 2**20,
        seconds=evaluation.seconds(found, settings.horizon_hours),
    )
    with registry.inside(store, run_id):
        return judge(evaluate(evidence))


def _tags(
    found: evaluation.Trial, verdict: Verdict, settings: Settings, because: str, *, champion: str | None
) -> dict[str, str]:
    """What a version carries from its first moment on."""
    reason = verdict.reason
    if champion is None:
        reason = f"first model, promoted by default: {'gate passed' if verdict.passed else 'the gate says'}: {reason}"
    return {
        "wql": repr(found.quality.wql),
        "naive_wql": repr(found.naive_quality.wql),
        "coverage_80": repr(found.quality.coverage_80),
        "gate": "passed" if verdict.passed else "refused",
        "reason": reason[:_TAG_LIMIT],
        "notes": json.dumps(_shortened(found.notes)),
        "because": because[:_TAG_LIMIT],
        "shadow_days": repr(0.0 if champion is None else settings.shadow_days),
        **({} if champion is None else {"compared_with": champion}),
    }


def _shortened(notes: tuple[str, ...]) -> list[str]:
    """As many notes as a tag holds; the run's notes.txt has all of them."""
    kept: list[str] = []
    for place, note in enumerate(notes):
        if sum(map(len, kept)) + len(note) > _TAG_LIMIT:
            return [*kept, f"and {len(notes) - place} more: see notes.txt of the run"]
        kept.append(note)
    return kept


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
