# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# (scipy comes without stubs)
"""What an event that is known ahead does to demand: measured on past ones, with uncertainty; new kinds borrow.

An occurrence's lift is the demand of its hours over that of the same hours of the three weeks before and after in which
nothing was on. How far this strays where nothing happens (placebo windows of the same length) is its error. Occurrences
of a kind and class are pooled by random effects, and shrunk towards the mean of all kinds of the class.

Source: DerSimonian and Laird, Meta-analysis in clinical trials (1986), for the pooling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm

from gangplan.forecast.models.features import WEEK
from gangplan.forecast.series import HOUR, Floats, Ints, Panel, tidy
from gangplan.types import QUANTILES

JOB, TARGET = "job", "target"
PRIOR_SD = 0.25
"""How far kinds differ, in logs, where there are too few to tell."""

_WEEKS = (-3, -2, -1, 1, 2, 3)
_LEAST_SD = 0.02
_PLACEBOS = 24
_TRUST_IN_JOBS, _JOB_SD = 3.0, 0.3  # as if three planned jobs had been seen that asked for what was announced
_Z: Floats = np.asarray(norm.ppf(QUANTILES), dtype=np.float64)
_MEDIAN = QUANTILES.index(0.5)


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """One event on one series: its measured lift and the variance of its error, both in logs."""

    kind: str
    workload_class: str
    lift: float
    variance: float


@dataclass(frozen=True, kw_only=True)
class Lift:
    """By what a kind of event multiplies a class's demand; `mean` and `sd` are in logs.

    occurrences : how many were measured; 0 where it is borrowed, and `source` says from where.
    """

    kind: str
    workload_class: str
    mean: float
    sd: float
    occurrences: int
    source: str

    @property
    def factor(self) -> float:
        """The factor in the middle."""
        return float(np.exp(self.mean))

    @property
    def band(self) -> tuple[float, float]:
        """Where it lies in 8 of 10 cases."""
        return tuple(float(np.exp(self.mean + z * self.sd)) for z in norm.ppf([0.1, 0.9]))  # pyright: ignore[reportReturnType]


def measure_lifts(panel: Panel, announced: pl.DataFrame | None = None) -> tuple[Lift, ...]:
    """Measure every kind of event in the panel on every class of its series; those never seen borrow.

    Parameters
    ----------
    announced
        `tables.ANNOUNCED`, whose column `like` names the kind that a new one resembles.
    """
    seen = occurrences(panel)
    classes = sorted({key[1] for key in panel.keys})
    kinds = sorted(set(panel.events["kind"]) - {JOB, TARGET})
    likes = {} if announced is None else dict(announced.drop_nulls("like").select("kind", "like").iter_rows())
    found: list[Lift] = []
    for each in classes:
        pools = {kind: _pool([one for one in seen if (one.kind, one.workload_class) == (kind, each)]) for kind in kinds}
        found += _shrunk(each, pools, likes)
    return tuple(sorted(found, key=lambda lift: (lift.kind, lift.workload_class)))


def occurrences(panel: Panel) -> list[Occurrence]:
    """Measure each event on each series that it touches, where the panel has hours to compare it with."""
    on = {kind: _on(panel, kind) for kind in set(panel.events["kind"])}
    busy = np.any(list(on.values()), axis=0) if on else np.zeros_like(panel.values, dtype=bool)
    calm = np.where(busy, np.nan, panel.values)
    usual = _usual(calm)
    found: list[Occurrence] = []
    for start, end, kind, tenant in panel.events.iter_rows():
        others = np.any([rows for other, rows in on.items() if other != kind] or [np.zeros_like(busy)], axis=0)
        for row, key in enumerate(panel.keys):
            hours = _hours(panel, start, end)
            alone = hours[~others[row, hours]]
            lift = _ratio(panel.values[row], usual[row], alone) if tenant in (None, key[0]) else None
            if lift is not None:
                variance = _placebo(calm[row], usual[row], hours.size)
                found.append(Occurrence(kind=kind, workload_class=key[1], lift=lift, variance=variance))
    return found


def foreseen(made: Floats, panel: Panel, announced: pl.DataFrame | None, kinds: tuple[str, ...]) -> Floats:
    """Bring into a model's quantiles what people know ahead and the model cannot: new kinds of events, planned jobs.

    Parameters
    ----------
    kinds
        What the model has features for; it has learned those of them that were on before the panel's end.
    """
    learned = panel.events.filter(pl.col("start") < panel.end, pl.col("kind").is_in(kinds))
    lifts = measure_lifts(panel, announced) if panel.events.height else ()
    known = lifted(made, panel, lifts, frozenset(learned["kind"]))
    return known if announced is None else with_jobs(known, panel, announced)


def lifted(made: Floats, panel: Panel, lifts: tuple[Lift, ...], known: frozenset[str]) -> Floats:
    """Multiply quantiles (series x horizon x levels) where events are on whose kinds the model has not learned.

    The lift's own uncertainty widens the bands, as if independent of the model's.
    """
    horizon = made.shape[1]
    factors = {(lift.kind, lift.workload_class): lift for lift in lifts if lift.kind not in known}
    mean, variance = np.zeros(made.shape[:2]), np.zeros(made.shape[:2])
    for start, end, kind, tenant in panel.events.iter_rows():
        first = max(0, (start - panel.end) // HOUR)
        after = max(first, min(horizon, -((panel.end - end) // HOUR)))
        for row, key in enumerate(panel.keys):
            lift = factors.get((kind, key[1]))
            if lift is not None and tenant in (None, key[0]):
                mean[row, first:after] += lift.mean
                variance[row, first:after] += lift.sd**2
    return _widened(made * np.exp(mean)[:, :, None], np.sqrt(variance))


def with_jobs(made: Floats, panel: Panel, announced: pl.DataFrame) -> Floats:
    """Add planned jobs to quantiles, in the share of the announced GPUs that past ones asked for."""
    jobs = announced.filter(pl.col("kind") == JOB)
    share, sd = job_share(panel, jobs)
    extra = planned_gpus(panel, jobs, panel.hours, made.shape[1])
    moved = made + (share * extra)[:, :, None]
    apart = np.hypot(moved - moved[:, :, [_MEDIAN]], (extra * sd)[:, :, None] * _Z)
    return tidy(moved[:, :, [_MEDIAN]] + np.sign(_Z) * apart)


def job_share(panel: Panel, jobs: pl.DataFrame) -> tuple[float, float]:
    """Return the share of announced GPUs that came, and its standard deviation; 1 where none is past."""
    extra = planned_gpus(panel, jobs, 0, panel.hours)
    usual = _usual(np.where(extra > 0, np.nan, panel.values))
    over = np.where((extra > 0) & ~np.isnan(usual), panel.values - usual, np.nan)
    shares: list[float] = []
    for start, end in jobs.select("start", "end").iter_rows():
        hours = _hours(panel, start, end)
        known = ~np.isnan(over[:, hours])
        asked = float(extra[:, hours][known].sum())
        if asked > 0:
            shares.append(float(over[:, hours][known].sum()) / asked)
    mean = (_TRUST_IN_JOBS + sum(shares)) / (_TRUST_IN_JOBS + len(shares))
    spread = sum((share - mean) ** 2 for share in shares) + _TRUST_IN_JOBS * _JOB_SD**2
    return max(0.0, mean), float(np.sqrt(spread / (_TRUST_IN_JOBS + len(shares))))


def planned_gpus(panel: Panel, jobs: pl.DataFrame, first: int, count: int) -> Floats:
    """GPUs of planned jobs in `count` hours from the panel's hour `first` on, as the mean of each hour."""
    found = np.zeros((len(panel.keys), count))
    rows = {key: row for row, key in enumerate(panel.keys)}
    edges = first + np.arange(count)
    columns = ("start", "end", "tenant", "workload_class", "accelerator", "gpus")
    for start, end, tenant, workload, accelerator, gpus in jobs.select(columns).iter_rows():
        row = rows.get((tenant, workload, accelerator))
        if row is not None:
            begun, ended = ((moment - panel.start) / HOUR for moment in (start, end))
            found[row] += gpus * np.clip(np.minimum(edges + 1, ended) - np.maximum(edges, begun), 0, 1)
    return found


