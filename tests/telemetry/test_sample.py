"""The sample is what it says it is: seeded, long, with its truth findable in the telemetry."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from gangplan.telemetry.demand import hourly_demand
from gangplan.telemetry.sources.sample.telemetry import make_sample
from gangplan.types import SERIES

if TYPE_CHECKING:
    from .conftest import World

HOUR = timedelta(hours=1)


def _series(frame: pl.DataFrame, key: tuple[str, str, str]) -> pl.DataFrame:
    """Return one series' rows."""
    return frame.filter(**dict(zip(SERIES, key, strict=True)))


def test_same_seed_gives_the_same_bytes_and_another_seed_others():
    """The digest depends on the seed alone."""
    assert make_sample(7).telemetry.sha256() == make_sample(7).telemetry.sha256()
    assert make_sample(7).telemetry.sha256() != make_sample(8).telemetry.sha256()


@pytest.mark.parametrize("seed", range(3))
def test_any_seed_gives_a_cluster_of_some_hundred_gpus(seed: int):
    """Whatever the seed: nine series, a total mean of 200 to 350 GPUs, every job's times in order."""
    made = make_sample(seed).telemetry
    total = made.demand.group_by("hour").agg(pl.sum("gpus"), pl.col("gpus").null_count().alias("nulls"))
    assert 200 < total.filter(pl.col("nulls") == 0)["gpus"].mean() < 350  # pyright: ignore[reportOperatorIssue]
    assert made.jobs["job_id"].is_unique().all()
    late = (pl.col("started_at") < pl.col("submitted_at")) | (pl.col("ended_at") <= pl.col("started_at"))
    assert made.jobs.filter(late).is_empty()


def test_demand_is_what_the_jobs_asked_for(world: World):
    """Where demand was sampled it is the jobs' GPUs, running and queued; where it was not it is null."""
    asked = hourly_demand(world.telemetry.jobs, world.telemetry.start, world.telemetry.end)
    both = world.telemetry.demand.join(asked, on=["hour", *SERIES], suffix="_asked")
    assert both.height == world.telemetry.demand.height
    assert both.drop_nulls("gpus").filter((pl.col("gpus") - pl.col("gpus_asked")).abs() > 1e-6).is_empty()
    gone = both.filter(pl.col("gpus").is_null())
    in_gap = pl.col("hour").is_between(*world.truth.gap, closed="left")
    assert gone.filter(in_gap).height == 9 * 6
    assert gone.filter(~in_gap).join(world.truth.missing, on=["hour", *SERIES], how="anti").is_empty()


def test_queueing_makes_jobs_wait_but_serving_does_not(world: World):
    """Some batch jobs wait for minutes and more, serving replicas never do, and no start overtakes an earlier one."""
    jobs = world.telemetry.jobs.drop_nulls("started_at")
    waits = jobs.with_columns(wait=(pl.col("started_at") - pl.col("submitted_at")).dt.total_seconds())
    serving = waits.filter(workload_class="latency")["wait"]
    batch = waits.filter(pl.col("workload_class") != "latency")
    assert serving.max() < 300  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    assert 0.02 < (batch["wait"] > 600).mean() < 0.5  # pyright: ignore[reportOptionalOperand]
    for _, line in batch.sort("submitted_at").group_by("accelerator", maintain_order=True):
        assert line.filter(pl.col("started_at").diff().dt.total_seconds() < -1).is_empty()


def test_in_the_outage_nodes_go_and_the_queue_grows_but_demand_does_not_fall(world: World):
    """Usage is cut off by the outage; what is asked for is not: the trap that demand has to avoid."""
    outage = world.truth.outage
    inside = pl.col("time").is_between(outage.start, outage.end, closed="left")
    before = pl.col("time").is_between(outage.start - 10 * HOUR, outage.start, closed="left")
    nodes = world.telemetry.nodes.filter(accelerator=outage.accelerator)
    up = [nodes.filter(when)["node"].n_unique() for when in (before, inside)]
    assert up[1] < 0.5 * up[0]
    queue = world.telemetry.queue.filter(accelerator=outage.accelerator).group_by("time").agg(pl.sum("gpus"))
    means = [queue.filter(when)["gpus"].mean() for when in (before, inside)]
    assert means[1] > 10 + 2 * means[0]  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    day = world.telemetry.demand.filter(
        pl.col("accelerator") == outage.accelerator, pl.col("workload_class") != "latency"
    )
    hours = day.group_by("hour").agg(pl.sum("gpus")).sort("hour")
    asked = [
        hours.filter(pl.col("hour").is_between(start, start + 10 * HOUR, closed="left"))["gpus"].mean()
        for start in (outage.start - timedelta(weeks=1), outage.start)
    ]
    assert asked[1] > 0.8 * asked[0]  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]


