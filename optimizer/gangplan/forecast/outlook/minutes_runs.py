"""Trainings of the minutes' model as MLflow runs: what was learned from, how it was tested, its trees; asked again.

Each training is a run of the experiment of forecasts, of the kind `minutes`: data set with our sha256, parameters, the
back-test of the newest day beside the last value, the trees as a table with its sha256. A forecast within a day of it,
of the same telemetry's source, measure, step, seed and code, asks those trees again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from mlflow.entities import Metric, Param, Run

from gangplan.clock import parse_utc
from gangplan.config import Settings
from gangplan.forecast import models
from gangplan.forecast.evaluation import quality
from gangplan.forecast.models import TREES, Trees
from gangplan.forecast.outlook import minutes
from gangplan.forecast.outlook.minutes import BASES, Fine, MinuteModel
from gangplan.forecast.registry import code_sha256, data_set
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.tracking import FORECAST, Store, table_sha256
from gangplan.types import QUANTILES, SERIES, Usage

KIND = "minutes"
FRESH = timedelta(days=1)
_LEAST_PAST = 2  # days: with less before the newest one, the back-test would be of nothing that was learned
_TREES = {"base": pl.String(), "level": pl.Float64(), "trees": pl.String()}


@dataclass(frozen=True, kw_only=True)
class MinuteForecast:
    """A forecast, the training's run whose trees made it, and whether that was learned just now.

    table : `time`, the series, a column for each level (see `minutes.to_table`).
    """

    table: pl.DataFrame
    run_id: str
    learned: bool


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is forecast: `of` names the measure; steps of that length, so many ahead."""

    of: str
    step: timedelta
    ahead: int


def foresee_minutes(
    table: pl.DataFrame, asked: Asked, usage: Usage, store: Store, *, settings: Settings
) -> MinuteForecast:
    """Forecast the steps after the telemetry's end, with the newest training if it is fresh, else with a new one.

    Parameters
    ----------
    table
        Demand at steps of minutes, of that telemetry (see `minutes.from_table`).

    Raises
    ------
    InputError
        When there are fewer than six hours of it; nothing was written.
    """
    fine = minutes.from_table(table, asked.step, usage.end)
    key = _key(asked, usage, settings)
    run = _fresh(store, key, fine.end)
    run_id = _train(fine, table, asked, usage, store, settings, key) if run is None else str(run.info.run_id)
    made = read_model(store, run_id).quantiles(fine, asked.ahead)
    return MinuteForecast(table=minutes.to_table(fine, made), run_id=run_id, learned=run is None)


def read_model(store: Store, run_id: str) -> MinuteModel:
    """Read the trees of a training, checked against their sha256."""
    texts = store.read_table(run_id, "trees")["trees"].to_list()
    width = len(QUANTILES)
    groups = (texts[first : first + width] for first in range(0, len(texts), width))
    return MinuteModel(trees=tuple(tuple(map(Trees, group)) for group in groups))


def _key(asked: Asked, usage: Usage, settings: Settings) -> str:
    """Return what two trainings share that may stand for each other."""
    parts = (usage.source, asked.of, asked.step, asked.ahead, settings.seed, code_sha256())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _fresh(store: Store, key: str, end: datetime) -> Run | None:
    """Return the newest training of that key, if it ends within a day before `end`."""
    found = store.runs(FORECAST, {"kind": KIND, "key": key})
    young = found and timedelta() <= end - parse_utc("fitted_until", found[0].data.tags["fitted_until"]) < FRESH
    return found[0] if young else None


def _train(
    fine: Fine, table: pl.DataFrame, asked: Asked, usage: Usage, store: Store, settings: Settings, key: str
) -> str:
    """Learn from all of it, and test the same on the newest day; return the run that keeps it."""
    tested, model = _backtest(fine, asked.ahead, settings.seed), minutes.fit(fine, asked.ahead, seed=settings.seed)
    tags = {"kind": KIND, "key": key, "fitted_until": fine.end.isoformat(), "sha256.usage": usage.sha256}
    with store.run(FORECAST, f"minutes-{fine.end:%Y%m%dT%H%M%S}", tags) as run_id:
        store.client.log_inputs(run_id, [data_set(usage, f"{asked.of} by the minute", table, table_sha256(table))])
        store.client.log_batch(run_id, params=_parameters(fine, asked, settings))
        store.log_metrics(run_id, _metrics(tested, store.client.get_run(run_id).info.start_time))
        store.log_table(run_id, "backtest", tested)
        rows = [
            (base, level, one.text)
            for base, trees in zip(BASES, model.trees, strict=False)  # none where there was too little to learn
            for level, one in zip(QUANTILES, trees, strict=True)
        ]
        store.log_table(run_id, "trees", pl.DataFrame(rows, schema=_TREES, orient="row"))
    return run_id


def _backtest(fine: Fine, ahead: int, seed: int) -> pl.DataFrame:
    """Forecast the newest day from each of its hours, with what was known before that day; what came is `gpus`.

    One table of ours and of the last value (`who`); empty where there are not two days before.
    """
    first = fine.steps - fine.day
    origins = range(first, fine.steps - ahead + 1, fine.hour) if first >= _LEAST_PAST * fine.day else ()
    fitted = minutes.fit(fine.until(first), ahead, seed=seed) if origins else MinuteModel(trees=())
    columns = [pl.Series(name, [], dtype=pl.Float64()) for name in (*QUANTILE_COLUMNS, "gpus")]
    parts = [pl.DataFrame(columns).select(pl.lit("").alias("who"), pl.lit(fine.end).alias("origin"), pl.all()).clear()]
    for origin in origins:
        known, came = fine.until(origin), fine.values[:, origin : origin + ahead]
        for who, made in (
            ("gangplan", fitted.quantiles(known, ahead)),
            ("last value", models.last_value_quantiles(known.panel, ahead)),
        ):
            parts.append(_laid_out(known, who, made, came))
    return pl.concat(parts, how="diagonal")


def _laid_out(known: Fine, who: str, made: np.ndarray, came: np.ndarray) -> pl.DataFrame:
    """Lay one origin's forecast out beside what came."""
    gpus = pl.Series("gpus", came.ravel()).fill_nan(None)
    table = minutes.to_table(known, made).with_columns(gpus, pl.lit(who).alias("who"), origin=pl.lit(known.end))
    return table.select("who", "origin", *QUANTILE_COLUMNS, "gpus", "time", *SERIES)


def _metrics(tested: pl.DataFrame, stamp: int) -> list[Metric]:
    """The back-test's figures; none where nothing could be tested."""
    ours, last = (quality(tested.filter(pl.col("who") == who)) for who in ("gangplan", "last value"))
    if not ours.rows:
        return []
    named = {"wql": ours.wql, "last_value_wql": last.wql, "coverage_80": ours.coverage_80, "below_95": ours.below_95}
    return [Metric(name, value, stamp, 0) for name, value in named.items()]


def _parameters(fine: Fine, asked: Asked, settings: Settings) -> list[Param]:
    """What the training was made with."""
    named = {
        "of": asked.of,
        "step_minutes": asked.step / timedelta(minutes=1),
        "steps_ahead": asked.ahead,
        "series": len(fine.keys),
        "steps": fine.steps,
        "seed": settings.seed,
        "rounds": minutes.ROUNDS,
        "bases": ",".join(BASES),
        **{name: value for name, value in TREES.items() if name != "verbosity"},
    }
    return [Param(name, str(value)) for name, value in named.items()]
