"""The sample source: telemetry of an invented cluster from a seed, and the truth behind it, for tests.

The same seed gives the same bytes at any time: the sample has its own calendar, which `align` moves to the present.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from gangplan.clock import HOUR
from gangplan.telemetry.demand import Floats, fill_grid, hourly_demand, hours_between, series_demand
from gangplan.telemetry.sources.sample import cluster
from gangplan.telemetry.sources.sample.world import (
    ANCHOR,
    DAYS,
    EFFECT,
    HOURS,
    WARM_UP,
    WORLD,
    SeriesShape,
    calendar,
)
from gangplan.telemetry.values import Telemetry
from gangplan.types import SERIES

END = ANCHOR + timedelta(days=DAYS)


@dataclass(frozen=True, kw_only=True)
class Spike:
    """A peak that no calendar announces: demand is multiplied by `factor` from `start` up to `end`."""

    series: tuple[str, str, str]
    start: datetime
    end: datetime
    factor: float


@dataclass(frozen=True, kw_only=True)
class Outage:
    """The share of an accelerator's nodes that fail from `start` up to `end`: jobs wait, the demand does not fall."""

    accelerator: str
    start: datetime
    end: datetime
    share: float


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """What the sample was generated from, in the sample's own times; it is never logged, so no model can learn it.

    `target` (DEMAND) is the demand before random effects and queues, `growth_per_day` a share by series. In the hours
    of `missing` (hour and series) and `gap` (all series) the demand was not sampled.
    """

    target: pl.DataFrame
    growth_per_day: dict[tuple[str, str, str], float]
    events: pl.DataFrame
    spikes: tuple[Spike, ...]
    outage: Outage
    missing: pl.DataFrame
    gap: tuple[datetime, datetime]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The sample's telemetry and the truth behind it."""

    telemetry: Telemetry
    truth: GroundTruth


def make_sample(seed: int) -> Sample:
    """Return the sample of that seed: 19 weeks, nine series, a demand that grows from about 250 to 300 GPUs."""
    rng = np.random.default_rng([seed, 20250106])
    spikes, outage, gap = _draw_spikes(rng), _draw_outage(rng), _draw_gap(rng)
    targets = {shape: _target(shape, spikes, rng) for shape in WORLD}
    jobs = _run_jobs(targets, outage, rng)
    asked = hourly_demand(jobs, ANCHOR, END)
    hours = hours_between(ANCHOR, END)
    truth = GroundTruth(
        target=pl.concat([series_demand(shape.key, hours, path[WARM_UP:]) for shape, path in targets.items()]),
        growth_per_day={shape.key: shape.growth_per_day for shape in WORLD},
        events=calendar(),
        spikes=spikes,
        outage=outage,
        missing=asked.select("hour", *SERIES).filter(pl.Series(rng.random(asked.height) < _MISSING_ODDS)),
        gap=gap,
    )
    return Sample(telemetry=_observe(jobs, asked, targets, truth, rng), truth=truth)


_MISSING_ODDS = 0.004
_NODE_MISSING_ODDS = 0.003
_NOISE, _NOISE_MEMORY = (
    0.035,
    0.8,
)  # noise of a serving target: its standard deviation, and the share that an hour keeps of the last one


def _target(shape: SeriesShape, spikes: tuple[Spike, ...], rng: np.random.Generator) -> Floats:
    """Return the GPUs that a series should ask for, by hour, from the first hour of the warm-up."""
    hour = np.arange(-WARM_UP, HOURS, dtype=np.float64)
    day = np.floor(hour / 24)
    swing = 1 + shape.daily * np.cos(2 * np.pi * (hour - shape.peak_hour) / 24)
    week = np.where(day % 7 >= 5, shape.weekend, 1.0)
    target = shape.gpus * (1 + shape.growth_per_day) ** np.maximum(hour / 24, 0) * swing * week
    for start, end, kind, tenant in calendar().iter_rows():
        if tenant in (None, shape.tenant):
            target = target * _within(hour, start, end, EFFECT.get((kind, shape.workload_class), 1.0))
    for spike in spikes:
        if spike.series == shape.key:
            target = target * _within(hour, spike.start, spike.end, spike.factor)
    return target * np.exp(_wander(len(hour), rng)) if shape.serving else target


def _within(hour: Floats, start: datetime, end: datetime, factor: float) -> Floats:
    """Return `factor` in the hours from `start` up to `end`, and 1 in the others."""
    first, last = ((moment - ANCHOR) / HOUR for moment in (start, end))
    return np.where((hour >= first) & (hour < last), factor, 1.0)


