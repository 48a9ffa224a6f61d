"""Totals: summed path by path, beside summed quantiles, independent series and a model of the total alone."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.parts import traces
from benchmarks.parts.figures import Figure
from benchmarks.parts.traces import total_of, wql
from gangplan.forecast.models import demand
from gangplan.forecast.outlook import totals
from gangplan.forecast.series.arrays import Floats
from gangplan.forecast.series.panel import Panel, from_tables
from gangplan.telemetry.demand import hourly_demand
from gangplan.telemetry.sources.folder import read_path

HORIZON, ORIGINS, APPS = 72, 14, 12
OURS = "gangplan, path by path"


def openb() -> Panel:
    """openb by class, with its jobs."""
    found = read_path(traces.file("openb"), datetime.now(UTC))
    return from_tables(found.demand, None, end=found.end, jobs=found.jobs)


def dlrm() -> Panel:
    """The twelve largest applications of the recommendation service."""
    jobs, end = traces.dlrm_jobs()
    sizes = jobs.group_by("tenant").agg(pl.col("gpus").sum()).sort("gpus", "tenant", descending=True)
    mine = jobs.filter(pl.col("tenant").is_in(sizes["tenant"].head(APPS).to_list()))
    return from_tables(hourly_demand(mine, traces.MONDAY, end), None, end=end)


def figures() -> list[Figure]:
    """Print a table for each; give the loss beside the total's own model, and how many hours the band held."""
    made: list[Figure] = []
    for name, panel in (("openb", openb()), ("dlrm", dlrm())):
        came, found = _all(name, panel)
        table = Table(title=f"{name}: {len(panel.keys)} series, {ORIGINS} origins, {HORIZON} h", title_justify="left")
        for column in ("total", "WQL", "80 % band / under 95 %"):
            table.add_column(column)
        for way, said in found.items():
            table.add_row(way, f"{wql(said, came):.3f}", f"{_held(said, came):.0f}/{_below(said, came):.0f}")
        Console(width=120).print(table)
        rest = ", ".join(f"{way} {wql(said, came):.3f}" for way, said in found.items() if way != OURS)
        bands = ", ".join(f"{way} {_held(said, came):.0f}" for way, said in found.items() if way != OURS)
        made.append(Figure(name=f"total_{name}", value=wql(found[OURS], came), unit="% WQL, 72 h", peer=rest))
        made.append(Figure(name=f"total_band.{name}", value=_held(found[OURS], came), unit="%", peer=bands))
    return made


def _all(name: str, panel: Panel) -> tuple[Floats, dict[str, Floats]]:
    """Forecast the total from each origin in each way; fitted once, before the first."""
    last = panel.hours - HORIZON
    origins = [last - 24 * back for back in reversed(range(ORIGINS))]
    parts, whole = (demand.fit(one.until(origins[0]), HORIZON, seed=7) for one in (panel, total_of(panel)))
    rng = np.random.default_rng(0)
    found: dict[str, list[Floats]] = {OURS: [], "quantiles added": [], "independent": [], "its own model": []}
    for origin in track(origins, description=f"{name:6} totals", transient=True):
        known = panel.until(origin)
        quantiles, _ = parts.quantiles(known, HORIZON)
        paths = totals.paths_of(known, quantiles)
        found[OURS].append(totals.quantiles_of(paths.sum(axis=0)))
        found["quantiles added"].append(quantiles.sum(axis=0))
        found["independent"].append(totals.quantiles_of(rng.permuted(paths, axis=2).sum(axis=0)))
        found["its own model"].append(whole.quantiles(total_of(panel).until(origin), HORIZON)[0][0])
    came = np.stack([panel.values[:, origin : origin + HORIZON].sum(axis=0) for origin in origins])
    return came, {way: np.stack(said) for way, said in found.items()}


def _held(made: Floats, came: Floats) -> float:
    """Per cent of hours within the 80 % band."""
    return 100 * float(((came >= made[..., 0]) & (came <= made[..., 2])).mean())


def _below(made: Floats, came: Floats) -> float:
    """Per cent of hours under the 0.95 quantile."""
    return 100 * float((came <= made[..., 3]).mean())
