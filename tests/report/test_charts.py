"""What the charts are drawn from, and that odd inputs still give a chart."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from gangplan.report import capacity, demand, headline, reservations
from gangplan.tables import QUANTILE_TABLE, empty


def test_a_missing_hour_is_a_gap_and_no_zero(world: Any) -> None:
    """The total has no value where any series is missing, and the true sum elsewhere."""
    total = demand.total_demand(world.usage)
    assert total["gpus"].null_count() == 7
    assert total.height == 14 * 24
    hour = total["hour"][-1]
    asked = world.usage.demand.filter(pl.col("hour") == hour)["gpus"].sum()
    assert total["gpus"][-1] == pytest.approx(asked)


def test_spot_pools_are_hatched(world: Any) -> None:
    """Capacity that may be taken away is told apart by more than its colour."""
    spot = pl.when(pl.col("pool") == "a100-spot").then(3).otherwise("nodes").alias("nodes")
    hours = world.plan.nodes.select("hour").unique()
    added = hours.with_columns(pool=pl.lit("a100-spot"), nodes=pl.lit(3, pl.Int64))
    nodes = pl.concat([world.plan.nodes.with_columns(spot), added]).unique(["hour", "pool"], keep="last")
    plan = replace(world.plan, nodes=nodes)
    assert [layer.pool.name for layer in capacity.layers(plan) if layer.hatched] == ["a100-spot"]
    assert "<pattern" in capacity.draw_plan(plan, world.forecast)
    assert "<pattern" not in capacity.draw_plan(world.plan, world.forecast)


def test_planned_gpus_are_nodes_times_size(world: Any) -> None:
    """The stack's height is the plan's GPUs, by accelerator as well."""
    sizes = {pool.name: pool.gpus_per_node for pool in world.plan.fleet.pools}
    first = world.plan.nodes.filter(pl.col("hour") == world.plan.issued_at).to_dicts()
    assert capacity.planned_gpus(world.plan)["gpus"][0] == sum(row["nodes"] * sizes[row["pool"]] for row in first)
    assert capacity.planned_gpus(world.plan, "h100-lab")["gpus"].unique().to_list() == [8]


def test_reservations_of_days_ago_do_not_crush_the_axis(world: Any) -> None:
    """Going back stops at a pause of more than three times the span shown; what is together stays together."""
    old = [
        replace(
            one,
            submitted_at=one.submitted_at - timedelta(days=3),
            granted_at=None,
            expires_at=None,
            ended_at=None,
            first_eta=None,
            eta=None,
        )
        for one in world.reservations
    ]
    shown = reservations.newest_together([*old, *world.reservations])
    assert [one.id for one in shown] == [one.id for one in world.reservations]
    assert reservations.newest_together(old) == old


def test_one_reservation_granted_at_once_has_a_chart(world: Any) -> None:
    """A single instant does not collapse the time axis."""
    one = world.reservations[0]
    drawn = reservations.draw([replace(one, ended_at=one.granted_at, expires_at=None)])
    assert "vision · 8 GPUs" in drawn


def test_an_empty_forecast_and_an_empty_past_still_draw(world: Any) -> None:
    """Nothing to show gives a chart whose description says so."""
    nothing = replace(world.forecast, quantiles=empty(QUANTILE_TABLE))
    unknown = replace(world.usage, demand=world.usage.demand.with_columns(gpus=pl.lit(None, pl.Float64)))
    drawn = demand.draw_demand(unknown, nothing)
    assert "No demand was recorded" in drawn
    assert "There is no forecast." in drawn
    assert headline.demand_now(unknown).note == "no hour of demand is known"
    assert headline.peak_ahead(nothing).note == "there is no forecast"


def test_the_strip_says_what_the_values_hold(world: Any) -> None:
    """Demand, loss, cost, shortage and waits of the strip are those of the values."""
    shown = {
        tile.name: tile
        for tile in headline.tiles(
            usage=world.usage,
            training=world.training,
            forecast=world.forecast,
            plan=world.plan,
            reservations=world.reservations,
        )
    }
    last = world.usage.demand.filter(pl.col("hour") == pl.col("hour").max())["gpus"].sum()
    assert shown["Demand now"].value == f"{last:,.0f}"
    assert shown["Forecast loss (WQL)"].note == "39 % less than naive's 8.4"
    assert shown["Plan cost"].value == f"{world.plan.total_cost:,.0f}"
    worst = world.plan.shortage.group_by("hour").agg(pl.col("p95_gpus").sum())["p95_gpus"].max()
    assert shown["Shortage at 0.95"].value == f"{worst:,.0f}"
    assert shown["Mean wait"].value == "7 min"
    assert shown["Mean wait"].note.endswith("4 reservations, 1 waiting now")


def test_numbers_on_the_axes_are_utc(world: Any) -> None:
    """Hours on the reservations' axis are the hours in UTC that they were made at, whatever the machine's zone."""
    ticks = re.findall(r">(\d\d:\d\d)</text>", reservations.draw(world.reservations))
    assert ticks[0] == "08:10"
