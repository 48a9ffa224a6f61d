"""Drift: whether the champion is still as good as its back-test promised, and if not, why.

Each of the last days is forecast, from what was known at its beginning, with the newest champion whose fit ended by
then. docs/outlook.md has the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from gangplan.config import Settings
from gangplan.forecast import evaluation, registry
from gangplan.forecast.evaluation import Quality, quality
from gangplan.forecast.models import DemandModel, History, build
from gangplan.forecast.series import DAY, Floats, Key, Panel, cleaned, from_usage
from gangplan.tables import pinball_loss
from gangplan.tracking import MODEL, Store
from gangplan.types import SERIES, Usage

DAYS = 14
LEAST_DAYS = 3
WORSE = 1.2
"""A loss up to so many times the promised one is no drift, however sure the difference is."""

LUCK = 0.02
"""A difference counts where luck alone gives it at most so often: one look in 50 at a sound model is a false alarm."""

_WINDOWS = 8
_CHANGED = 1.5  # times the largest distance between windows of the past
_MOST = 5
_CALENDAR = {"horizon", "hour_of_day", "day_of_week", "base"}  # the same whatever the demand


Line: TypeAlias = tuple[tuple[str, DemandModel], ...]
"""Champions with their versions, the oldest first."""


class DriftVerdict(StrEnum):
    """What to do."""

    FINE = "fine"
    RETRAIN = "retrain"
    INPUTS = "inputs changed"
    YOUNG = "too young to judge"


@dataclass(frozen=True, kw_only=True)
class SeriesHealth:
    """One series of late beside its promise: WQL in per cent, coverage from 0 to 1; `luck` from 0 to 1."""

    key: Key
    wql: float
    promised_wql: float
    coverage_80: float
    promised_coverage_80: float
    luck: float

    @property
    def worse(self) -> bool:
        """Whether it lost clearly more than promised."""
        return self.wql > WORSE * self.promised_wql and self.luck <= LUCK


@dataclass(frozen=True, kw_only=True)
class FeatureShift:
    """A feature of a series that lies where it never lay; `distance` in units of the largest distance of the past."""

    key: Key
    feature: str
    distance: float


@dataclass(frozen=True, kw_only=True)
class Health:
    """The verdict with its reason in words, over how many days, by series and by feature.

    version : the champion. promised_by : the version whose back-test is the promise.
    """

    verdict: DriftVerdict
    reason: str
    days: int
    version: str
    promised_by: str
    series: tuple[SeriesHealth, ...]
    changed: tuple[FeatureShift, ...]


def watch_drift(usage: Usage, store: Store, *, settings: Settings, days: int = DAYS) -> Health:
    """Judge the champions of the last days by them, at most the last `days` and those since the first was fitted."""
    version = str(registry.champion(store).version)
    panel = cleaned(from_usage(usage))
    line = _line(store, version, panel.end - timedelta(days=days))
    first = store.client.get_model_version(MODEL, line[0][0])
    promised = store.read_table(str(first.run_id), "backtest")
    return judge(panel, line, promised, version=version, days=days, seed=settings.seed)


def judge(panel: Panel, line: Line, promised: pl.DataFrame, *, version: str, days: int = DAYS, seed: int = 7) -> Health:
    """Hold the days of a line of champions against the first one's back-test, first day ahead (`tables.BACKTEST`)."""
    changed = tuple(_new_and_gone(panel, promised))
    origins = _origins(panel, line[0][1], days)
    health = partial(Health, days=len(origins), version=version, promised_by=line[0][0])
    if len(origins) < LEAST_DAYS:
        reason = f"{len(origins)} whole days since the first champion was fitted, {LEAST_DAYS} are needed"
        return health(verdict=DriftVerdict.YOUNG, reason=reason, series=(), changed=changed)
    table = _forecast_days(panel, line, origins)
    before = promised.filter(evaluation.steps_ahead(promised) <= DAY)
    series = tuple(_compare(table, before, panel.keys, seed))
    changed += tuple(_moved(panel, line[-1][1], origins))
    verdict, reason = _verdict(series, changed)
    return health(verdict=verdict, reason=reason, series=series, changed=changed)


