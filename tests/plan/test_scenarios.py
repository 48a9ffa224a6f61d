"""Demand paths against the quantiles that they are drawn from."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from gangplan.plan.problem.scenarios import draw_paths
from gangplan.types import QUANTILES


def normal_quantiles(series: int, hours: int, mean: float = 100.0, spread: float = 10.0) -> np.ndarray:
    """Quantiles of a normal demand."""
    row = [mean + spread * NormalDist().inv_cdf(level) for level in QUANTILES]
    return np.tile(row, (series, hours, 1))


def test_paths_have_the_forecast_spread_in_each_hour() -> None:
    """In each hour of each series the paths' mean and spread are the forecast's, few as they are."""
    paths = draw_paths(normal_quantiles(3, 48), QUANTILES, 200, seed=1)
    assert paths.shape == (200, 3, 48)
    assert np.allclose(paths.mean(axis=0), 100, atol=0.05)
    assert np.allclose(paths.std(axis=0), 10, atol=0.15)
    assert np.allclose(np.quantile(paths, 0.9, axis=0), 100 + 10 * NormalDist().inv_cdf(0.9), atol=0.3)
    few = draw_paths(normal_quantiles(3, 48), QUANTILES, 9, seed=1)
    assert np.allclose(few.mean(axis=0), 100, atol=1e-9)


def test_tails_go_on_beyond_the_outer_levels() -> None:
    """Beyond the 0.1 and 0.99 quantiles the end slopes go on, so that rare hours are drawn too."""
    paths = draw_paths(normal_quantiles(1, 1), QUANTILES, 1000, seed=1)
    assert paths.max() == pytest.approx(100 + 10 * NormalDist().inv_cdf(0.9995))
    assert paths.min() == pytest.approx(100 + 10 * NormalDist().inv_cdf(0.0005))


def test_paths_keep_correlation_over_hours_and_series() -> None:
    """Neighbouring hours go together strongly, distant ones do not, and series share a part of their error."""
    paths = draw_paths(normal_quantiles(2, 100), QUANTILES, 400, seed=3)
    assert np.corrcoef(paths[:, 0, 50], paths[:, 0, 51])[0, 1] > 0.8
    assert abs(np.corrcoef(paths[:, 0, 10], paths[:, 0, 90])[0, 1]) < 0.2
    both = [np.corrcoef(paths[:, 0, hour], paths[:, 1, hour])[0, 1] for hour in range(100)]
    assert 0.15 < np.mean(both) < 0.45


def test_paths_are_never_negative_and_crossed_quantiles_are_sorted() -> None:
    """A wide or crossed forecast still gives demand that can be asked for."""
    crossed = np.array([[[5.0, 3.0, 8.0, 7.0, 9.0]]])
    paths = draw_paths(crossed, QUANTILES, 50, seed=1)
    assert paths.min() >= 0
    assert paths.max() < 12
    assert draw_paths(normal_quantiles(1, 5, mean=1.0, spread=30.0), QUANTILES, 50, seed=1).min() == 0


def test_the_seed_decides_the_paths_and_one_path_is_the_median() -> None:
    """Same seed, same paths; a single path is the median."""
    quantiles = normal_quantiles(2, 24)
    assert (draw_paths(quantiles, QUANTILES, 9, 1) == draw_paths(quantiles, QUANTILES, 9, 1)).all()
    assert (draw_paths(quantiles, QUANTILES, 9, 1) != draw_paths(quantiles, QUANTILES, 9, 2)).any()
    assert np.allclose(draw_paths(quantiles, QUANTILES, 1, 1), 100)
