"""The series from elsewhere are whole hours, none missing or negative, of windows that do not overlap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from benchmarks.parts import published, traces
from tests.plan import instances


@pytest.mark.skipif(not traces.ELSEWHERE.exists(), reason="other series: `make .envs/traces/.ready` unpacks them")
@pytest.mark.parametrize("name", traces.OTHERS)
def test_series_from_elsewhere_are_whole(name: str) -> None:
    """Each window has its 29 days, each hour a number, and its two origins end with it."""
    windows = traces.elsewhere(name)
    assert len(windows) == 4
    assert all(one.panel.values.shape == (1, 696) for one in windows)
    assert all(np.isfinite(one.panel.values).all() and one.panel.values.min() >= 0 for one in windows)
    assert all(one.origins == [600, 624] for one in windows)
    assert all(before.panel.end <= after.panel.start for before, after in pairwise(windows))


@pytest.mark.skipif(published.find("openb") is None, reason="no trace openb: `make traces` fetches it")
def test_the_instances_are_as_uncertain_as_openb() -> None:
    """The width of their quantiles is measured, not chosen."""
    measured = traces.day_ahead(traces.read("openb"), [0.1, 0.5, 0.9, 0.95, 0.99])
    assert list(instances.SPREAD) == pytest.approx(list(measured), abs=0.006)
