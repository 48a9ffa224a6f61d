"""The plan's problem in numbers: pools, workloads, periods and demand paths, checked before anything is solved.

Two exact merges keep it small. Pools with one accelerator and one rule of use serve as one group. Series of one class
and one accelerator have one price and one window, so they are planned as one workload; what it lacks is shared out to
its series by their demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gangplan.config import Settings
from gangplan.errors import InputError
from gangplan.plan.periods import Periods
from gangplan.plan.policy import CLASS_POLICY, LOST_HOURS_PER_INTERRUPTION, ClassPolicy
from gangplan.plan.scenarios import draw_paths
from gangplan.tables import QUANTILE_COLUMNS, QUANTILE_TABLE, conform
from gangplan.types import QUANTILES, SERIES, Fleet, Forecast, Pool, PoolKind, WorkloadClass

Array: TypeAlias = NDArray[np.float64]
Series: TypeAlias = tuple[str, str, str]

ANY = "any"
"""The accelerator of a series that any pool may serve."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """All series of one class and accelerator: one price, one window, one choice of pools."""

    workload_class: WorkloadClass
    accelerator: str

    @property
    def name(self) -> str:
        """How limits and explanations call it."""
        return f"{self.workload_class}/{self.accelerator}"

    @property
    def policy(self) -> ClassPolicy:
        """What its class allows."""
        return CLASS_POLICY[self.workload_class]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Pools that serve alike: one accelerator, interrupted or not."""

    accelerator: str
    spot: bool
    pools: tuple[int, ...]

    def serves(self, workload: Workload) -> bool:
        """Whether that workload may run here."""
        return workload.accelerator in (ANY, self.accelerator) and (workload.policy.spot or not self.spot)


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What the model is built from.

    `paths` are GPUs asked for, shape (scenarios, series, periods); `workload_of` maps each series to its workload.
    """

    fleet: Fleet
    settings: Settings
    start: datetime
    periods: Periods
    series: tuple[Series, ...]
    workloads: tuple[Workload, ...]
    workload_of: tuple[int, ...]
    paths: Array

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The fleet's pools, by whose place arrays are indexed."""
        return self.fleet.pools

    @cached_property
    def now(self) -> tuple[int, ...]:
        """The nodes that each pool runs now."""
        return tuple(self.fleet.nodes.get(pool.name, 0) for pool in self.pools)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The serving groups in the order of their first pool."""
        members: dict[tuple[str, bool], list[int]] = {}
        for index, pool in enumerate(self.pools):
            members.setdefault((pool.accelerator, pool.kind == PoolKind.SPOT), []).append(index)
        return tuple(Group(accelerator=a, spot=spot, pools=tuple(found)) for (a, spot), found in members.items())

    @cached_property
    def demand(self) -> Array:
        """GPUs asked for by workload, shape (scenarios, workloads, periods)."""
        member = np.array(self.workload_of)[:, None] == np.arange(len(self.workloads))
        return np.einsum("kst,sw->kwt", self.paths, member.astype(float))

    @cached_property
    def served_by(self) -> tuple[tuple[int, ...], ...]:
        """The groups that may serve each workload."""
        return tuple(tuple(g for g, group in enumerate(self.groups) if group.serves(w)) for w in self.workloads)

    @cached_property
    def usable_gpus(self) -> Array:
        """GPUs that one node of each pool brings, interruptions taken off."""
        return np.array([pool.gpus_per_node * derating(pool) for pool in self.pools])

    @cached_property
    def deferrable(self) -> Array:
        """GPU-hours that each workload may have waiting at the end of each period; none is left at the horizon's."""
        amounts = self.demand * np.array(self.periods.lengths)
        bound = np.stack(
            [self.periods.window_sums(amounts[:, w], load.policy.defer_hours) for w, load in enumerate(self.workloads)],
            axis=1,
        )
        bound[:, :, -1] = 0.0
        return bound

    @cached_property
    def floor(self) -> NDArray[np.int64]:
        """Nodes that each pool must run in each period: its minimum, as far as its lead time lets it get there."""
        least = np.zeros((len(self.pools), len(self.periods)), dtype=np.int64)
        for p, pool in enumerate(self.pools):
            least[p] = pool.min_nodes
            least[p, : self.periods.first_after(pool.lead_time_hours)] = min(pool.min_nodes, self.now[p])
        return least

    @cached_property
    def unavoidable_cost(self) -> float:
        """Money that the minimum nodes cost, whatever is decided."""
        prices = np.array([pool.price_per_node_hour for pool in self.pools])
        return float(prices @ (self.floor @ np.array(self.periods.lengths)))

    @property
    def budget(self) -> float | None:
        """The budget that can be held: never less than what the minimum nodes cost."""
        return None if self.settings.budget is None else max(self.settings.budget, self.unavoidable_cost)


