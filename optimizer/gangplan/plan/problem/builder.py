"""From forecast, fleet and policy to the plan's problem; what cannot be planned is refused with its field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from gangplan.config import Settings
from gangplan.errors import InputError
from gangplan.plan.problem.periods import BLOCKS, Array, Blocks, Counts, Periods
from gangplan.plan.problem.policy import PlanPolicy
from gangplan.plan.problem.problem import Problem, Series, Workload
from gangplan.plan.problem.scenarios import draw_paths, draw_supply
from gangplan.tables import QUANTILE_COLUMNS, QUANTILE_TABLE, conform
from gangplan.types import QUANTILES, SERIES, Fleet, Forecast, Plan, WorkloadClass


def build_problem(
    forecast: Forecast,
    fleet: Fleet,
    settings: Settings,
    *,
    policy: PlanPolicy | None = None,
    previous: Plan | None = None,
    held: Mapping[str, Sequence[int]] | None = None,
    blocks: Blocks = BLOCKS,
) -> Problem:
    """Draw the scenarios and build the problem; refuse what cannot be planned.

    `held` are nodes that reservations use, by pool and hour; `previous` is the plan that this one follows.
    """
    policy = policy or PlanPolicy()
    start, series, quantiles = _read_quantiles(forecast, settings.horizon_hours)
    _check_lead_times(fleet, quantiles.shape[1])
    periods = Periods.from_horizon(quantiles.shape[1], blocks)
    kinds = [workload_of(row, policy) for row in series]
    workloads = tuple(dict.fromkeys(kinds))
    return Problem(
        fleet=fleet,
        settings=settings,
        policy=policy,
        start=start,
        periods=periods,
        series=series,
        workloads=workloads,
        workload_of=tuple(workloads.index(kind) for kind in kinds),
        quantiles=quantiles,
        paths=periods.means(draw_paths(quantiles, QUANTILES, settings.scenarios, settings.seed)),
        supply=draw_supply(fleet.pools, policy, periods, settings.scenarios, settings.seed),
        held=_held(held, fleet, periods),
        previous=_nodes(previous, fleet, start, periods, missing=-1),
    )


def _held(held: Mapping[str, Sequence[int]] | None, fleet: Fleet, periods: Periods) -> Counts:
    """Return the most nodes that reservations use within each period; hours that are not given have none."""
    hourly = np.zeros((len(fleet.pools), periods.hours), dtype=np.int64)
    for p, pool in enumerate(fleet.pools):
        given = list((held or {}).get(pool.name, ()))[: periods.hours]
        hourly[p, : len(given)] = given
    return np.maximum.reduceat(hourly, periods.starts, axis=1)


def nodes_of(plan: Plan, problem: Problem) -> Counts:
    """Return a plan's nodes, shape (pools, periods) of its problem."""
    return _nodes(plan, problem.fleet, problem.start, problem.periods, missing=0)


def _nodes(plan: Plan | None, fleet: Fleet, start: datetime, periods: Periods, *, missing: int) -> Counts:
    """Return a plan's nodes at the start of each period, shape (pools, periods); `missing` where it has none."""
    nodes = np.full((len(fleet.pools), len(periods)), missing, dtype=np.int64)
    pool_index = {pool.name: p for p, pool in enumerate(fleet.pools)}
    period_index = {int(hour): t for t, hour in enumerate(periods.starts)}
    for hour, pool, count in () if plan is None else plan.nodes.iter_rows():
        t = period_index.get(round((hour - start).total_seconds() / 3600))
        if t is not None and pool in pool_index:
            nodes[pool_index[pool], t] = count
    return nodes


def _check_lead_times(fleet: Fleet, hours: int) -> None:
    """Refuse a pool that may grow, but not within the horizon."""
    for pool in fleet.pools:
        now = fleet.nodes.get(pool.name, 0)
        if pool.lead_time_hours >= hours and pool.max_nodes > now:
            raise InputError(
                f"pools[{pool.name}].lead_time_hours",
                pool.lead_time_hours,
                f"is not shorter than the horizon of {hours} h, so the pool cannot grow in it: set max_nodes to the "
                f"{now} nodes that run now, or plan further ahead (horizon_hours)",
            )


def workload_of(series: Series, policy: PlanPolicy) -> Workload:
    """Return the workload that a series belongs to."""
    tenant, kind, accelerator = series
    try:
        known = WorkloadClass(kind)
    except ValueError:
        raise InputError.unknown("forecast.workload_class", kind, "not a workload class", WorkloadClass) from None
    return Workload(workload_class=known, accelerator=accelerator, tenant=tenant if tenant in policy.quotas else "")


def _read_quantiles(forecast: Forecast, horizon: int) -> tuple[datetime, tuple[Series, ...], Array]:
    """Return the first hour, the series and their quantiles: GPUs, shape (series, hours, levels)."""
    table = conform("forecast", forecast.quantiles, QUANTILE_TABLE).sort(*SERIES, "hour")
    if table.is_empty():
        raise InputError("forecast.quantiles", "[]", "is empty: run `gangplan train` on telemetry with demand")
    start: datetime = table["hour"].min()  # pyright: ignore[reportAssignmentType]
    last: datetime = table["hour"].max()  # pyright: ignore[reportAssignmentType]
    hours = min(horizon, int((last - start) / timedelta(hours=1)) + 1)
    table = table.filter(pl.col("hour") < start + timedelta(hours=hours))
    _check_numbers(table)
    series = tuple(table.select(SERIES).unique(maintain_order=True).iter_rows())
    _check_hours(table, start, hours)
    values = table.select(QUANTILE_COLUMNS).to_numpy().reshape(len(series), hours, len(QUANTILES))
    return start, series, values


def _check_numbers(table: pl.DataFrame) -> None:
    """Refuse the first row whose quantiles are not finite numbers."""
    wrong = table.filter(~pl.all_horizontal(pl.col(column).is_finite().fill_null(False) for column in QUANTILE_COLUMNS))
    if not wrong.is_empty():
        row = wrong.row(0, named=True)
        column = next(name for name in QUANTILE_COLUMNS if row[name] is None or not np.isfinite(row[name]))
        where = f"forecast.quantiles[{'/'.join(row[part] for part in SERIES)}, {row['hour']:%Y-%m-%dT%H:%MZ}].{column}"
        raise InputError(where, row[column], "is not a number: correct the telemetry of that series or train again")


def _check_hours(table: pl.DataFrame, start: datetime, hours: int) -> None:
    """Refuse a series that does not have each hour once."""
    expected = [start + timedelta(hours=hour) for hour in range(hours)]
    for name, rows in table.group_by(SERIES, maintain_order=True):
        if rows["hour"].to_list() != expected:
            label = "/".join(str(part) for part in name)
            remedy = f"must have each of the {hours} hours from {start:%Y-%m-%dT%H:%MZ} once: forecast again"
            raise InputError(f"forecast.quantiles[{label}]", f"{rows.height} rows", remedy)
