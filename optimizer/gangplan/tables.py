"""The declared schemas of the tables that stages hand over. Times are in UTC, to the microsecond; GPUs are counts.

Only code of the extras `forecast` and `plan` imports this module, because it needs Polars.
"""

from __future__ import annotations

import polars as pl

from gangplan.errors import InputError
from gangplan.types import QUANTILES

UTC_TIME = pl.Datetime("us", "UTC")
_SERIES: dict[str, pl.DataType] = {"tenant": pl.String(), "workload_class": pl.String(), "accelerator": pl.String()}
QUANTILE_COLUMNS = tuple(f"q{level:g}" for level in QUANTILES)
"""q0.1 q0.5 q0.9 q0.95 q0.99"""

Schema = dict[str, pl.DataType]

# gpus: GPUs of running and queued work, as the time-weighted mean of the hour; null where telemetry is missing.
DEMAND: Schema = {"hour": UTC_TIME, **_SERIES, "gpus": pl.Float64()}
# One row for each job. started_at is null while it waits, ended_at until it has ended.
JOBS: Schema = {
    "job_id": pl.String(),
    **_SERIES,
    "gpus": pl.Float64(),
    "submitted_at": UTC_TIME,
    "started_at": UTC_TIME,
    "ended_at": UTC_TIME,
}
# Utilisations are shares from 0 to 1.
NODES: Schema = {
    "time": UTC_TIME,
    "node": pl.String(),
    "accelerator": pl.String(),
    "cpu_utilization": pl.Float64(),
    "gpu_utilization": pl.Float64(),
    "gpu_memory_utilization": pl.Float64(),
    "network_bytes_per_second": pl.Float64(),
}
QUEUE: Schema = {
    "time": UTC_TIME,
    "tenant": pl.String(),
    "accelerator": pl.String(),
    "jobs": pl.Int64(),
    "gpus": pl.Float64(),
}
REQUESTS: Schema = {"time": UTC_TIME, "tenant": pl.String(), "requests_per_second": pl.Float64()}
# Releases, campaigns and holidays, also future ones. A null tenant means all tenants.
EVENTS: Schema = {"start": UTC_TIME, "end": UTC_TIME, "kind": pl.String(), "tenant": pl.String()}
# What people announced. kind: that of an event, or "job" (a planned job asks for `gpus`), or "target" (demand should
# grow by the share `growth` from start to end). like: a known kind of event with the same effect. status: "tentative",
# "confirmed", or null, which means confirmed; what was cancelled has no row.
ANNOUNCED: Schema = {
    **EVENTS,
    "like": pl.String(),
    "workload_class": pl.String(),
    "accelerator": pl.String(),
    "gpus": pl.Float64(),
    "growth": pl.Float64(),
    "status": pl.String(),
}

QUANTILE_TABLE: Schema = {"hour": UTC_TIME, **_SERIES, **dict.fromkeys(QUANTILE_COLUMNS, pl.Float64())}
# What was forecast for an hour, and the demand that came.
COMPARED: Schema = {**QUANTILE_TABLE, "gpus": pl.Float64()}
# A row of a back-test: what the model forecast at `origin` for `hour`, and the demand that came.
BACKTEST: Schema = {"origin": UTC_TIME, **QUANTILE_TABLE, "naive": pl.Float64(), "gpus": pl.Float64()}

PLAN_NODES: Schema = {"hour": UTC_TIME, "pool": pl.String(), "nodes": pl.Int64()}
# What engines had of a pool in an hour: nodes planned, ordered and usable, and the slots of nodes under grants.
CARRIED: Schema = {
    "hour": UTC_TIME,
    "pool": pl.String(),
    "planned": pl.Int64(),
    "ordered": pl.Int64(),
    "usable": pl.Int64(),
    "granted": pl.Float64(),
}
# carbon_kg: kilograms of carbon dioxide, expected over the demand paths.
PLAN_COST: Schema = {
    "pool": pl.String(),
    "node_hours": pl.Float64(),
    "cost": pl.Float64(),
    "carbon_kg": pl.Float64(),
}
# A cap for work of a class on a pool's nodes in an hour. knob: "cap_watts" or "clock_mhz", what `setting` is for each
# GPU; 0 means none. gpus: GPUs at work, expected over the demand paths. speed, watts: as its curve was measured.
PLAN_CAPS: Schema = {
    "hour": UTC_TIME,
    "pool": pl.String(),
    "workload_class": pl.String(),
    "knob": pl.String(),
    "setting": pl.Int64(),
    "gpus": pl.Float64(),
    "speed": pl.Float64(),
    "watts": pl.Float64(),
}
PLAN_SHORTAGE: Schema = {
    "hour": UTC_TIME,
    **_SERIES,
    "expected_gpus": pl.Float64(),
    "p95_gpus": pl.Float64(),
    "probability": pl.Float64(),
}
PLAN_LIMITS: Schema = {
    "family": pl.String(),
    "name": pl.String(),
    "hours": pl.Int64(),
    "amount": pl.Float64(),
    "cost": pl.Float64(),
}

# level: factor on all quantiles. width: factor on the distance of each quantile from the median.
CORRECTIONS: Schema = {**_SERIES, "level": pl.Float64(), "width": pl.Float64(), "hours": pl.Int64()}
# bias, error_sd: mean and standard deviation, in GPUs, of the forecast's median minus the demand. width: the factor on
# the distance of each quantile from the median with which, without the bias, q0.1 to q0.9 would hold 80 % of the hours.
SCORE_BY_SERIES: Schema = {
    **_SERIES,
    "wql": pl.Float64(),
    "bias": pl.Float64(),
    "error_sd": pl.Float64(),
    "coverage_80": pl.Float64(),
    "width": pl.Float64(),
    "mean_gpus": pl.Float64(),
    "hours": pl.Int64(),
}


def conform(name: str, frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Return the schema's columns in its order and types, or refuse a frame that lacks one."""
    missing = [column for column in schema if column not in frame.columns]
    if missing:
        raise InputError(name, ", ".join(missing), f"is missing: the table needs the columns {', '.join(schema)}")
    return frame.select([pl.col(column).cast(kind) for column, kind in schema.items()])


def pinball_loss() -> pl.Expr:
    """Return each row's loss in GPUs: twice the pinball loss of `gpus` against each quantile, mean over the levels.

    Source: Koenker and Bassett, Regression quantiles, Econometrica 46 (1978).
    """
    missed = [pl.col("gpus") - pl.col(column) for column in QUANTILE_COLUMNS]
    losses = [2 * pl.max_horizontal(q * miss, (q - 1) * miss) for q, miss in zip(QUANTILES, missed, strict=True)]
    return pl.mean_horizontal(losses)


def empty(schema: Schema) -> pl.DataFrame:
    """Return a frame of that schema without rows."""
    return pl.DataFrame(schema=schema)