def _wander(count: int, rng: np.random.Generator) -> Floats:
    """Return noise in which each hour resembles the last one (an autoregression)."""
    path, level = np.empty(count), 0.0
    for index, shock in enumerate(rng.normal(0, _NOISE, count)):
        level = _NOISE_MEMORY * level + float(shock)
        path[index] = level
    return path


def _draw_spikes(rng: np.random.Generator) -> tuple[Spike, ...]:
    """Draw two to four spikes of one to three hours for each serving series, spread over its time."""
    spikes: list[Spike] = []
    for shape in (shape for shape in WORLD if shape.serving):
        count = int(rng.integers(2, 5))
        for part in range(count):
            first = int((part + rng.uniform(0.1, 0.9)) * HOURS / count)
            start = ANCHOR + first * HOUR
            factor = float(np.round(rng.uniform(1.8, 2.4), 2))
            end = start + int(rng.integers(1, 4)) * HOUR
            spikes.append(Spike(series=shape.key, start=start, end=end, factor=factor))
    return tuple(spikes)


def _draw_outage(rng: np.random.Generator) -> Outage:
    """Draw the outage: 70 % of the a100 nodes for ten hours of a working day, about five weeks before the end."""
    start = ANCHOR + timedelta(days=7 * 13 + int(rng.integers(0, 4)), hours=int(rng.integers(7, 11)))
    return Outage(accelerator="a100", start=start, end=start + 10 * HOUR, share=0.7)


def _draw_gap(rng: np.random.Generator) -> tuple[datetime, datetime]:
    """Draw the six hours in which the collector was down."""
    start = ANCHOR + timedelta(days=int(rng.integers(60, 80)), hours=int(rng.integers(0, 24)))
    return start, start + 6 * HOUR


def _run_jobs(targets: dict[SeriesShape, Floats], outage: Outage, rng: np.random.Generator) -> pl.DataFrame:
    """Return the jobs of all series (JOBS): replicas by the target, batch through one queue for each accelerator."""
    rows = {shape: cluster.replicas(shape, path, rng) for shape, path in targets.items() if shape.serving}
    for accelerator in sorted({shape.accelerator for shape in WORLD}):
        batch = {s: p for s, p in targets.items() if s.accelerator == accelerator and not s.serving}
        capacity = _capacity(np.sum(list(batch.values()), axis=0), accelerator, outage)
        rows.update(cluster.queue_together({s: cluster.arrivals(s, p, rng) for s, p in batch.items()}, capacity))
    lived = pl.col("ended_at").is_null() | (pl.col("ended_at") > ANCHOR)
    return cluster.jobs_table(rows).filter(lived)


def _capacity(target: Floats, accelerator: str, outage: Outage) -> Floats:
    """Return an accelerator's GPUs for batch by hour: too few in the busiest hours of a week and in the outage."""
    hour = np.arange(-WARM_UP, HOURS, dtype=np.float64)
    week = np.clip(hour // 168, 0, None).astype(int)
    busy = np.array([np.quantile(target[week == number], 0.9) for number in range(week[-1] + 1)])
    gpus = np.maximum(np.ceil(1.25 * busy), 24.0)[week]
    left = 1 - outage.share if accelerator == outage.accelerator else 1.0
    return gpus * _within(hour, outage.start, outage.end, left)


def _observe(
    jobs: pl.DataFrame,
    asked: pl.DataFrame,
    targets: dict[SeriesShape, Floats],
    truth: GroundTruth,
    rng: np.random.Generator,
) -> Telemetry:
    """Return the telemetry that a collector with gaps recorded."""
    seen = ~pl.col("hour").is_between(*truth.gap, closed="left")
    demand = asked.filter(seen).join(truth.missing, on=["hour", *SERIES], how="anti")
    times = cluster.sample_times()
    times = times.filter(~times.is_between(*truth.gap, closed="left"))
    off = times.is_between(truth.outage.start, truth.outage.end, closed="left").to_numpy() * truth.outage.share
    nodes = cluster.node_metrics(jobs, times, {truth.outage.accelerator: off}, rng)
    given = Telemetry(
        source="sample",
        start=ANCHOR,
        end=END,
        rows=0,
        demand=fill_grid(demand, ANCHOR, END),
        jobs=jobs,
        nodes=nodes.filter(pl.Series(rng.random(nodes.height) >= _NODE_MISSING_ODDS)),
        queue=cluster.queue_lengths(jobs, times),
        requests=cluster.request_rates(targets, times, rng),
        events=truth.events,
    )
    return replace(given, rows=sum(frame.height for frame in given.tables.values()))