def _line(store: Store, champion: str, since: datetime) -> Line:
    """Load the champions, the oldest first, back to the one that was fitted by `since`."""
    versions = registry.champion_line(registry.history(store))
    line: list[tuple[str, DemandModel]] = []
    for version in reversed([*(version for version in versions if version != champion), champion]):
        fitted = registry.load(store, version).steering
        line.append((version, fitted))
        if not fitted.fitted_until or datetime.fromisoformat(fitted.fitted_until) <= since:
            break
    return tuple(reversed(line))


def _forecast_days(panel: Panel, line: Line, origins: tuple[int, ...]) -> pl.DataFrame:
    """Forecast each day with the newest champion whose fit ended by its beginning (schema `tables.BACKTEST`)."""
    parts: list[pl.DataFrame] = []
    for place, (_, fitted) in enumerate(line):
        until = min((_fitted_hours(panel, later) for _, later in line[place + 1 :]), default=panel.hours)
        mine = tuple(origin for origin in origins if _fitted_hours(panel, fitted) <= origin < until)
        if mine:
            parts.append(evaluation.run_backtest(fitted, panel, evaluation.Window(origins=mine, horizon=DAY)))
    return pl.concat(parts).sort("origin", maintain_order=True)


def _fitted_hours(panel: Panel, fitted: DemandModel) -> int:
    """Return how many of the panel's hours were known when a model was fitted; 0 where nothing was learned."""
    if not fitted.fitted_until:
        return 0
    return int((datetime.fromisoformat(fitted.fitted_until) - panel.start).total_seconds() // 3600)


def _verdict(series: tuple[SeriesHealth, ...], changed: tuple[FeatureShift, ...]) -> tuple[DriftVerdict, str]:
    """Decide: the loss decides whether to act; the features that changed, on what."""
    worse = sorted((each for each in series if each.worse), key=lambda each: -each.wql / each.promised_wql)
    if not worse:
        return DriftVerdict.FINE, "no series lost clearly more than its back-test promised"
    named = ", ".join(
        f"{' / '.join(each.key)} (WQL {each.wql:.1f}, promised {each.promised_wql:.1f})" for each in worse[:3]
    )
    causes = [shift for shift in changed if shift.key in {each.key for each in worse}]
    if not causes:
        reason = f"{named}: the inputs look as ever, what follows from them differs: `gangplan train`"
        return DriftVerdict.RETRAIN, reason
    cause = max(causes, key=lambda shift: shift.distance)
    words = f"{cause.feature} of {' / '.join(cause.key)} lies {cause.distance:.1f} times as far off as ever before"
    return DriftVerdict.INPUTS, f"{named}: {words}: look at its telemetry, then `gangplan train`"


def _origins(panel: Panel, fitted: DemandModel, days: int) -> tuple[int, ...]:
    """Return the days' beginnings, in hours known, since the fit; none where nothing was fitted."""
    if not fitted.fitted_until:
        return ()
    last = panel.hours - DAY
    count = min(days, max(0, (last - _fitted_hours(panel, fitted)) // DAY + 1))
    return tuple(last - DAY * back for back in reversed(range(count)))


def _compare(table: pl.DataFrame, promised: pl.DataFrame, keys: tuple[Key, ...], seed: int) -> Iterator[SeriesHealth]:
    """Compare each series' days with the promised ones; series of the back-test alone are left out."""
    for key in keys:
        mine = [pl.col(name) == value for name, value in zip(SERIES, key, strict=True)]
        now, then = table.filter(*mine), promised.filter(*mine)
        late, early = _daily(now), _daily(then)
        if late.size < LEAST_DAYS or early.size < 2:
            continue
        measured, promise = quality(now), quality(then)
        yield SeriesHealth(
            key=key,
            wql=measured.wql,
            promised_wql=promise.wql,
            coverage_80=measured.coverage_80,
            promised_coverage_80=promise.coverage_80,
            luck=_luck(late, early, measured, promise, seed),
        )


def _daily(rows: pl.DataFrame) -> Floats:
    """Return the mean loss of each day over the mean demand of them all."""
    known = rows.drop_nulls("gpus")
    demand = pl.max_horizontal(pl.col("gpus").mean(), pl.lit(1e-9))
    losses = known.with_columns((pinball_loss() / demand).alias("loss"))
    return losses.group_by("origin", maintain_order=True).agg(pl.col("loss").mean())["loss"].to_numpy()


def _stats() -> Any:
    """Return SciPy's statistics, which have no types and are slow to import."""
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

    return stats


def _luck(late: Floats, early: Floats, measured: Quality, promise: Quality, seed: int) -> float:
    """Return how often days drawn from both alike differ as much: one-sided, 2,000 permutations."""
    if not np.isfinite(measured.wql) or not np.isfinite(promise.wql):
        return 1.0
    test = _stats().permutation_test(
        (late, early),
        _mean_difference,
        alternative="greater",
        n_resamples=2000,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _mean_difference(late: Floats, early: Floats, axis: int) -> Floats:
    return late.mean(axis=axis) - early.mean(axis=axis)


def _new_and_gone(panel: Panel, promised: pl.DataFrame) -> Iterator[FeatureShift]:
    """Name series that the back-test did not have, and those that it had and that are no more."""
    before = {(tenant, workload, kind) for tenant, workload, kind in promised.select(SERIES).unique().iter_rows()}
    for feature, keys in (("new series", set(panel.keys) - before), ("series gone", before - set(panel.keys))):
        yield from (FeatureShift(key=key, feature=feature, distance=float("inf")) for key in sorted(keys))


def _moved(panel: Panel, fitted: DemandModel, origins: tuple[int, ...]) -> Iterator[FeatureShift]:
    """Name the features that lie farther from the past than any window of the past from the rest of it."""
    first, hours = origins[0], DAY * len(origins)
    scaled = replace(panel, values=panel.values / panel.until(first).levels[:, None])
    history = History(panel=scaled, kinds=fitted.kinds, reach=DAY)
    starts = [first - hours * back for back in range(1, _WINDOWS + 1) if first - hours * back > 2 * DAY]
    if len(starts) < 3:
        return
    shifts: list[FeatureShift] = []
    for row, key in enumerate(panel.keys):
        late = _features(history, row, range(first, panel.hours - 1))
        windows = [_features(history, row, range(start, start + hours)) for start in starts]
        for name in (name for name in late if name not in _CALENDAR):
            distance = _distance(late[name], [window[name] for window in windows])
            if distance > _CHANGED:
                shifts.append(FeatureShift(key=key, feature=name, distance=distance))
    yield from sorted(shifts, key=lambda shift: -shift.distance)[: _MOST * len(panel.keys)]


def _features(history: History, row: int, origins: range) -> dict[str, Floats]:
    """Return the features of each origin's next hour, for a base of 0, by name; and which origins were missing."""
    origin, step = np.array(origins, dtype=np.int64), np.ones(len(origins), dtype=np.int64)
    names, features = build(history, np.full_like(origin, row), origin, step, np.zeros(origin.size))
    missing = np.isnan(history.values[row, origin]).astype(np.float64)
    return dict(zip(names, features.T.astype(np.float64), strict=True)) | {"missing hours": missing}


def _distance(late: Floats, windows: list[Floats]) -> float:
    """Return how far late values lie from all others, over how far any window lay from the others (Wasserstein)."""
    usual = max(_apart(window, windows[:place] + windows[place + 1 :]) for place, window in enumerate(windows))
    now = _apart(late, windows)
    return now / usual if usual > 1e-9 else (float("inf") if now > 1e-3 else 0.0)


def _apart(values: Floats, others: list[Floats]) -> float:
    """Return the Wasserstein distance of values from others, the unknown left out; 0 where nothing is known."""
    mine, rest = (known[~np.isnan(known)] for known in (values, np.concatenate(others)))
    return float(_stats().wasserstein_distance(mine, rest)) if mine.size and rest.size else 0.0
