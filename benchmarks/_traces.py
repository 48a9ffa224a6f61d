"""The public traces as panels: read where they lie, beside the project, and never copied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from benchmarks._figures import ROOT
from gangplan.forecast.panel import Panel, from_tables
from gangplan.tables import DEMAND, JOBS, conform
from gangplan.telemetry.demand import hourly_demand
from gangplan.telemetry.tabular import read_path

DATA = ROOT.parent / "shared" / "data"
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
_BEFORE = timedelta(hours=2000)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A trace's total demand, how far it is forecast, and from how many origins a day apart."""

    name: str
    panel: Panel
    horizon: int
    count: int

    @property
    def origins(self) -> list[int]:
        """Hours known at each origin; the last hour of all is not used, as in the published protocol."""
        last = self.panel.hours - self.horizon
        return [last - 24 * back for back in reversed(range(self.count))]

    @property
    def came(self) -> np.ndarray:
        """What came after each origin (origins x horizon)."""
        return np.stack([self.panel.values[0, origin : origin + self.horizon] for origin in self.origins])


def read(name: str) -> Trace:
    """Read one of `NAMES`."""
    return _READERS[name]()


def _openb() -> Trace:
    """GPUs asked for by the pods of Alibaba gpu-v2023, after its ramp of survivors."""
    found = read_path(DATA / "openb" / "pods.csv.gz", datetime.now(UTC))
    panel = from_tables(found.demand, None, end=found.end, jobs=found.jobs)
    return Trace(name="openb", panel=panel.total(), horizon=72, count=14)


def _dlrm() -> Trace:
    """GPUs asked for by a recommendation service; a blank creation lies before, a blank deletion after the trace."""
    rows = pl.read_csv(DATA / "dlrm" / "instances.csv.gz", infer_schema_length=None)
    end = _MONDAY + timedelta(hours=743)

    def moment(name: str) -> pl.Expr:
        return pl.lit(_MONDAY) + pl.duration(microseconds=(pl.col(name).cast(pl.Float64) * 1e6).cast(pl.Int64))

    named = rows.select(
        job_id="instance_sn",
        tenant="app_name",
        workload_class=pl.lit("throughput"),
        accelerator=pl.lit("any"),
        gpus=pl.col("gpu_request").cast(pl.Float64),
        submitted_at=pl.coalesce(moment("creation_time"), pl.lit(_MONDAY - _BEFORE)),
        started_at=pl.lit(None),
        ended_at=moment("deletion_time"),
    ).filter(pl.col("gpus") > 0)
    jobs = conform("jobs", named, JOBS)
    panel = from_tables(hourly_demand(jobs, _MONDAY, end), None, end=end, jobs=jobs)
    return Trace(name="dlrm", panel=panel.total(), horizon=72, count=14)


def _genai() -> Trace:
    """Seconds of work asked for by image requests in each hour; the cut first and last hours are left out."""
    rows = pl.read_csv(DATA / "genai" / "lora_requests.csv.gz", infer_schema_length=None, try_parse_dates=True)
    hour = pl.col("gmt_create").dt.truncate("1h")
    sums = rows.group_by(hour=hour).agg(gpus=pl.col("exec_time_seconds").sum().cast(pl.Float64)).sort("hour")
    whole = sums.upsample("hour", every="1h").with_columns(pl.col("gpus").fill_null(0.0))[1:-1]
    series = {"tenant": "images", "workload_class": "latency", "accelerator": "any"}
    utc = pl.col("hour").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    demand = whole.with_columns(utc, **{name: pl.lit(value) for name, value in series.items()})
    end = demand["hour"][-1] + timedelta(hours=1)
    panel = from_tables(conform("demand", demand, DEMAND), None, end=end)
    return Trace(name="genai", panel=panel, horizon=48, count=10)


_READERS: dict[str, Callable[[], Trace]] = {"openb": _openb, "dlrm": _dlrm, "genai": _genai}
NAMES = tuple(_READERS)
