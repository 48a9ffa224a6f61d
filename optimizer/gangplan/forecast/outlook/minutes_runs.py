"""Trainings of the minutes' model as MLflow runs, and forecasts with the trees that they keep.

Each training is a run of the kind `minutes` in the experiment of forecasts: data set with our sha256, parameters, the
back-test of the newest day beside the last value, the trees as a table with its sha256. A forecast within a day of a
training of the same source of telemetry, measure, step, seed and code uses those trees.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl
from mlflow.entities import Metric, Param, Run

from gangplan.clock import parse_utc
from gangplan.config import Settings
from gangplan.forecast import models
from gangplan.forecast.evaluation import quality
from gangplan.forecast.models import TREES, Trees
from gangplan.forecast.outlook import minutes
from gangplan.forecast.outlook.minutes import BASES, MinuteModel, MinutePanel
from gangplan.forecast.registry import code_sha256, data_set
from gangplan.forecast.series import Floats
from gangplan.tables import QUANTILE_TABLE, UTC_TIME, Schema, conform, empty
from gangplan.tracking import FORECAST, Store, table_sha256
from gangplan.types import QUANTILES, Usage

KIND = "minutes"
FRESH = timedelta(days=1)
_LEAST_PAST = 2  # days: with less before the newest one, the back-test would be of nothing that was learned
_TESTED: Schema = {"who": pl.String(), "origin": UTC_TIME, **QUANTILE_TABLE, "gpus": pl.Float64()}
_TREES = {"base": pl.String(), "level": pl.Float64(), "trees": pl.String()}


@dataclass(frozen=True, kw_only=True)
class MinuteForecast:
    """A forecast, the run of the training whose trees made it, and whether that training was made for it.

    table : `time`, the series, a column for each level (see `minutes.to_table`).
    """

    table: pl.DataFrame
    run_id: str
    learned: bool


@dataclass(frozen=True, kw_only=True)
class MinuteRequest:
    """What is forecast: `of` names the measure; steps of that length, so many ahead."""

    of: str
    step: timedelta
    ahead: int


def forecast_minutes(
    table: pl.DataFrame, request: MinuteRequest, usage: Usage, store: Store, *, settings: Settings
) -> MinuteForecast:
    """Forecast the steps after the telemetry's end, with the newest training if it is fresh, else with a new one.

    `table` is that telemetry's demand at steps of minutes (see `minutes.from_table`).

    Raises
    ------
    InputError
        When there are fewer than six hours of it; nothing was written.
    """
    panel = minutes.from_table(table, request.step, usage.end)
    key = _key(request, usage, settings)
    run = _fresh(store, key, panel.end)
    run_id = _train(panel, table, request, usage, store, settings, key) if run is None else str(run.info.run_id)
    quantiles = read_model(store, run_id).quantiles(panel, request.ahead)
    return MinuteForecast(table=minutes.to_table(panel, quantiles), run_id=run_id, learned=run is None)


def read_model(store: Store, run_id: str) -> MinuteModel:
    """Read the trees of a training, checked against their sha256."""
    texts = store.read_table(run_id, "trees")["trees"].to_list()
    width = len(QUANTILES)
    groups = (texts[first : first + width] for first in range(0, len(texts), width))
    return MinuteModel(trees=tuple(tuple(map(Trees, group)) for group in groups))


def _key(request: MinuteRequest, usage: Usage, settings: Settings) -> str:
    """Return what two trainings share if one's trees may be used for the other's forecast."""
    parts = (usage.source, request.of, request.step, request.ahead, settings.seed, code_sha256())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _fresh(store: Store, key: str, end: datetime) -> Run | None:
    """Return the newest training of that key, if it ends within a day before `end`."""
    runs = store.runs(FORECAST, {"kind": KIND, "key": key})
    fresh = runs and timedelta() <= end - parse_utc("fitted_until", runs[0].data.tags["fitted_until"]) < FRESH
    return runs[0] if fresh else None


def _train(
    panel: MinutePanel,
    table: pl.DataFrame,
    request: MinuteRequest,
    usage: Usage,
    store: Store,
    settings: Settings,
    key: str,
) -> str:
    """Learn from all of it, and test the same on the newest day; return the run that keeps it."""
    tested = _backtest(panel, request.ahead, settings.seed)
    model = minutes.fit(panel, request.ahead, seed=settings.seed)
    tags = {"kind": KIND, "key": key, "fitted_until": panel.end.isoformat(), "sha256.usage": usage.sha256}
    with store.run(FORECAST, f"minutes-{panel.end:%Y%m%dT%H%M%S}", tags) as run_id:
        store.client.log_inputs(run_id, [data_set(usage, f"{request.of} by the minute", table, table_sha256(table))])
        store.client.log_batch(run_id, params=_parameters(panel, request, settings))
        store.log_metrics(run_id, _metrics(tested, store.client.get_run(run_id).info.start_time))
        store.log_table(run_id, "backtest", tested)
        rows = [
            (base, level, tree.text)
            for base, trees in zip(BASES, model.trees, strict=False)  # none where there was too little to learn
            for level, tree in zip(QUANTILES, trees, strict=True)
        ]
        store.log_table(run_id, "trees", pl.DataFrame(rows, schema=_TREES, orient="row"))
    return run_id


def _backtest(panel: MinutePanel, ahead: int, seed: int) -> pl.DataFrame:
    """Forecast the newest day from each of its hours, with what was known before that day; what came is `gpus`.

    One table of ours and of the last value (`who`); empty where there are not two days before.
    """
    first = panel.steps - panel.day
    origins = range(first, panel.steps - ahead + 1, panel.hour) if first >= _LEAST_PAST * panel.day else ()
    fitted = minutes.fit(panel.until(first), ahead, seed=seed) if origins else MinuteModel(trees=())
    parts = [empty(_TESTED)]
    for origin in origins:
        known, came = panel.until(origin), panel.values[:, origin : origin + ahead]
        forecasts = {
            "gangplan": fitted.quantiles(known, ahead),
            "last value": models.last_value_quantiles(known, ahead),
        }
        parts += [_compared(known, who, quantiles, came) for who, quantiles in forecasts.items()]
    return pl.concat(parts)


def _compared(known: MinutePanel, who: str, quantiles: Floats, came: Floats) -> pl.DataFrame:
    """Lay one origin's forecast out beside what came."""
    gpus = pl.Series("gpus", came.ravel()).fill_nan(None)
    table = minutes.to_table(known, quantiles).with_columns(gpus, pl.lit(who).alias("who"), origin=pl.lit(known.end))
    return conform("backtest", table.rename({"time": "hour"}), _TESTED)


def _metrics(tested: pl.DataFrame, stamp: int) -> list[Metric]:
    """The back-test's figures; none where nothing could be tested."""
    ours, last = (quality(tested.filter(pl.col("who") == who)) for who in ("gangplan", "last value"))
    if not ours.rows:
        return []
    named = {"wql": ours.wql, "last_value_wql": last.wql, "coverage_80": ours.coverage_80, "below_95": ours.below_95}
    return [Metric(name, value, stamp, 0) for name, value in named.items()]


def _parameters(panel: MinutePanel, request: MinuteRequest, settings: Settings) -> list[Param]:
    named = {
        "of": request.of,
        "step_minutes": request.step / timedelta(minutes=1),
        "steps_ahead": request.ahead,
        "series": len(panel.keys),
        "steps": panel.steps,
        "seed": settings.seed,
        "rounds": models.ROUNDS,
        "bases": ",".join(BASES),
        **{name: value for name, value in TREES.items() if name != "verbosity"},
    }
    return [Param(name, str(value)) for name, value in named.items()]