def _pool(seen: list[Occurrence]) -> tuple[float, float, int] | None:
    """Pool occurrences by random effects: mean, variance of the mean, how many; none without any."""
    if not seen:
        return None
    lift, variance = np.array([one.lift for one in seen]), np.array([one.variance for one in seen])
    weight = 1 / variance
    fixed = float((weight * lift).sum() / weight.sum())
    spare = float((weight * (lift - fixed) ** 2).sum()) - (lift.size - 1)
    scale = float(weight.sum() - (weight**2).sum() / weight.sum())
    between = max(0.0, spare / scale) if scale > 0 else 0.0
    weight = 1 / (variance + between)
    return float((weight * lift).sum() / weight.sum()), float(1 / weight.sum()), lift.size


def _shrunk(workload: str, pools: dict[str, tuple[float, float, int] | None], likes: dict[str, str]) -> Iterator[Lift]:
    """Shrink each kind's lift towards the mean of all; a kind without any takes that of a similar one, or the mean."""
    known = {kind: pool for kind, pool in pools.items() if pool is not None}
    means = np.array([mean for mean, _, _ in known.values()])
    centre = float(means.mean()) if means.size else 0.0
    apart = max(PRIOR_SD / 2, float(means.std(ddof=1))) if means.size > 2 else PRIOR_SD
    made: dict[str, Lift] = {}
    for kind, (mean, variance, count) in known.items():
        weight = apart**2 / (apart**2 + variance)
        middle, sd = weight * mean + (1 - weight) * centre, float(np.sqrt(weight * variance))
        made[kind] = Lift(kind=kind, workload_class=workload, mean=middle, sd=sd, occurrences=count, source="measured")
    yield from made.values()
    for kind in pools.keys() - known.keys():
        near = _similar(kind, likes.get(kind), made)
        middle = near.mean if near else centre
        sd = float(np.hypot(near.sd, apart / 2)) if near else apart
        source = f"like {near.kind}" if near else "like the mean of all kinds" if known else "nothing measured yet"
        yield Lift(kind=kind, workload_class=workload, mean=middle, sd=sd, occurrences=0, source=source)


