"""How far one span moves a belief: by what is signal, within the band, fading without news."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, strategies as st

from gangplan.feedback.beliefs import BAND, HALF_LIFE, correct, shrink
from gangplan.tables import CORRECTIONS, SCORE_BY_SERIES, empty


def scored(
    ratio: float, *, hours: int = 168, sd: float = 0.15, width: float = 1.0, tenant: str = "vision"
) -> pl.DataFrame:
    """One series that asked for `ratio` times its median of 50 GPUs."""
    row: dict[str, Any] = {
        "tenant": tenant,
        "workload_class": "latency",
        "accelerator": "h100",
        "wql": 5.0,
        "bias": 50 - 50 * ratio,
        "error_sd": sd * 50,
        "coverage_80": 0.8,
        "width": width,
        "mean_gpus": 50 * ratio,
        "hours": hours,
    }
    return pl.DataFrame([row], schema=SCORE_BY_SERIES)


def step(by_series: pl.DataFrame, before: pl.DataFrame | None = None, age: timedelta = timedelta()) -> pl.DataFrame:
    """Correct from nothing, or from beliefs of some age."""
    nothing = empty(CORRECTIONS)
    return correct(by_series, before=nothing if before is None else before, age=age, applied=nothing)


def test_more_hours_are_believed_more() -> None:
    """The same ratio moves the level further the more hours it was seen in."""
    levels = [step(scored(1.3, hours=hours))["level"][0] for hours in (1, 12, 48, 168)]
    assert levels == sorted(levels)
    assert levels[0] == 1.0
    assert 1.25 < levels[-1] < 1.3


def test_a_small_miss_of_one_origin_is_not_believed() -> None:
    """Forecasts of one origin miss together by some 5 %: such a miss changes nothing."""
    assert step(scored(1.04))["level"][0] == 1.0


def test_a_calm_series_is_believed_more_than_a_wild_one() -> None:
    """Beside each other, the same ratio counts for more where the hourly error is small."""
    both = pl.concat([scored(1.3, sd=0.05, tenant="calm"), scored(1.3, sd=1.5, tenant="wild")])
    levels = dict(step(both).select("tenant", "level").iter_rows())
    assert levels["calm"] > levels["wild"] > 1


def test_beliefs_fade_without_news() -> None:
    """A series that is not seen again goes half-way back (on the log scale) in a half-life, and is kept."""
    before = step(scored(1.5))
    after = step(scored(1.0, tenant="search"), before, HALF_LIFE)
    left = after.filter(pl.col("tenant") == "vision")
    assert left["level"][0] == pytest.approx(before["level"][0] ** 0.5)
    assert left["hours"][0] == 84


def test_the_same_finding_again_hardly_moves() -> None:
    """A belief that is confirmed stays where it is."""
    before = step(scored(1.5))
    assert step(scored(1.5), before)["level"][0] == pytest.approx(before["level"][0], rel=0.02)


@given(
    ratio=st.floats(0, 50),
    hours=st.integers(1, 2000),
    sd=st.floats(0, 100),
    width=st.floats(0, 1000),
)
def test_factors_stay_in_the_band(ratio: float, hours: int, sd: float, width: float) -> None:
    """Whatever was found, both factors are finite and within the band."""
    row = step(scored(ratio, hours=hours, sd=sd, width=width)).row(0, named=True)
    assert BAND[0] <= row["level"] <= BAND[1]
    assert BAND[0] <= row["width"] <= BAND[1]


def test_shrinking_loses_less_than_believing_all_or_nothing() -> None:
    """Over many worlds with known signal and noise, the shrunk findings are nearer the truth than either extreme."""
    chance = np.random.default_rng(3)
    lost = np.zeros(3)
    for _ in range(200):
        noise = chance.uniform(0.02, 0.3, 10) ** 2
        truth = chance.normal(0, 0.1, 10)
        found = truth + chance.normal(0, np.sqrt(noise))
        guesses = np.array(shrink(found.tolist(), noise.tolist())), found, np.zeros(10)
        lost += [float(((guess - truth) ** 2).sum()) for guess in guesses]
    assert lost[0] < 0.75 * lost[1]
    assert lost[0] < 0.75 * lost[2]


def test_a_level_error_that_is_not_believed_stays_in_the_width() -> None:
    """A miss too small to be believed leaves the width to the coverage as it was; a believed one to what is left."""
    small, large = (
        scored(ratio, width=0.6).with_columns(coverage_80=pl.lit(coverage))
        for ratio, coverage in ((1.04, 0.8), (1.6, 0.1))
    )
    assert step(small)["width"][0] == pytest.approx(1.0, abs=0.01)
    assert step(large)["width"][0] < 0.95
