"""The pods of Alibaba's cluster trace gpu-v2023 ("openb"): the demand of a production cluster over 149 days.

Only its last 34 days are used. The trace has no pod that ended before second 9,964,972, so its first 115 days show the
growing number of pods that survived until then, not the demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from gangplan.errors import InputError
from gangplan.tables import JOBS, conform
from gangplan.telemetry.demand import hourly_demand
from gangplan.telemetry.rows import check, not_before, number, one_of, text
from gangplan.telemetry.values import Telemetry
from gangplan.types import ANY, WorkloadClass

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of the trace's second 0 before `align` moves it; the trace has no calendar."""

START, END = EPOCH + timedelta(hours=2768), EPOCH + timedelta(hours=3584)

QOS = {
    "LS": ("ls", WorkloadClass.LATENCY),
    "BE": ("be", WorkloadClass.COST),
    "Burstable": ("standard", WorkloadClass.THROUGHPUT),
    "Guaranteed": ("standard", WorkloadClass.THROUGHPUT),
}
"""Quality of service -> tenant (the trace has none) and workload class: latency-sensitive, best effort, the rest."""

_NODE_COLUMNS = {"sn", "gpu", "model"}
_COLUMNS = {"name", "num_gpu", "gpu_milli", "qos", "creation_time", "deletion_time"}
_LONGEST = 1e9  # seconds


def is_pods(columns: Sequence[str]) -> bool:
    """Return whether a file with these columns is the trace's list of pods."""
    return set(columns) >= _COLUMNS


def is_nodes(columns: Sequence[str]) -> bool:
    """Return whether a file with these columns is the trace's list of nodes, which has no times and is not used."""
    return set(columns) >= _NODE_COLUMNS


def from_pods(rows: pl.DataFrame, source: str) -> Telemetry:
    """Return the trace's telemetry: a pod asks for num_gpu x gpu_milli/1000 GPUs from its creation to its deletion."""
    checked = check(rows, _FIELDS, _RELATIONS, ("name",))
    jobs = _jobs(checked.frame)
    used = jobs.filter(pl.col("gpus") > 0, pl.col("submitted_at") < END, pl.col("ended_at").fill_null(END) > START)
    if used.is_empty():
        why = str(checked.rejected[0]) if checked.rejected else "no pod asks for a GPU in hours 2768 to 3583"
        raise InputError("source", source, f"has no usable row: {why}")
    return Telemetry(
        source=source,
        start=START,
        end=END,
        rows=used.height,
        demand=hourly_demand(used, START, END),
        jobs=used,
        relative=True,
        rejected=checked.rejected,
        rejected_count=checked.rejected_count,
        skipped=jobs.height - used.height,
    )


_FIELDS = (
    text("name"),
    number("num_gpu", most=1024),
    number("gpu_milli", most=1000),
    text("gpu_spec", optional=True),
    one_of("qos", list(QOS)),
    number("creation_time", most=_LONGEST),
    number("deletion_time", most=_LONGEST, optional=True),
    number("scheduled_time", most=_LONGEST, optional=True),
)
_RELATIONS = tuple(not_before(later, "creation_time") for later in ("deletion_time", "scheduled_time"))


def _jobs(pods: pl.DataFrame) -> pl.DataFrame:
    """Return pods as jobs (JOBS); a pod that may run on several models counts as asking for the first."""
    model = pl.col("gpu_spec").str.split("|").list.first().str.strip_chars().str.to_lowercase()
    times = {"submitted_at": "creation_time", "started_at": "scheduled_time", "ended_at": "deletion_time"}
    return conform(
        "jobs",
        pods.with_columns(
            job_id=pl.col("name"),
            tenant=pl.col("qos").replace_strict({qos: tenant for qos, (tenant, _) in QOS.items()}),
            workload_class=pl.col("qos").replace_strict({qos: kind.value for qos, (_, kind) in QOS.items()}),
            accelerator=model.fill_null(ANY),
            gpus=pl.col("num_gpu") * pl.col("gpu_milli") / 1000,
            **{ours: EPOCH + pl.duration(seconds=pl.col(theirs).cast(pl.Int64)) for ours, theirs in times.items()},
        ),
        JOBS,
    )
