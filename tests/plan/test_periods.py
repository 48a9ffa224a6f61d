"""Periods: hours first, blocks later."""

from __future__ import annotations

import numpy as np
import pytest

from gangplan.plan.problem.periods import Periods


@pytest.mark.parametrize(("hours", "periods"), [(5, 5), (24, 24), (168, 72), (100, 50), (336, 100), (2160, 176)])
def test_a_horizon_is_cut_without_rest(hours: int, periods: int) -> None:
    """Every hour is in one period; a week is 72 of them, and three months are still few."""
    cut = Periods.from_horizon(hours)
    assert (len(cut), cut.hours) == (periods, hours)
    assert cut.lengths[: min(24, hours)] == (1,) * min(24, hours)


def test_means_and_hours_are_inverse_on_what_is_constant_in_blocks() -> None:
    """Averaging over blocks and repeating by hour keeps the total of every block."""
    cut = Periods.from_horizon(100)
    hourly = np.random.default_rng(1).random((3, 100))
    again = cut.hourly(cut.means(hourly))
    assert again.shape == hourly.shape
    assert np.allclose(again.sum(axis=1), hourly.sum(axis=1))
    assert np.allclose(again[:, :24], hourly[:, :24])


def test_window_sums_reach_back_whole_periods_only() -> None:
    """A window sums the periods that began within it, and none when it is shorter than the period."""
    cut = Periods(lengths=(1, 1, 3, 3))
    amounts = np.array([1.0, 2.0, 4.0, 8.0])
    assert cut.window_sums(amounts, 3).tolist() == [1, 3, 4, 8]
    assert cut.window_sums(amounts, 4).tolist() == [1, 3, 6, 8]
    assert cut.window_sums(amounts, 0).tolist() == [0, 0, 0, 0]
