"""The gate: no worse than naive, no worse than the champion on the same days, coverage inside its band."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from gangplan import forecast
from gangplan.forecast import model, registry, trial
from gangplan.forecast.gate import judge
from gangplan.forecast.panel import from_usage
from gangplan.progress import no_progress
from gangplan.tracking import MODEL

from .conftest import CHAT, END, Trained, a_usage, three_series, waves

NAN = float("nan")


@pytest.mark.parametrize(
    ("wql", "naive_wql", "coverage_80", "against", "word"),
    [
        (5.0, 6.0, 0.8, None, ""),
        (6.0, 6.0, 0.8, (6.0, 6.0), ""),
        (0.0, 0.0, 0.9, None, ""),
        (6.1, 6.0, 0.8, None, "WQL 6.10, seasonal naive 6.00"),
        (5.0, 6.0, 0.4, None, "80 % band holds 40%"),
        (5.0, 6.0, 1.0, None, "80 % band holds 100%"),
        (5.0, 6.0, 0.8, (5.0, 4.5), "WQL 5.00 where the champion has 4.50 on the same days"),
        (NAN, 6.0, 0.8, None, "WQL nan"),
        (5.0, NAN, 0.8, None, "seasonal naive nan"),
        (5.0, 6.0, NAN, None, "80 % band holds nan%"),
        (1.0, 0.0, 0.8, None, "seasonal naive 0.00"),
    ],
)
def test_gate_says_what_is_wanting(
    wql: float, naive_wql: float, coverage_80: float, against: tuple[float, float] | None, word: str
) -> None:
    """Each limit refuses by itself and in words; what is no number never passes."""
    verdict = judge(wql=wql, naive_wql=naive_wql, coverage_80=coverage_80, against=against)
    assert verdict.passed == (not word)
    assert len(verdict.failures) == bool(word)
    assert word in verdict.reason


def test_refused_challenger_stays_one_with_the_reason(trained_copy: Trained, ticking: Callable[[], datetime]) -> None:
    """A training that loses to naive does not steer: the champion stays, and the version says why."""
    store = trained_copy.store
    to_the_hour = a_usage({CHAT: waves(500, noise=0)})  # each week is the last one: nothing beats repeating it
    refused = forecast.retrain(to_the_hour, store, settings=trained_copy.settings, clock=ticking)
    assert not refused.promoted
    assert "seasonal naive 0.00" in refused.reason
    tags = store.client.get_model_version(MODEL, refused.version).tags
    assert tags["gate"] == "refused"
    assert tags["reason"] == refused.reason
    assert registry.alias(store, "champion") == "1"
    assert registry.alias(store, "challenger") == refused.version
    assert forecast.show_version(store, refused.version).changes[-1].action == "refused"


def test_champion_is_compared_on_days_that_it_had_not_seen(trained: Trained) -> None:
    """A day later the champion's tested fit is held against the challenger's; on days it was fitted on it is not."""
    bundle = registry.load(trained.store, trained.training.version)
    later = from_usage(a_usage({key: row[24:] for key, row in three_series(1024).items()}, end=END + timedelta(days=1)))
    found = trial.run(later, trained.settings, no_progress)
    both = trial.against(found, bundle)
    assert both is not None
    assert both[0] == pytest.approx(found.quality.wql)
    assert both[0] != both[1]
    old = from_usage(a_usage({key: row[:700] for key, row in three_series().items()}, end=END - timedelta(hours=300)))
    assert trial.against(trial.run(old, trained.settings, no_progress), bundle) is None


def test_same_data_ties_with_the_champion(trained: Trained) -> None:
    """On the data it was trained on, the champion's tested fit has exactly the challenger's loss."""
    found = trial.run(from_usage(trained.usage), trained.settings, no_progress)
    both = trial.against(found, registry.load(trained.store, trained.training.version))
    assert both == (found.quality.wql, found.quality.wql)


def test_seed_changes_the_trees() -> None:
    """Another seed grows other trees, the same seed the same."""
    panel = from_usage(a_usage({CHAT: waves(400)}))
    grown = [[tree.model_to_string() for tree in model.fit(panel, 24, seed=seed).trees] for seed in (7, 7, 8)]
    assert grown[0] == grown[1] != grown[2]
