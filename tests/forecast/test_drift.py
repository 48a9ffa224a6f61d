"""What drifts: survivors agree with plain loops, hazards with the truth, and nothing knows the future."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from statsforecast.theta import auto_theta, forecast_theta

from gangplan.forecast.models import demand, naive
from gangplan.forecast.models.bundle import Bundle, bundle_bytes, read_bundle
from gangplan.forecast.models.survival import fit_hazard, forecast_held, survivors
from gangplan.forecast.models.theta import Theta, fit_theta, theta_quantiles
from gangplan.forecast.series.arrays import Floats, tidy
from gangplan.forecast.series.panel import Jobs, Panel, from_tables
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
    made = [demand.fit(one, 24, seed=7).quantiles(one, 24)[0] for one in asked]
    assert np.array_equal(made[0], made[1])


def with_bursts(*, running: bool) -> Panel:
    """The panel at hour 595, with 40 jobs of 10 hours every 30 hours, of which the last are running or over."""
    starts = range(20, 600 if running else 590, 30)
    rows = [
        (f"burst-{hour}-{copy}", *KEYS[0], 1.0, *map(_at, (hour, hour, hour + 10)))
        for hour in starts
        for copy in range(40)
    ]
    return a_panel(pl.concat([a_table(), pl.DataFrame(rows, schema=JOBS, orient="row")])).until(595)


@pytest.mark.parametrize("running", [True, False])
def test_jobs_that_will_end_lower_the_forecast(*, running: bool) -> None:
    """While a burst of short jobs runs, survivors lower the forecast below the one without records; not after it."""
    both = with_bursts(running=running)
    series = np.array([0])
    with_jobs = forecast_held(both, both.values, series, fit_hazard(jobs_in(both), 595), 24)[0]
    without = forecast_held(both, both.values, series, None, 24)[0]
    assert (with_jobs[0, 11, 1] < without[0, 11, 1] - 10) == running


def test_bands_grow_where_few_windows_were_seen() -> None:
    """On random walks of two weeks, 80 % bands hold their share at all horizons, though long windows were few."""
    rng = np.random.default_rng(4)
    walks = 1000 + rng.normal(0, 1, (400, 372)).cumsum(axis=1)
    keys = tuple((f"walk-{n}", "cost", "l4") for n in range(400))
    panel = Panel(start=START, keys=keys, values=walks, events=a_panel(a_table()).events).until(300)
    made = forecast_held(panel, panel.values, np.arange(400), None, 72)[0]
    inside = (walks[:, 300:] >= made[..., 0]) & (walks[:, 300:] <= made[..., 2])
    for first, last in ((0, 6), (6, 24), (24, 48), (48, 72)):
        assert 0.74 < inside[:, first:last].mean() < 0.88


def test_a_series_without_a_known_error_repeats_its_last_value() -> None:
    """A horizon beyond the panel, and hours that are all missing, give numbers all the same."""
    values = np.vstack([np.arange(60.0), np.where(np.arange(60) < 30, 5.0, np.nan)])
    panel = Panel(start=START, keys=KEYS, values=values, events=a_panel(a_table()).events)
    last = np.vstack([values[0], np.full(60, 5.0)])
    quantiles, losses = forecast_held(panel, last, np.array([0, 1]), None, 200)
    assert np.isfinite(quantiles).all()
    assert np.isnan(losses[:, -1]).all()


def test_theta_of_a_stretch_without_change_repeats_it() -> None:
    """A window that never moves has no cycle to find, and gives numbers all the same."""
    values: Floats = np.concatenate([np.arange(300.0), np.full(900, 12.0)])
    fitted = fit_theta(values)
    assert np.all(theta_quantiles(values[None], 24, [fitted]) == 12.0)
    assert theta_quantiles(values[None], 24, [fitted])[0].shape == (24, len(QUANTILES))


def test_a_fitted_theta_model_says_the_same_again() -> None:
    """Asked with what was fitted, it gives the forecast of statsforecast's fit, without fitting."""
    rng = np.random.default_rng(2)
    values = 200 + 10 * np.sin(np.arange(900) / 24 * 2 * np.pi) + rng.normal(0, 2, 900).cumsum()
    made = intervals(auto_theta(values[-840:], 24))
    assert theta_quantiles(values[None], 48, [fit_theta(values)])[0] == pytest.approx(made, rel=0.002)


@pytest.mark.parametrize("level", [200.0, 15.0])
@pytest.mark.parametrize("variant", ["STM", "OTM", "DSTM", "DOTM"])
def test_theta_says_what_statsforecast_says(level: float, variant: str) -> None:
    """The quantiles are those of its own intervals, but for the last digit of 32-bit paths; zeros among them too."""
    rng = np.random.default_rng(3)
    values = np.maximum(0.0, level + 10 * np.sin(np.arange(900) / 24 * 2 * np.pi) + rng.normal(0, 2, 900).cumsum())
    plain = np.maximum(0.0, level + rng.normal(0, 2, 900).cumsum())
    fitted = Theta(variant=variant, alpha=0.6, theta=2.0 if variant.endswith("STM") else 3.0)
    made = theta_quantiles(np.stack([values, plain]), 48, [fitted, fitted])
    given = {"model": variant, "alpha": fitted.alpha, "theta": fitted.theta}
    for mine, series in zip(made, (values[-840:], plain[-840:]), strict=True):
        own = intervals(auto_theta(series, 24, initial_smoothed=series[0], **given))
        assert mine == pytest.approx(own, rel=3e-6, abs=1e-5)


