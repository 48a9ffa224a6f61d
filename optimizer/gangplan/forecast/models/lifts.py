"""What an event that is known ahead does to demand: measured on past events, with uncertainty; new kinds borrow.

The method is in docs/events.md. Placebo windows are windows of the same length in which nothing happened.
Source: DerSimonian and Laird, Meta-analysis in clinical trials (1986), for the pooling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from gangplan.clock import HOUR
from gangplan.forecast.series import MEDIAN, WEEK, Floats, Ints, Panel, known_mean, normal_scores, tidy
from gangplan.types import QUANTILES

JOB, TARGET = "job", "target"
PRIOR_SD = 0.25
"""How far kinds differ, in logs, where there are too few to tell."""

_WEEKS = (-3, -2, -1, 1, 2, 3)
_LEAST_SD = 0.02
_PLACEBOS = 24
_TRUST_IN_JOBS, _JOB_SD = 3.0, 0.3  # as if three planned jobs had been seen that asked for what was announced
_Z = normal_scores(np.array(QUANTILES))


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
        """The factor at the median."""
        return float(np.exp(self.mean))

    @property
    def band(self) -> tuple[float, float]:
        """The factors between which it lies in 8 of 10 cases."""
        reach = -float(_Z[QUANTILES.index(0.1)]) * self.sd
        return float(np.exp(self.mean - reach)), float(np.exp(self.mean + reach))


def measure_lifts(panel: Panel, announced: pl.DataFrame | None = None) -> tuple[Lift, ...]:
    """Measure every kind of event in the panel on every class of its series; those never seen borrow.

    The column `like` of `announced` (`tables.ANNOUNCED`) names the kind that a new one resembles.
    """
    measured = occurrences(panel)
    classes = sorted({key[1] for key in panel.keys})
    kinds = sorted(set(panel.events["kind"]) - {JOB, TARGET})
    likes = {} if announced is None else dict(announced.drop_nulls("like").select("kind", "like").iter_rows())
    lifts: list[Lift] = []
    for workload in classes:
        mine = [each for each in measured if each.workload_class == workload]
        pools = {kind: _pool([each for each in mine if each.kind == kind]) for kind in kinds}
        lifts += _shrunk(workload, pools, likes)
    return tuple(sorted(lifts, key=lambda lift: (lift.kind, lift.workload_class)))


def occurrences(panel: Panel) -> list[Occurrence]:
    """Measure each event on each series that it touches, where the panel has hours to compare it with."""
    kinds = set(panel.events["kind"])
    others = {kind: panel.has_event(kinds - {kind}) for kind in kinds}
    calm = np.where(panel.has_event(), np.nan, panel.values)
    usual = _usual(calm)
    measured: list[Occurrence] = []
    for start, end, kind, tenant in panel.events.iter_rows():
        hours = _hours(panel, start, end)
        for row in panel.rows_of(tenant):
            lift = _log_ratio(panel.values[row], usual[row], hours[~others[kind][row, hours]])
            if lift is not None:
                variance = _placebo(calm[row], usual[row], hours.size)
                workload = panel.keys[row][1]
                measured.append(Occurrence(kind=kind, workload_class=workload, lift=lift, variance=variance))
    return measured


def with_known_events(
    quantiles: Floats, panel: Panel, announced: pl.DataFrame | None, kinds: tuple[str, ...]
) -> Floats:
    """Bring into quantiles (series x horizon x levels, GPUs) what people know ahead: new kinds of events, planned jobs.

    `kinds` are those that the model has features for; it has learned those of them that were on before the panel's end.
    """
    learned = panel.events.filter(pl.col("start") < panel.end, pl.col("kind").is_in(kinds))
    lifts = measure_lifts(panel, announced) if panel.events.height else ()
    lifted = _lifted(quantiles, panel, lifts, frozenset(learned["kind"]))
    return lifted if announced is None else _with_jobs(lifted, panel, announced)


def _lifted(quantiles: Floats, panel: Panel, lifts: tuple[Lift, ...], known: frozenset[str]) -> Floats:
    """Multiply quantiles (series x horizon x levels) where events are on whose kinds the model has not learned.

    The lift's own uncertainty widens the bands, as if independent of the model's.
    """
    factors = {(lift.kind, lift.workload_class): lift for lift in lifts if lift.kind not in known}
    mean, variance = np.zeros(quantiles.shape[:2]), np.zeros(quantiles.shape[:2])
    for start, end, kind, tenant in panel.events.iter_rows():
        first, after = (max(0, hour - panel.hours) for hour in panel.span(start, end))
        for row in panel.rows_of(tenant):
            lift = factors.get((kind, panel.keys[row][1]))
            if lift is not None:
                mean[row, first:after] += lift.mean
                variance[row, first:after] += lift.sd**2
    return _widened(quantiles * np.exp(mean)[:, :, None], np.sqrt(variance))


def _with_jobs(quantiles: Floats, panel: Panel, announced: pl.DataFrame) -> Floats:
    """Add planned jobs to quantiles, in the share of the announced GPUs that past ones asked for."""
    jobs = announced.filter(pl.col("kind") == JOB)
    share, sd = job_share(panel, jobs)
    extra = _planned_gpus(panel, jobs, panel.hours, quantiles.shape[1])
    moved = quantiles + (share * extra)[:, :, None]
    apart = np.hypot(moved - moved[:, :, [MEDIAN]], (extra * sd)[:, :, None] * _Z)
    return tidy(moved[:, :, [MEDIAN]] + np.sign(_Z) * apart)


def job_share(panel: Panel, jobs: pl.DataFrame) -> tuple[float, float]:
    """Return the share of announced GPUs that came, and its standard deviation; 1 where none is past."""
    extra = _planned_gpus(panel, jobs, 0, panel.hours)
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


def _planned_gpus(panel: Panel, jobs: pl.DataFrame, first: int, count: int) -> Floats:
    """Return the GPUs of planned jobs, mean of each hour (series x `count` hours from the panel's hour `first` on)."""
    planned = np.zeros((len(panel.keys), count))
    rows = {key: row for row, key in enumerate(panel.keys)}
    edges = first + np.arange(count)
    columns = ("start", "end", "tenant", "workload_class", "accelerator", "gpus")
    for start, end, tenant, workload, accelerator, gpus in jobs.select(columns).iter_rows():
        row = rows.get((tenant, workload, accelerator))
        if row is not None:
            begun, ended = ((moment - panel.start) / HOUR for moment in (start, end))
            planned[row] += gpus * np.clip(np.minimum(edges + 1, ended) - np.maximum(edges, begun), 0, 1)
    return planned


def _pool(measured: list[Occurrence]) -> tuple[float, float, int] | None:
    """Pool occurrences by random effects: mean, variance of the mean, how many; none without any."""
    if not measured:
        return None
    lift, variance = np.array([(each.lift, each.variance) for each in measured]).T
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
    lifts: dict[str, Lift] = {}
    for kind, (mean, variance, count) in known.items():
        weight = apart**2 / (apart**2 + variance)
        middle, sd = weight * mean + (1 - weight) * centre, float(np.sqrt(weight * variance))
        lifts[kind] = Lift(kind=kind, workload_class=workload, mean=middle, sd=sd, occurrences=count, source="measured")
    yield from lifts.values()
    for kind in pools.keys() - known.keys():
        near = _similar(kind, likes.get(kind), lifts)
        middle = near.mean if near else centre
        sd = float(np.hypot(near.sd, apart / 2)) if near else apart
        source = f"like {near.kind}" if near else "like the mean of all kinds" if known else "nothing measured yet"
        yield Lift(kind=kind, workload_class=workload, mean=middle, sd=sd, occurrences=0, source=source)


def _similar(kind: str, like: str | None, measured: dict[str, Lift]) -> Lift | None:
    """Return the measured kind that this one is announced to be like, or the first that shares a word of its name."""
    if like in measured:
        return measured[like]
    words = set(re.split(r"[-_.]+", kind.lower()))
    return next((measured[name] for name in sorted(measured) if words & set(re.split(r"[-_.]+", name.lower()))), None)


def _widened(quantiles: Floats, sd: Floats) -> Floats:
    """Widen quantiles by the spread of a log-normal factor (`sd` in logs, series x horizon), as if independent."""
    median = quantiles[:, :, [MEDIAN]]
    factor = median * (np.exp(sd[:, :, None] * _Z) - 1)
    return tidy(median + np.sign(_Z) * np.hypot(quantiles - median, factor))


def _hours(panel: Panel, start: datetime, end: datetime) -> Ints:
    """Return the panel's hours that an event touches."""
    first, after = panel.span(start, end)
    return np.arange(max(0, first), max(0, min(after, panel.hours)), dtype=np.int64)


def _usual(calm: Floats) -> Floats:
    """Return the mean of the same hour in the weeks around, without events; NaN where fewer than two are known."""
    reach = max(_WEEKS) * WEEK
    padded = np.pad(calm, ((0, 0), (reach, reach)), constant_values=np.nan)
    hours: Ints = reach + np.arange(calm.shape[1], dtype=np.int64)
    return known_mean(np.stack([padded[:, hours - week * WEEK] for week in _WEEKS]), axis=0, above=1)


def _log_ratio(values: Floats, usual: Floats, hours: Ints) -> float | None:
    """Return the log of demand over usual demand in those hours; none where too little is known."""
    known = hours[~np.isnan(values[hours]) & ~np.isnan(usual[hours])]
    mine, theirs = float(values[known].sum()), float(usual[known].sum())
    return float(np.log(mine / theirs)) if 2 * known.size >= max(2, hours.size) and mine > 0 and theirs > 0 else None


def _placebo(calm: Floats, usual: Floats, length: int) -> float:
    """Return the variance of that log in windows of the same length where nothing was on."""
    last = calm.size - length
    starts = np.linspace(0, max(0, last), _PLACEBOS).astype(np.int64)
    ratios = [_log_ratio(calm, usual, np.arange(start, min(start + length, calm.size))) for start in map(int, starts)]
    known = np.array([ratio for ratio in ratios if ratio is not None])
    return max(_LEAST_SD**2, float(np.mean(known**2))) if known.size >= 4 else PRIOR_SD**2
