"""What drifts: survivors agree with loops, hazards with the truth, nothing knows the future, nothing is no number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gangplan.forecast import model, naive
from gangplan.forecast.arrays import Floats
from gangplan.forecast.bundle import Bundle, read_bundle, write_bundle
from gangplan.forecast.drift import held_quantiles, theta_quantiles
from gangplan.forecast.jobs import Jobs
from gangplan.forecast.panel import TOTAL, Panel, from_tables
from gangplan.forecast.survival import fit_hazard, survivors
from gangplan.tables import JOBS
from gangplan.telemetry.demand import hourly_demand
from gangplan.types import QUANTILES

START = datetime(2026, 1, 5, tzinfo=UTC)
HOURS = 600
KEYS = (("a", "throughput", "h100"), ("b", "cost", "l4"))


def a_table(mean_hours: float = 20.0, count: int = 1500, seed: int = 3) -> pl.DataFrame:
    """Jobs of two series that arrive at random and live exponentially long."""
    rng = np.random.default_rng(seed)
    begin = rng.uniform(-60, HOURS, count)
    life = rng.exponential(mean_hours, count)
    rows = [
        (f"job-{n}", *KEYS[n % 2], float(1 + n % 4), _at(begin[n]), _at(begin[n]), _at(begin[n] + life[n]))
        for n in range(count)
    ]
    return pl.DataFrame(rows, schema=JOBS, orient="row")


def _at(hour: float) -> datetime:
    return START + timedelta(hours=float(hour))


def a_panel(table: pl.DataFrame) -> Panel:
    """The panel of such jobs."""
    end = _at(HOURS)
    return from_tables(hourly_demand(table, START, end), None, end=end, jobs=table)


@pytest.fixture(scope="module")
def panel() -> Panel:
    """Two series of jobs."""
    return a_panel(a_table())


def jobs_in(panel: Panel) -> Jobs:
    """The jobs, which are there."""
    assert panel.jobs is not None
    return panel.jobs


def test_hazard_finds_the_rate_at_which_jobs_end(panel: Panel) -> None:
    """An exponential life has one rate at all ages that were seen."""
    rates = fit_hazard(jobs_in(panel), panel.hours).rates
    assert rates[6:11] == pytest.approx(1 / 20.0, rel=0.25)  # ages from 1.6 h to 51 h


def test_survivors_agree_with_plain_loops(panel: Panel) -> None:
    """Held later = sum over the jobs held now of GPUs times their chance to live on."""
    jobs = jobs_in(panel)
    plain = fit_hazard(jobs, panel.hours)
    ahead = np.array([1, 24])
    made = survivors(jobs, plain, panel.values.shape, 500, ahead)
    assert made.shape == (2, HOURS - 500, 2)
    for series, hour in ((0, 520), (1, 599)):
        live = (jobs.series == series) & (jobs.submitted < hour + 1) & (jobs.ended > hour + 1)
        held = jobs.gpus[live].sum()
        assert made[series, hour - 500, 0] == pytest.approx(held * np.exp(-0.5 / 20), rel=0.06)
        assert made[series, hour - 500, 1] == pytest.approx(held * np.exp(-23.5 / 20), rel=0.25)


def test_what_comes_later_changes_nothing(panel: Panel) -> None:
    """Other jobs after an origin leave the forecast from it as it was, ends after it too."""
    table = a_table()
    late = pl.col("submitted_at") > _at(400)
    changed = table.with_columns(
        gpus=pl.when(late).then(9.0).otherwise(pl.col("gpus")),
        ended_at=pl.when(pl.col("ended_at") > _at(400)).then(_at(700)).otherwise(pl.col("ended_at")),
    )
    asked = [one.until(400) for one in (panel, a_panel(changed))]
    made = [model.fit(one, 24, seed=7).quantiles(one, 24)[0] for one in asked]
    assert np.array_equal(made[0], made[1])


def test_jobs_that_will_end_lower_the_forecast(panel: Panel) -> None:
    """After a burst of short jobs, the survivors' forecast falls where the last value stays."""
    burst = a_table(count=2)[:0]
    rows = [(f"burst-{n}", *KEYS[0], 1.0, _at(h), _at(h), _at(h + 10)) for n, h in enumerate(range(20, 590, 30))]
    rows = [(f"{job}-{copy}", *rest) for job, *rest in rows for copy in range(40)]
    both = a_panel(pl.concat([a_table(), pl.DataFrame(rows, schema=burst.schema, orient="row")])).until(595)
    series = np.array([0])
    with_jobs = held_quantiles(both, both.values, series, fit_hazard(jobs_in(both), 595), 24)
    without = held_quantiles(both, both.values, series, None, 24)
    assert with_jobs[0, 11, 1] < without[0, 11, 1]


def test_theta_of_a_stretch_without_change_repeats_it() -> None:
    """A window that never moves has no cycle to find, and gives numbers all the same."""
    values: Floats = np.concatenate([np.arange(300.0), np.full(900, 12.0)])
    made, variant = theta_quantiles(values, 24, None)
    assert np.all(made == 12.0)
    assert theta_quantiles(values, 24, variant)[0].shape == (24, len(QUANTILES))


def test_weights_tell_drift_from_cycle() -> None:
    """A random walk trusts what drifts, a wave trusts the cycle, at each stretch of horizons."""
    rng = np.random.default_rng(1)
    walk = 200 + rng.normal(0, 1, 1000).cumsum()
    wave = 50 + 20 * np.sin(np.arange(1000) / 24 * 2 * np.pi) + rng.normal(0, 1, 1000)
    plain = a_panel(a_table())
    panel = Panel(start=START, keys=KEYS, values=np.stack([walk, wave]), events=plain.events)
    weights = naive.drift_weights(panel, 100)
    assert weights.shape == (2, 100)
    assert weights[0].min() > 0.8
    assert weights[1, 6:].max() < 0.2
    assert [step for step in range(1, 100) if weights[0, step] != weights[0, step - 1]] == [6, 24, 48, 72, 96]


def test_total_is_the_sum_and_keeps_its_jobs(panel: Panel) -> None:
    """The total is one series, whose jobs still know what they were."""
    total = panel.total()
    assert total.keys == (TOTAL,)
    assert np.allclose(total.values[0], panel.values.sum(axis=0))
    assert set(jobs_in(total).series) == {0}
    assert jobs_in(total).kinds == panel.keys
    assert np.isfinite(model.fit(total, 24, seed=7).quantiles(total, 24)[0]).all()


def test_bundle_gives_the_same_forecast_back(panel: Panel, tmp_path: Path) -> None:
    """Hazard, Theta's variants and trees survive the file, and the model answers without job records too."""
    fitted = model.fit(panel, 24, seed=7)
    write_bundle(tmp_path / "fits.json", Bundle(steering=fitted, tested=fitted))
    read = read_bundle(tmp_path / "fits.json").steering
    assert read.thetas == fitted.thetas != {}
    assert np.array_equal(read.quantiles(panel, 24)[0], fitted.quantiles(panel, 24)[0])
    bare = Panel(start=panel.start, keys=panel.keys, values=panel.values, events=panel.events)
    assert np.isfinite(read.quantiles(bare, 24)[0]).all()
