"""The sample's cluster: jobs that run and queue, and the metrics of nodes, queues and requests computed from them.

Replicas follow their target; batch jobs queue first come, first served.
"""

from __future__ import annotations

import heapq
from datetime import timedelta

import numpy as np
import polars as pl

from gangplan.tables import JOBS, NODES, QUEUE, REQUESTS, conform
from gangplan.telemetry.demand import Floats, hours_between, with_series
from gangplan.telemetry.sources.sample.world import (
    ACCELERATORS,
    ANCHOR,
    DAYS,
    FINE,
    FINE_DAYS,
    HOURS,
    WARM_UP,
    SeriesShape,
)
from gangplan.types import SERIES

REPLICA_GPUS = {"h100": 4, "a100": 2, "l4": 1}
"""GPUs of one serving replica."""

GANG_SIZES = {"h100": (2, 4, 4, 8), "a100": (1, 2, 4, 8), "l4": (1, 1, 2, 4)}
_SIZE_ODDS = (0.35, 0.30, 0.25, 0.10)
_MEAN_HOURS = 5.0
_SPREAD = 0.8  # standard deviation of the logarithm of a duration
LONGEST_HOURS = 36.0

_TIMES = ("submitted", "started", "ended")
Rows = dict[str, Floats]
"""Columns gpus, submitted, started, ended; times are hours from the anchor, NaN where they have not come."""

REQUESTS_PER_GPU = 9.0
"""Requests per second that one serving GPU handles."""


def replicas(shape: SeriesShape, target: Floats, rng: np.random.Generator) -> Rows:
    """Return one job for each serving replica; their number follows the hourly target, the newest ends first."""
    size = REPLICA_GPUS[shape.accelerator]
    wanted = np.maximum(1, np.rint(target / size)).astype(int)
    alive: list[int] = []
    begun: list[float] = []
    gone: list[float] = []
    for hour, count in enumerate(wanted):
        while len(alive) < count:
            alive.append(len(begun))
            begun.append(hour - WARM_UP + float(rng.uniform(0, 0.25)))
            gone.append(np.nan)
        while len(alive) > count:
            gone[alive.pop()] = hour - WARM_UP + float(rng.uniform(0.25, 0.5))
    submitted = np.array(begun)
    return {
        "gpus": np.full(len(begun), float(size)),
        "submitted": submitted,
        "started": submitted + rng.uniform(0.01, 0.04, len(begun)),
        "ended": np.array(gone),
    }


def arrivals(shape: SeriesShape, target: Floats, rng: np.random.Generator) -> Rows:
    """Return batch jobs that without a queue would use the target in the mean; `ended` holds their duration in hours.

    Each hour's count is Poisson with rate target / (mean size x mean duration), three hours before the load.
    """
    sizes = np.array(GANG_SIZES[shape.accelerator], dtype=np.float64)
    ahead = np.concatenate((target[3:], target[-3:]))
    rate = ahead / (float(sizes @ np.array(_SIZE_ODDS)) * _MEAN_HOURS)
    count = rng.poisson(rate)
    total = int(count.sum())
    submitted = np.sort(np.repeat(np.arange(len(target)) - WARM_UP, count) + rng.uniform(0, 1, total))
    duration = np.minimum(rng.lognormal(np.log(_MEAN_HOURS) - _SPREAD**2 / 2, _SPREAD, total), LONGEST_HOURS)
    return {
        "gpus": rng.choice(sizes, total, p=_SIZE_ODDS),
        "submitted": submitted,
        "started": np.full(total, np.nan),
        "ended": np.maximum(duration, 0.05),
    }


def queue_up(jobs: Rows, capacity: Floats) -> Rows:
    """Start the jobs of one accelerator, whole gangs, in the order of their submission, as capacity allows.

    `capacity` has the GPUs for batch by hour, from the first hour of the warm-up. No job starts before an earlier one.
    """
    running: list[tuple[float, float]] = []
    used, last = 0.0, -float(WARM_UP)
    started = np.full(len(jobs["gpus"]), np.nan)
    ended = started.copy()
    for row, (gpus, submitted, hours) in enumerate(zip(jobs["gpus"], jobs["submitted"], jobs["ended"], strict=True)):
        now = max(float(submitted), last)
        while True:
            while running and running[0][0] <= now:
                used -= heapq.heappop(running)[1]
            if used + gpus <= _at(capacity, now):
                break
            now = min(running[0][0] if running else np.inf, float(np.floor(now) + 1))
        last, used = now, used + float(gpus)
        started[row], ended[row] = now, now + hours
        heapq.heappush(running, (now + float(hours), float(gpus)))
    return {**jobs, "started": started, "ended": ended}


def queue_together(batch: dict[SeriesShape, Rows], capacity: Floats) -> dict[SeriesShape, Rows]:
    """Queue the jobs of several series together, and return them by series."""
    shapes = list(batch)
    owner = np.concatenate([np.full(len(batch[shape]["gpus"]), index) for index, shape in enumerate(shapes)])
    joined = {name: np.concatenate([batch[shape][name] for shape in shapes]) for name in batch[shapes[0]]}
    order = np.argsort(joined["submitted"], kind="stable")
    done = queue_up({name: column[order] for name, column in joined.items()}, capacity)
    return {shape: {n: c[owner[order] == index] for n, c in done.items()} for index, shape in enumerate(shapes)}