def _similar(kind: str, like: str | None, made: dict[str, Lift]) -> Lift | None:
    """The measured kind that one is said to be like, or the first that shares a word of its name."""
    if like in made:
        return made[like]
    words = set(re.split(r"[-_.]+", kind.lower()))
    return next((made[name] for name in sorted(made) if words & set(re.split(r"[-_.]+", name.lower()))), None)


def _widened(made: Floats, sd: Floats) -> Floats:
    """Widen quantiles by a log-normal factor's spread, as if independent."""
    middle = made[:, :, [_MEDIAN]]
    factor = middle * (np.exp(sd[:, :, None] * _Z) - 1)
    return tidy(middle + np.sign(_Z) * np.hypot(made - middle, factor))


def _on(panel: Panel, kind: str) -> NDArray[np.bool_]:
    """Which hours of which series have an event of that kind."""
    found = np.zeros(panel.values.shape, dtype=bool)
    for start, end, _, tenant in panel.events.filter(pl.col("kind") == kind).iter_rows():
        rows = np.array([tenant in (None, key[0]) for key in panel.keys])
        hours = np.zeros(panel.hours, dtype=bool)
        hours[_hours(panel, start, end)] = True
        found |= rows[:, None] & hours
    return found


def _hours(panel: Panel, start: datetime, end: datetime) -> Ints:
    """The panel's hours that an event touches."""
    first, after = (start - panel.start) // HOUR, -((panel.start - end) // HOUR)
    return np.arange(max(0, first), max(0, min(after, panel.hours)), dtype=np.int64)


def _usual(calm: Floats) -> Floats:
    """Mean of the same hour in the weeks around, where nothing was on; NaN where less than two are known."""
    total, count = np.zeros_like(calm), np.zeros_like(calm)
    for week in _WEEKS:
        moved = np.full_like(calm, np.nan)
        lag = week * WEEK
        if abs(lag) < calm.shape[1]:
            into, out = (slice(lag, None), slice(None, -lag)) if lag > 0 else (slice(None, lag), slice(-lag, None))
            moved[:, into] = calm[:, out]
        total += np.nan_to_num(moved)
        count += ~np.isnan(moved)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count >= 2)


def _ratio(values: Floats, usual: Floats, hours: Ints) -> float | None:
    """The log of demand over usual demand in those hours; none where too little is known."""
    known = hours[~np.isnan(values[hours]) & ~np.isnan(usual[hours])]
    mine, theirs = float(values[known].sum()), float(usual[known].sum())
    return float(np.log(mine / theirs)) if 2 * known.size >= max(2, hours.size) and mine > 0 and theirs > 0 else None


def _placebo(calm: Floats, usual: Floats, length: int) -> float:
    """The variance of that ratio in windows of the same length where nothing was on."""
    last = calm.size - length
    starts = np.linspace(0, max(0, last), _PLACEBOS).astype(np.int64)
    ratios = [_ratio(calm, usual, np.arange(start, min(start + length, calm.size))) for start in starts]
    known = np.array([ratio for ratio in ratios if ratio is not None])
    return max(_LEAST_SD**2, float(np.mean(known**2))) if known.size >= 4 else PRIOR_SD**2