def intervals(model: dict[str, Any]) -> Floats:
    """Statsforecast's own quantiles of a model, hours x levels."""
    said = forecast_theta(model, 48, level=[80, 90, 98])
    return tidy(np.stack([said[name] for name in ("lo-80", "mean", "hi-80", "hi-90", "hi-98")], axis=-1))


def test_weights_tell_drift_from_cycle() -> None:
    """A random walk trusts what drifts, a wave trusts the cycle, at all horizons (whole days too), smoothly."""
    rng = np.random.default_rng(1)
    walk = 200 + rng.normal(0, 1, 1000).cumsum()
    wave = 50 + 20 * np.sin(np.arange(1000) / 24 * 2 * np.pi) + rng.normal(0, 1, 1000)
    plain = a_panel(a_table())
    panel = Panel(start=START, keys=KEYS, values=np.stack([walk, wave]), events=plain.events)
    weights = naive.drift_weights(panel, 100)
    assert weights.shape == (2, 100)
    assert weights[0].min() > 0.8
    assert weights[1].max() < 0.2
    assert np.abs(np.diff(weights)).max() < 0.1


def test_shares_are_even_where_nothing_is_known() -> None:
    """Unknown losses, and losses of nothing, weigh both halves alike; equal ones too; a smaller one earns more."""
    unknown = np.full((1, 30), np.nan)
    some = np.full((1, 30), 2.0)
    assert naive.share(unknown, some) == pytest.approx(0.5)
    assert naive.share(0 * some, 0 * some) == pytest.approx(0.5)
    assert naive.share(some, some) == pytest.approx(0.5)
    assert naive.share(some, 1.2 * some).min() > 0.7


def test_late_losses_follow_the_last_days() -> None:
    """A loss four days older weighs half; hours that are not known do not count."""
    losses = np.array([[4.0] + [np.nan] * 95 + [1.0], [np.nan] * 97])
    assert naive.late_mean(losses)[0] == pytest.approx((4 * 0.5 + 1) / 1.5)
    assert np.isnan(naive.late_mean(losses)[1])


def test_what_trees_gain_speaks_for_the_cycle(panel: Panel) -> None:
    """The smaller the error that trees leave of the profiles', the less what drifts is trusted."""
    fitted = demand.fit(panel, 24, seed=7)
    series, histories = np.arange(2), demand.histories_of(panel, fitted.kinds, 24)
    _, before = fitted.weigh(panel, histories, series, 24)
    _, after = replace(fitted, gains=dict.fromkeys(panel.keys, 0.5)).weigh(panel, histories, series, 24)
    assert (after < before).all()


def test_total_is_the_sum_and_keeps_its_jobs(panel: Panel) -> None:
    """The total is one series, whose jobs still know what they were."""
    jobs = replace(jobs_in(panel), series=np.zeros_like(jobs_in(panel).series))
    total = replace(panel, keys=(("all", "all", "all"),), values=panel.values.sum(axis=0, keepdims=True), jobs=jobs)
    assert jobs_in(total).kinds == panel.keys
    assert np.isfinite(demand.fit(total, 24, seed=7).quantiles(total, 24)[0]).all()


def test_bundle_gives_the_same_forecast_back(panel: Panel, tmp_path: Path) -> None:
    """Hazard, Theta's variants and trees survive the file, and the model answers without job records too."""
    fitted = demand.fit(panel, 24, seed=7)
    (tmp_path / "fits.json").write_bytes(bundle_bytes(Bundle(steering=fitted, tested=fitted)))
    read = read_bundle(tmp_path / "fits.json").steering
    assert read.thetas == fitted.thetas != {}
    assert read.gains == fitted.gains
    assert all(0 < gain <= 1 for gain in read.gains.values())
    assert np.array_equal(read.quantiles(panel, 24)[0], fitted.quantiles(panel, 24)[0])
    older = json.loads((tmp_path / "fits.json").read_text())
    del older["steering"]["gains"]
    older["steering"]["thetas"] = [[*key, "STM"] for key in panel.keys]
    (tmp_path / "older.json").write_text(json.dumps(older))
    assert np.isfinite(read_bundle(tmp_path / "older.json").steering.quantiles(panel, 24)[0]).all()
    bare = Panel(start=panel.start, keys=panel.keys, values=panel.values, events=panel.events)
    assert np.isfinite(read.quantiles(bare, 24)[0]).all()