def jobs_table(rows: dict[SeriesShape, Rows]) -> pl.DataFrame:
    """Return the jobs of all series (JOBS), sorted by submission and numbered."""
    parts = [with_series(pl.DataFrame(columns), shape.key) for shape, columns in rows.items()]
    jobs = pl.concat(parts).sort("submitted", *SERIES)
    seconds = {name: (pl.col(name).fill_nan(None) * 3600).round().cast(pl.Int64) for name in _TIMES}
    times = [(pl.lit(ANCHOR) + pl.duration(seconds=value)).alias(f"{name}_at") for name, value in seconds.items()]
    ids = pl.format("job-{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(6)).alias("job_id")
    return conform("jobs", jobs.with_columns(ids, *times), JOBS)


def _at(capacity: Floats, hour: float) -> float:
    """Return the capacity at that time; after the last hour, that of the last hour."""
    return float(capacity[min(int(np.floor(hour)) + WARM_UP, len(capacity) - 1)])


def sample_times() -> pl.Series:
    """Return the times of samples: hourly, and every 15 minutes in the last three weeks."""
    fine = ANCHOR + timedelta(days=DAYS - FINE_DAYS)
    end = ANCHOR + timedelta(days=DAYS)
    return pl.concat([hours_between(ANCHOR, fine), hours_between(fine, end, FINE)]).alias("time")


def held_at(jobs: pl.DataFrame, times: pl.Series, since: str, until: str) -> tuple[Floats, Floats]:
    """Return at each time how many jobs, and how many GPUs, are between their times `since` and `until`."""
    at = times.to_numpy()
    spans = jobs.filter(pl.col(since).is_not_null())
    counts, gpus = np.zeros(len(at)), np.zeros(len(at))
    for column, sign in ((since, 1.0), (until, -1.0)):
        edges = spans.filter(pl.col(column).is_not_null()).sort(column)
        place = np.searchsorted(edges[column].to_numpy(), at, side="right")
        counts += sign * place
        gpus += sign * np.concatenate(([0.0], edges["gpus"].cum_sum().to_numpy()))[place]
    return counts, gpus


def node_metrics(
    jobs: pl.DataFrame, times: pl.Series, down: dict[str, Floats], rng: np.random.Generator
) -> pl.DataFrame:
    """Return the metrics of all nodes (NODES); `down` is the share of an accelerator's nodes that are off, by time."""
    parts: list[pl.DataFrame] = []
    for accelerator, per_node in ACCELERATORS.items():
        _, running = held_at(jobs.filter(pl.col("accelerator") == accelerator), times, "started_at", "ended_at")
        count = int(np.ceil(running.max() / per_node)) + 1
        load = np.clip(running / (count * per_node), 0, 1)
        off = down.get(accelerator, np.zeros(len(times)))
        for number in range(count):
            up = off <= number / count
            parts.append(_node(f"{accelerator}-{number:02d}", accelerator, times.filter(pl.Series(up)), load[up], rng))
    return conform("nodes", pl.concat(parts), NODES)


def queue_lengths(jobs: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
    """Return how many jobs and GPUs wait, by tenant and accelerator (QUEUE)."""
    parts: list[pl.DataFrame] = []
    for (tenant, accelerator), part in sorted(jobs.partition_by("tenant", "accelerator", as_dict=True).items()):
        count, gpus = held_at(part, times, "submitted_at", "started_at")
        frame = pl.DataFrame({"time": times, "jobs": np.rint(count).astype(np.int64), "gpus": gpus})
        parts.append(frame.with_columns(tenant=pl.lit(tenant), accelerator=pl.lit(accelerator)))
    return conform("queue", pl.concat(parts), QUEUE)


def request_rates(targets: dict[SeriesShape, Floats], times: pl.Series, rng: np.random.Generator) -> pl.DataFrame:
    """Return each serving tenant's requests per second (REQUESTS), from the target of its series."""
    hour = (times - ANCHOR).dt.total_minutes().to_numpy() / 60
    parts: list[pl.DataFrame] = []
    for tenant in sorted({shape.tenant for shape in targets if shape.serving}):
        gpus = sum(
            (target[-HOURS:] for shape, target in targets.items() if shape.serving and shape.tenant == tenant), 0
        )
        rate = REQUESTS_PER_GPU * np.interp(hour, np.arange(HOURS) + 0.5, gpus) * rng.lognormal(0, 0.05, len(hour))
        frame = pl.DataFrame({"time": times, "requests_per_second": np.round(rate, 3)})
        parts.append(frame.with_columns(tenant=pl.lit(tenant)))
    return conform("requests", pl.concat(parts), REQUESTS)


def _node(name: str, accelerator: str, times: pl.Series, load: Floats, rng: np.random.Generator) -> pl.DataFrame:
    """Return one node's samples: its GPUs follow the accelerator's load; memory, CPU and network follow the GPUs."""
    gpu = np.clip(load * rng.uniform(0.80, 0.98) + rng.normal(0, 0.04, len(load)), 0, 1)
    memory = np.clip(0.08 + 0.85 * load + rng.normal(0, 0.03, len(load)), 0, 1)
    cpu = np.clip(0.05 + 0.45 * gpu + rng.normal(0, 0.03, len(load)), 0, 1)
    network = np.maximum(0, 2e8 * gpu * rng.lognormal(0, 0.3, len(load)))
    return pl.DataFrame(
        {
            "time": times,
            "gpu_utilization": np.round(gpu, 4),
            "gpu_memory_utilization": np.round(memory, 4),
            "cpu_utilization": np.round(cpu, 4),
            "network_bytes_per_second": np.round(network),
        }
    ).with_columns(node=pl.lit(name), accelerator=pl.lit(accelerator))