def derating(pool: Pool) -> float:
    """Return the share of a pool's time that interruptions leave it."""
    return max(0.0, 1.0 - pool.interruption_per_hour * LOST_HOURS_PER_INTERRUPTION)


def pose(forecast: Forecast, fleet: Fleet, settings: Settings) -> Problem:
    """Draw the demand paths and put the problem together; refuse what cannot be planned."""
    start, series, quantiles = read_quantiles(forecast, settings.horizon_hours)
    _check_lead_times(fleet, quantiles.shape[1])
    periods = Periods.from_horizon(quantiles.shape[1])
    kinds = [_workload(one) for one in series]
    workloads = tuple(dict.fromkeys(kinds))
    return Problem(
        fleet=fleet,
        settings=settings,
        start=start,
        periods=periods,
        series=series,
        workloads=workloads,
        workload_of=tuple(workloads.index(kind) for kind in kinds),
        paths=periods.means(draw_paths(quantiles, QUANTILES, settings.scenarios, settings.seed)),
    )


def read_quantiles(forecast: Forecast, horizon: int) -> tuple[datetime, tuple[Series, ...], Array]:
    """Give the first hour, the series and their quantiles, GPUs of shape (series, hours, levels)."""
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
    bad = table.filter(~pl.all_horizontal(pl.col(column).is_finite().fill_null(False) for column in QUANTILE_COLUMNS))
    if not bad.is_empty():
        row = bad.row(0, named=True)
        column = next(c for c in QUANTILE_COLUMNS if row[c] is None or not np.isfinite(row[c]))
        where = f"forecast.quantiles[{'/'.join(row[part] for part in SERIES)}, {row['hour']:%Y-%m-%dT%H:%MZ}].{column}"
        raise InputError(where, row[column], "is not a number: mend the telemetry of that series or train again")


def _check_hours(table: pl.DataFrame, start: datetime, hours: int) -> None:
    """Refuse a series that has not each hour once."""
    wanted = pl.Series([start + timedelta(hours=hour) for hour in range(hours)]).to_list()
    for name, rows in table.group_by(SERIES, maintain_order=True):
        if rows["hour"].to_list() != wanted:
            label = "/".join(str(part) for part in name)
            raise InputError(
                f"forecast.quantiles[{label}]",
                f"{rows.height} rows",
                f"must have each of the {hours} hours from {start:%Y-%m-%dT%H:%MZ} once: forecast again",
            )


def _check_lead_times(fleet: Fleet, hours: int) -> None:
    """Refuse a pool that is meant to grow and cannot within the horizon."""
    for pool in fleet.pools:
        now = fleet.nodes.get(pool.name, 0)
        if pool.lead_time_hours >= hours and pool.max_nodes > now:
            raise InputError(
                f"pools[{pool.name}].lead_time_hours",
                pool.lead_time_hours,
                f"is not shorter than the horizon of {hours} h, so the pool cannot grow in it: set max_nodes to the "
                f"{now} nodes that run now, or plan further ahead (horizon_hours)",
            )


def _workload(series: Series) -> Workload:
    """Tell which workload a series belongs to."""
    _, kind, accelerator = series
    try:
        return Workload(workload_class=WorkloadClass(kind), accelerator=accelerator)
    except ValueError:
        known = ", ".join(WorkloadClass)
        raise InputError("forecast.workload_class", kind, f"is not a workload class: use one of {known}") from None
