# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# (scipy comes without stubs)
"""Is the champion still what was promised? Loss and coverage of late beside a back-test, and why they differ.

Each of the last days is forecast, from what was known at its beginning, with the champion that there was for it: the
newest of the line of champions whose fit ended by then. So a model that is trained anew each night is watched as well
as one that is kept for weeks. What was promised is the back-test of the champion that forecast the first of these days.
Days are compared with the back-test's days by permutation, so that one bad day is no drift. Features are compared as
the trees see them: the last days against windows of the same length from the past, so that a usual change is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TypeAlias

import numpy as np
import polars as pl
from scipy.stats import permutation_test, wasserstein_distance

from gangplan.config import Settings
from gangplan.forecast import evaluation, registry
from gangplan.forecast.evaluation import Quality, pinball, quality
from gangplan.forecast.models import DemandModel, History, build, feature_names, levels
from gangplan.forecast.series import Floats, Ints, Key, Panel, cleaned, from_usage
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.tracking import MODEL, Store
from gangplan.types import SERIES, Usage

DAY = 24
DAYS = 14
LEAST_DAYS = 3
WORSE = 1.2
"""How much more than promised may be lost before it counts, however sure it is."""

LUCK = 0.02
"""How seldom luck alone may give such a difference for it to count: of 50 looks at a sound model one cries wolf."""

_WINDOWS = 8
_CHANGED = 1.5  # times the largest distance between windows of the past
_MOST = 5
_CALENDAR = ("horizon", "hour_of_day", "day_of_week", "base")  # the same whatever the demand


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
class Changed:
    """A feature of a series that lies where it never lay; `distance` in units of the largest distance of the past."""

    key: Key
    feature: str
    distance: float


@dataclass(frozen=True, kw_only=True)
class Health:
    """The verdict with its reason in words, over how many days, by series and by feature.

    version : the champion. promised_by : the version whose back-test is held against the days.
    """

    verdict: DriftVerdict
    reason: str
    days: int
    version: str
    promised_by: str
    series: tuple[SeriesHealth, ...]
    changed: tuple[Changed, ...]


def watch_drift(usage: Usage, store: Store, *, settings: Settings, days: int = DAYS) -> Health:
    """Judge the champions of the last days by them, at most the last `days` and those since the first was fitted.

    Raises
    ------
    NotFoundError
        When there is no champion.
    """
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
    told = partial(Health, days=len(origins), version=version, promised_by=line[0][0])
    if len(origins) < LEAST_DAYS:
        word = f"{len(origins)} whole days since the first champion was fitted, {LEAST_DAYS} are needed"
        return told(verdict=DriftVerdict.YOUNG, reason=word, series=(), changed=changed)
    table = _forecast_days(panel, line, origins)
    before = promised.filter(evaluation.steps(promised) <= DAY)
    series = tuple(_compare(table, before, panel.keys, seed))
    changed += tuple(_moved(panel, line[-1][1], origins))
    verdict, reason = _verdict(series, changed)
    return told(verdict=verdict, reason=reason, series=series, changed=changed)


def _line(store: Store, champion: str, since: datetime) -> Line:
    """Load the champions, the oldest first, back to the one that was fitted by `since`."""
    versions = registry.reign(registry.history(store))
    found: list[tuple[str, DemandModel]] = []
    for version in reversed([*(one for one in versions if one != champion), champion]):
        fitted = registry.load(store, version).steering
        found.append((version, fitted))
        if not fitted.fitted_until or datetime.fromisoformat(fitted.fitted_until) <= since:
            break
    return tuple(reversed(found))


def _forecast_days(panel: Panel, line: Line, origins: tuple[int, ...]) -> pl.DataFrame:
    """Forecast each day with the newest champion whose fit ended by its beginning (schema `tables.BACKTEST`)."""
    parts: list[pl.DataFrame] = []
    for place, (_, fitted) in enumerate(line):
        later = [_hour(panel, one) for _, one in line[place + 1 :]]
        mine = tuple(one for one in origins if _hour(panel, fitted) <= one < min(later, default=panel.hours))
        if mine:
            parts.append(evaluation.run_backtest(fitted, panel, evaluation.Window(origins=mine, horizon=DAY)))
    return pl.concat(parts).sort("origin", maintain_order=True)


def _hour(panel: Panel, fitted: DemandModel) -> int:
    """How many hours were known when a model was fitted; none where nothing was learned."""
    if not fitted.fitted_until:
        return 0
    return int((datetime.fromisoformat(fitted.fitted_until) - panel.start).total_seconds() // 3600)


def _verdict(series: tuple[SeriesHealth, ...], changed: tuple[Changed, ...]) -> tuple[DriftVerdict, str]:
    """Decide: what is lost decides whether to act; what changed says on what."""
    worse = sorted((one for one in series if one.worse), key=lambda one: -one.wql / one.promised_wql)
    if not worse:
        return DriftVerdict.FINE, "no series lost clearly more than its back-test promised"
    named = ", ".join(
        f"{' / '.join(one.key)} (WQL {one.wql:.1f}, promised {one.promised_wql:.1f})" for one in worse[:3]
    )
    causes = [one for one in changed if one.key in {each.key for each in worse}]
    if not causes:
        return (
            DriftVerdict.RETRAIN,
            f"{named}: the inputs look as ever, what follows from them differs: `gangplan train`",
        )
    cause = max(causes, key=lambda one: one.distance)
    words = f"{cause.feature} of {' / '.join(cause.key)} lies {cause.distance:.1f} times as far off as ever before"
    return DriftVerdict.INPUTS, f"{named}: {words}: look at its telemetry, then `gangplan train`"


def _origins(panel: Panel, fitted: DemandModel, days: int) -> tuple[int, ...]:
    """Return the days' beginnings, in hours known, since the fit; none where nothing was fitted."""
    if not fitted.fitted_until:
        return ()
    last = panel.hours - DAY
    count = min(days, max(0, (last - _hour(panel, fitted)) // DAY + 1))
    return tuple(last - DAY * back for back in reversed(range(count)))


def _compare(table: pl.DataFrame, promised: pl.DataFrame, keys: tuple[Key, ...], seed: int) -> Iterator[SeriesHealth]:
    """Set each series' days beside those that were promised; those of the back-test alone are left out."""
    for key in keys:
        mine = [pl.col(name) == value for name, value in zip(SERIES, key, strict=True)]
        now, then = table.filter(*mine), promised.filter(*mine)
        late, early = _daily(now), _daily(then)
        if late.size < LEAST_DAYS or early.size < 2:
            continue
        found, said = quality(now), quality(then)
        yield SeriesHealth(
            key=key,
            wql=found.wql,
            promised_wql=said.wql,
            coverage_80=found.coverage_80,
            promised_coverage_80=said.coverage_80,
            luck=_luck(late, early, found, said, seed),
        )


def _daily(rows: pl.DataFrame) -> Floats:
    """The mean pinball loss of each day over the mean demand of them all."""
    known = rows.drop_nulls("gpus")
    demand = known["gpus"].to_numpy()
    if not demand.size:
        return demand
    loss = pinball(known.select(QUANTILE_COLUMNS).to_numpy(), demand).mean(axis=1) / max(float(demand.mean()), 1e-9)
    days = (
        known.select("origin")
        .with_columns(loss=loss)
        .group_by("origin", maintain_order=True)
        .agg(pl.col("loss").mean())
    )
    return days["loss"].to_numpy()


def _luck(late: Floats, early: Floats, found: Quality, said: Quality, seed: int) -> float:
    """How often days drawn from both alike differ as much: one-sided, 2,000 permutations."""
    if not np.isfinite(found.wql) or not np.isfinite(said.wql):
        return 1.0
    test = permutation_test(
        (late, early),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        alternative="greater",
        n_resamples=2000,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _new_and_gone(panel: Panel, promised: pl.DataFrame) -> Iterator[Changed]:
    """Name series that the back-test did not have, and those that it had and that are no more."""
    before = {(tenant, workload, kind) for tenant, workload, kind in promised.select(SERIES).unique().iter_rows()}
    for key in sorted(set(panel.keys) - before):
        yield Changed(key=key, feature="new series", distance=float("inf"))
    for key in sorted(before - set(panel.keys)):
        yield Changed(key=key, feature="series gone", distance=float("inf"))


def _moved(panel: Panel, fitted: DemandModel, origins: tuple[int, ...]) -> Iterator[Changed]:
    """Name the features that lie farther from the past than any window of the past from the rest of it."""
    first, hours = origins[0], DAY * len(origins)
    scaled = Panel(
        start=panel.start,
        keys=panel.keys,
        values=panel.values / levels(panel.until(first))[:, None],
        events=panel.events,
    )
    history = History(panel=scaled, kinds=fitted.kinds, reach=DAY)
    names = [*feature_names(fitted.kinds), "missing hours"]
    starts = [first - hours * back for back in range(1, _WINDOWS + 1) if first - hours * back > 2 * DAY]
    if len(starts) < 3:
        return
    found: list[Changed] = []
    for row, key in enumerate(panel.keys):
        late = _columns(history, row, np.arange(first, panel.hours - 1, dtype=np.int64))
        windows = [_columns(history, row, np.arange(start, start + hours, dtype=np.int64)) for start in starts]
        for column, name in enumerate(names):
            if name in _CALENDAR:
                continue
            distance = _distance(late[:, column], [window[:, column] for window in windows])
            if distance > _CHANGED:
                found.append(Changed(key=key, feature=name, distance=distance))
    yield from sorted(found, key=lambda one: -one.distance)[: _MOST * len(panel.keys)]


def _columns(history: History, row: int, origin: Ints) -> Floats:
    """The features of each origin's next hour, as the trees see them beside no base; and whether it was missing."""
    series, step = np.full(origin.size, row, dtype=np.int64), np.ones(origin.size, dtype=np.int64)
    made = build(history, series, origin, step, np.zeros(origin.size)).astype(np.float64)
    return np.column_stack([made, np.isnan(history.values[row, origin])])


def _distance(late: Floats, windows: list[Floats]) -> float:
    """How far the late values lie from all others, over how far any window lay from the others (Wasserstein)."""

    def apart(one: Floats, others: list[Floats]) -> float:
        mine, rest = one[~np.isnan(one)], np.concatenate(others)
        rest = rest[~np.isnan(rest)]
        return float(wasserstein_distance(mine, rest)) if mine.size and rest.size else 0.0

    usual = max(apart(one, windows[:place] + windows[place + 1 :]) for place, one in enumerate(windows))
    now = apart(late, windows)
    return now / usual if usual > 1e-9 else (float("inf") if now > 1e-3 else 0.0)
