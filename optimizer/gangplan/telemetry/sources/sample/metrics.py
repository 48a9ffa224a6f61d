"""The sample's metrics of nodes, queues and requests, computed from the jobs that ran and waited."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from gangplan.tables import NODES, QUEUE, REQUESTS, conform
from gangplan.telemetry.demand import Floats, hours_between
from gangplan.telemetry.sources.sample.world import ACCELERATORS, ANCHOR, DAYS, FINE, FINE_DAYS, HOURS, SeriesShape

REQUESTS_PER_GPU = 9.0
"""Requests per second that one serving GPU handles."""


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