def test_spikes_stand_out_and_no_calendar_announces_them(world: World):
    """Each spike is far above the same hours of the weeks around it, and is no event."""
    lived = [spike for spike in world.truth.spikes if spike.end <= world.telemetry.end - timedelta(weeks=1)]
    assert len(lived) >= 6
    for spike in lived:
        demand = _series(world.telemetry.demand, spike.series)
        hit = demand.filter(pl.col("hour").is_between(spike.start, spike.end, closed="left"))["gpus"]
        around = demand.filter(
            pl.any_horizontal(
                pl.col("hour").is_between(spike.start + step, spike.end + step, closed="left")
                for step in (timedelta(weeks=-1), timedelta(weeks=1))
            )
        )["gpus"]
        if hit.null_count() < len(hit) and around.null_count() < len(around):
            # the hour's mean begins a little before the replicas of the spike have gone up
            assert hit.max() > 1.25 * around.mean()  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    assert set(world.telemetry.events["kind"]) == {"release", "campaign", "holiday"}


def test_growth_daily_and_weekly_cycles_can_be_found(world: World):
    """A serving series that grows by 0.3 % a day, peaks at 15 h and rests at the weekend shows all three."""
    key = ("language", "latency", "h100")
    demand = _series(world.telemetry.demand, key).drop_nulls("gpus")
    weeks = demand.group_by_dynamic("hour", every="7d").agg(pl.mean("gpus"))["gpus"]
    daily_growth = (weeks[-2] / weeks[0]) ** (1 / (7 * (len(weeks) - 2))) - 1
    assert daily_growth == pytest.approx(world.truth.growth_per_day[key], abs=0.001)
    by_hour = demand.group_by(pl.col("hour").dt.hour().alias("h")).agg(pl.mean("gpus")).sort("gpus")
    assert by_hour["h"][-1] in (14, 15, 16)
    weekend = pl.col("hour").dt.weekday() >= 6
    means = [demand.filter(when)["gpus"].mean() for when in (weekend, ~weekend)]
    assert means[0] == pytest.approx(0.8 * means[1], rel=0.08)  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]


def test_events_reach_beyond_the_present(world: World):
    """A release or campaign that is still to come is known, so that a forecast can use it."""
    ahead = world.telemetry.events.filter(pl.col("start") > world.telemetry.end)
    assert {"release", "campaign"} <= set(ahead["kind"])


def test_metrics_are_shares_and_finer_than_hourly_at_the_end(world: World):
    """Utilisations lie in 0 to 1; the last two weeks are sampled every 15 minutes; requests follow serving demand."""
    nodes, end = world.telemetry.nodes, world.telemetry.end
    shares = nodes.select(pl.col("^.*_utilization$"))
    assert shares.select(pl.all().is_between(0, 1).all()).row(0) == (True, True, True)
    for frame in (nodes, world.telemetry.queue, world.telemetry.requests):
        times = frame.filter(pl.col("time") >= end - timedelta(days=14))["time"].unique()
        assert 14 * 96 - 24 <= len(times) <= 14 * 96
    rate = (
        world.telemetry.requests.filter(tenant="vision")
        .group_by_dynamic("time", every="1h")
        .agg(pl.mean("requests_per_second"))
    )
    asked = _series(world.telemetry.demand, ("vision", "latency", "l4"))
    assert rate.join(asked, left_on="time", right_on="hour").select(pl.corr("requests_per_second", "gpus")).item() > 0.9
