"""What a reviewer reads: comparisons that are right, judged by a test that is right, in words that follow from them."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.errors import NotFoundError
from gangplan.forecast.evaluation import compare, trial
from gangplan.forecast.evaluation.compare import Gap, quality
from gangplan.forecast.promotion import page
from gangplan.forecast.series.panel import from_usage
from gangplan.progress import no_progress
from gangplan.tracking import MODEL

from .conftest import BATCH, CHAT, Trained


@pytest.fixture(scope="module")
def tried(trained: Trained) -> trial.Trial:
    """A trial to compare."""
    return trial.run_trial(from_usage(trained.usage), trained.settings, no_progress)


def test_groups_add_up_and_agree_with_the_metrics(tried: trial.Trial) -> None:
    """Each group's WQL is that of its rows alone; every grouping shares out all demand once."""
    facts = page.compared(tried.table, tried.naive, "naive")
    assert (facts.whole.mine, facts.whole.other) == pytest.approx((tried.quality.wql, tried.naive_quality.wql))
    for rows in facts.groups.values():
        assert sum(gap.share for gap in rows) == pytest.approx(1)
    tenants = {gap.name: gap for gap in facts.groups["By tenant"]}
    assert tenants[CHAT[0]].mine == pytest.approx(quality(tried.table.filter(tenant=CHAT[0])).wql)
    first = tried.table.filter((pl.col("hour") - pl.col("origin")).dt.total_hours() < 6)
    assert facts.groups["By how far ahead"][0].mine == pytest.approx(quality(first).wql)


def test_luck_is_the_share_of_all_sign_flips() -> None:
    """Against plain loops; symmetric; 2 of 2^n when all gaps point one way; unknown for one."""
    gaps = np.array([0.3, -0.1, 0.4, 0.2, 0.05])
    means = [abs(np.mean(gaps * signs)) for signs in product((-1, 1), repeat=5)]
    assert compare.luck(gaps) == np.mean([mean >= abs(gaps.mean()) - 1e-12 for mean in means])
    assert compare.luck(-gaps) == compare.luck(gaps)
    assert compare.luck(np.ones(7)) == 2 / 2**7
    assert compare.luck(np.zeros(7)) == 1
    assert np.isnan(compare.luck(np.ones(1)))
    assert compare.luck(np.ones(14)) == pytest.approx(2 / 2**14, abs=5e-4)


A_GAP = Gap(name="all series", mine=9.0, other=10.0, won=6, origins=7, luck=1 / 64, share=1.0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "Better than it: its loss is 9.00 % of demand, that of it 10.00 %"),
        ({}, "Luck alone makes a gap as large in 1 case in 64: hardly luck."),
        ({"mine": 11.0, "luck": 0.6}, "Worse than it"),
        ({"mine": 11.0, "luck": 0.6}, "in 60 % of all cases: may be luck."),
        ({"luck": 0.08}, "1 case in 12: probably not luck."),
        ({"mine": 10.01}, "As good as it"),
        ({"mine": 10.01}, "So small a gap says nothing."),
        ({"luck": float("nan"), "origins": 1}, "a single starting day"),
    ],
)
def test_headline_says_what_the_figures_do(changed: dict[str, float], words: str) -> None:
    """Better, worse or the same, and never surer than the test is."""
    assert words in replace(A_GAP, **changed).headline("it")


def test_places_name_what_is_sure_and_nothing_else() -> None:
    """Only gaps that are hardly luck are named, better ones and worse ones apart."""
    rows = [A_GAP, replace(A_GAP, name="nights", mine=12.0, luck=0.05), replace(A_GAP, name="chance", luck=0.4)]
    assert compare.places(rows, worse=False) == "all series (10.0 % less, hardly luck)"
    assert compare.places(rows, worse=True) == "nights (20.0 % more, probably not luck)"
    assert "nowhere" in compare.places(rows[2:], worse=True)


def test_page_stands_alone_and_is_escaped(trained_copy: Trained, tmp_path: Path) -> None:
    """One file that fetches nothing, with the gate, all pictures and the history; what people wrote is only text."""
    store = trained_copy.store
    nasty = "<script>alert(1)</script>"
    store.client.set_model_version_tag(MODEL, "1", "because", nasty)
    text = forecast.write_page(tmp_path / "page.html", store, "1").read_text()
    assert nasty not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert text.count("data:image/png;base64,") == 4
    assert "Better than repeating last week" in text
    assert f"{BATCH[0]} / {BATCH[1]} / {BATCH[2]}" in text
    assert "promoted by gate" in text
    kept = store.client.download_artifacts(trained_copy.training.run_id, "review.html", str(tmp_path))
    assert "Demand model, version 1" in Path(kept).read_text()
    with pytest.raises(NotFoundError, match="'9' is not in the registry"):
        forecast.write_page(tmp_path / "none.html", store, "9")
    assert not (tmp_path / "none.html").exists()
