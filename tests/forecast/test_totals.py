"""Totals are the sums of their parts, path by path: means add up, bands are as wide as series move together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.errors import InputError
from gangplan.forecast.evaluation.backtest import to_table
from gangplan.forecast.models import demand
from gangplan.forecast.outlook import totals
from gangplan.forecast.series.panel import from_tables, from_usage
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.telemetry.sources.folder import read_path
from gangplan.types import SERIES, Forecast, Usage

from .conftest import BATCH, CHAT, END, TRAIN, Trained, a_usage, waves

HORIZON = 48


def spread(means: np.ndarray) -> np.ndarray:
    """Quantiles about these means (series x horizon)."""
    return means[:, :, None] * np.array([0.7, 1.0, 1.25, 1.35, 1.6])


def moving(alike: float, hours: int = 1600) -> Usage:
    """Three series whose noise is shared to that degree."""
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 6, (4, hours))
    rows = {key: 60 + alike * noise[3] + np.sqrt(1 - alike**2) * noise[place] for place, key in enumerate(ROWS)}
    return a_usage(rows)


ROWS = (CHAT, TRAIN, BATCH)


def test_each_series_keeps_its_quantiles_and_means_add_up() -> None:
    """Paths of a series have its quantiles; the mean of a sum is the sum of means, its median nearly is."""
    panel = from_usage(moving(0.5))
    wanted = spread(np.full((3, HORIZON), 60.0))
    paths = totals.paths_of(panel, wanted)
    assert totals.quantiles_of(paths)[:, :, :4] == pytest.approx(wanted[:, :, :4], rel=0.02)
    assert paths.sum(axis=0).mean(axis=1) == pytest.approx(paths.mean(axis=2).sum(axis=0))
    assert totals.quantiles_of(paths.sum(axis=0))[:, 1] == pytest.approx(wanted[:, :, 1].sum(axis=0), rel=0.02)


def test_band_of_a_sum_is_as_wide_as_series_move_together() -> None:
    """Alike in all, quantiles add up; without anything in common the band is narrower by the root of three."""
    wanted = spread(np.full((3, HORIZON), 60.0))
    widths: dict[float, float] = {}
    for alike in (1.0, 0.0):
        made = totals.quantiles_of(totals.paths_of(from_usage(moving(alike)), wanted).sum(axis=0))
        widths[alike] = float((made[:, 2] - made[:, 0]).mean())
    whole = float((wanted[:, :, 2] - wanted[:, :, 0]).sum(axis=0).mean())
    assert widths[1.0] == pytest.approx(whole, rel=0.03)
    assert widths[0.0] == pytest.approx(whole / np.sqrt(3), rel=0.1)


def test_totals_of_a_forecast_agree_with_each_other(trained: Trained) -> None:
    """By tenant, by accelerator and over all, the champion's means agree in each hour, and with its series' paths."""
    ahead = forecast.predict(trained.usage, trained.store, None, settings=trained.settings)
    found = {by: forecast.sum_up(trained.usage, ahead, by) for by in SERIES}
    whole = [table.filter(pl.col(by) == "all").drop(by) for by, table in found.items()]
    assert whole[0].equals(whole[1])
    assert whole[0].equals(whole[2])
    for by, table in found.items():
        parts = table.filter(pl.col(by) != "all").group_by("hour", maintain_order=True).agg(pl.col("mean").sum())
        assert parts["mean"].to_numpy() == pytest.approx(whole[0]["mean"].to_numpy())
    assert whole[0]["hour"].min() == END
    with pytest.raises(InputError, match="use one of tenant"):
        forecast.sum_up(trained.usage, ahead, "team")


def test_short_past_and_still_series_are_no_error() -> None:
    """Two weeks, a constant series, a missing one: sums of what is forecast."""
    still = np.full(300, 8.0)
    gone = np.full(300, np.nan)
    gone[:20] = 4.0
    usage = a_usage({CHAT: waves(300), TRAIN: still, BATCH: gone})
    panel = from_usage(usage)
    means = {CHAT: 40.0, TRAIN: 8.0, BATCH: 0.0}
    quantiles = spread(np.stack([np.full(24, means[key]) for key in panel.keys]))
    ahead = Forecast(issued_at=END, model="", quantiles=to_table(panel, quantiles))
    made = forecast.sum_up(usage, ahead).filter(pl.col("tenant") == "all")
    assert made.height == 24
    assert np.isfinite(made.select(QUANTILE_COLUMNS).to_numpy()).all()


def test_band_of_a_total_holds_on_a_public_trace(shared_data: Path) -> None:
    """On openb, 70 to 90 % of hours lie within the 80 % band of the total; the summed quantiles' holds nearly all."""
    found = read_path(shared_data / "openb" / "pods.csv.gz", END)
    panel = from_tables(found.demand, None, end=found.end, jobs=found.jobs)
    origins = range(panel.hours - 24 * 16, panel.hours - 72, 24)
    fitted = demand.fit(panel.until(origins[0]), 72, seed=7)
    inside: dict[str, list[np.ndarray]] = {"ours": [], "added": []}
    for origin in origins:
        known = panel.until(origin)
        quantiles, _ = fitted.quantiles(known, 72)
        came = panel.values[:, origin : origin + 72].sum(axis=0)
        total = totals.quantiles_of(totals.paths_of(known, quantiles).sum(axis=0))
        for name, made in (("ours", total), ("added", quantiles.sum(axis=0))):
            inside[name].append((came >= made[:, 0]) & (came <= made[:, 2]))
    assert 0.70 < np.mean(inside["ours"]) < 0.90
    assert np.mean(inside["added"]) > 0.93
