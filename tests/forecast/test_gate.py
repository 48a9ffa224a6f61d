"""The gate: each tier no worse than naive and the champion, coverage in its band, no leak, not too large or slow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from gangplan import forecast
from gangplan.forecast.evaluation import gate, trial
from gangplan.forecast.evaluation.compare import quality
from gangplan.forecast.evaluation.gate import GateResult, judge
from gangplan.forecast.models import demand
from gangplan.forecast.registry import model_versions
from gangplan.forecast.series.panel import from_usage
from gangplan.progress import no_progress
from gangplan.tables import QUANTILE_COLUMNS
from gangplan.tracking import MODEL, Store

from .conftest import BATCH, CHAT, END, Trained, a_usage, three_series, waves

NAN, INF = float("nan"), float("inf")
GOOD = {
    "wql/all": 5.0,
    "champion_wql/same_all": 5.0,
    "naive_wql/all": 6.0,
    "champion_wql/all": 5.0,
    "to_naive/all": 0.8,
    "to_champion/all": 1.0,
    "coverage_80/all": 0.8,
    "leak/gpus": 0.0,
    "leak/hours": 0.0,
    "size/mib": 1.0,
    "speed/seconds": 0.1,
}
SMALL = {"wql/small": 7.0, "naive_wql/small": 6.0, "champion_wql/small": 6.0, "champion_wql/same_small": 7.0}


def judged(**changed: float) -> GateResult:
    """What the gate says of figures that are good but for these."""
    names = {name.replace("__", "/"): value for name, value in changed.items()}
    return judge({**GOOD, **SMALL, **names})


def test_gate_passes_what_is_good() -> None:
    """Equal to the champion and better than naive is enough; the reason names what was compared."""
    verdict = judged()
    assert verdict.passed
    assert "WQL 5.00 where seasonal naive has 6.00" in verdict.reason
    assert "WQL 5.00 where the champion has 5.00 on the same days" in verdict.reason


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"to_naive__all": 1.0001}, "all series: WQL 5.00 where seasonal naive has 6.00"),
        ({"to_naive__small": 1.01}, "series under 8 GPUs: WQL 7.00 where seasonal naive has 6.00"),
        ({"to_champion__all": 1.03}, "WQL 5.00 where the champion has 5.00 on the same days"),
        ({"to_champion__small": 1.06}, "series under 8 GPUs: WQL 7.00 where the champion has 6.00"),
        ({"coverage_80__all": 0.4}, "80 % band holds 40%"),
        ({"coverage_80__all": 1.0}, "80 % band holds 100%"),
        ({"leak__gpus": 0.5}, "a changed future moves a past forecast by 0.5 GPUs"),
        ({"leak__hours": 24.0}, "the fit had seen 24 of the tested hours"),
        ({"size__mib": 65.0}, "file of 65.0 MiB (at most 64)"),
        ({"speed__seconds": 61.0}, "a forecast takes 61.0 s (at most 60)"),
        ({"to_naive__all": NAN}, "seasonal naive"),
        ({"to_naive__all": INF}, "seasonal naive"),
        ({"coverage_80__all": NAN}, "80 % band holds nan%"),
    ],
)
def test_each_limit_refuses_by_itself_and_in_words(changed: dict[str, float], word: str) -> None:
    """One figure past its limit is a refusal that names it and no other; what is no number never passes."""
    verdict = judged(**changed)
    assert not verdict.passed
    assert {check.metric.replace("/", "__") for check in verdict.checks if not check.passed} == set(changed)
    assert word in verdict.reason


def test_a_tier_may_move_a_little_more_than_all() -> None:
    """A tier has fewer series than all together: it is refused at 5 % more than the champion, not at 2 %."""
    assert judged(to_champion__small=1.04).passed


@pytest.fixture(scope="module")
def tried(trained: Trained) -> trial.Trial:
    """One trial on the telemetry that the store's model was trained on."""
    return trial.run_trial(from_usage(trained.usage), trained.settings, no_progress)


def measured(store: Store, tried: trial.Trial, champion: pl.DataFrame | None) -> dict[str, float]:
    """What MLflow's evaluation measures, in a run of its own."""
    run_id = store.client.create_run(store.experiment("gate")).info.run_id
    with model_versions.active_run(store, run_id):
        figures = gate.evaluate(tried, champion, 48)
    kept = store.client.get_run(run_id).data.metrics
    assert kept["wql/all"] == pytest.approx(figures["wql/all"])
    return figures


def test_mlflow_measures_what_we_measure(trained_copy: Trained, tried: trial.Trial) -> None:
    """Pooled and by tier, MLflow's evaluation and our own metrics agree; the figures stand in the run."""
    figures = measured(trained_copy.store, tried, tried.table)
    assert figures["wql/all"] == pytest.approx(tried.quality.wql)
    assert figures["naive_wql/all"] == pytest.approx(tried.naive_quality.wql)
    assert figures["coverage_80/all"] == pytest.approx(tried.quality.coverage_80)
    assert figures["to_champion/all"] == 1.0
    assert (figures["leak/gpus"], figures["leak/hours"]) == (0.0, 0.0)


def test_one_bad_tier_is_not_hidden_by_the_others(trained_copy: Trained, tried: trial.Trial) -> None:
    """Made worse on the small series alone, which weigh little, a challenger is refused for that tier."""
    small, made = pl.col("tenant") == BATCH[0], (*QUANTILE_COLUMNS, "gpus")
    scaled, naive = (scaled_where(small, 0.01, table, made) for table in (tried.table, tried.naive))
    worse = scaled_where(small, 1.25, scaled, QUANTILE_COLUMNS)
    figures = measured(trained_copy.store, replace(tried, table=worse, naive=naive), scaled)
    assert figures["wql/small"] == pytest.approx(quality(worse.filter(small)).wql)
    failed = {check.metric for check in judge(figures).checks if not check.passed}
    assert "to_champion/small" in failed
    assert "to_champion/all" not in failed


def scaled_where(rows: pl.Expr, factor: float, table: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Multiply columns in some rows."""
    changed = [pl.when(rows).then(factor * pl.col(name)).otherwise(pl.col(name)).alias(name) for name in columns]
    return table.with_columns(changed)


def test_a_leak_is_found(tried: trial.Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panel that shows the future, or a fit that had seen tested hours, is caught."""
    panel = tried.panel
    until = type(panel).until

    def leaky(self: object, hours: int):
        known = until(self, hours)  # type: ignore[arg-type]
        values = known.values.copy()
        values[:, -1] = np.nanmean(self.values[:, hours:])  # type: ignore[attr-defined]
        return replace(known, values=values)

    monkeypatch.setattr(type(panel), "until", leaky)
    assert trial.leak(tried) > 1
    monkeypatch.undo()
    late = replace(tried.bundle.tested, fitted_until=panel.end.isoformat())
    seen = replace(tried, bundle=replace(tried.bundle, tested=late))
    assert trial.seen_hours(seen) == panel.hours - tried.window.origins[0]


def test_refused_challenger_stays_one_with_the_reason(trained_copy: Trained, ticking: Callable[[], object]) -> None:
    """A training that loses to naive does not steer: the champion stays, and the version says why."""
    store = trained_copy.store
    to_the_hour = a_usage({CHAT: waves(500, noise=0)})  # each week is the last one: nothing beats repeating it
    refused = forecast.retrain(to_the_hour, store, settings=trained_copy.settings, clock=ticking)  # type: ignore[arg-type]
    assert not refused.promoted
    assert "seasonal naive has 0.00" in refused.reason
    tags = store.client.get_model_version(MODEL, refused.version).tags
    assert tags["gate"] == "refused"
    assert tags["reason"] == refused.reason
    assert model_versions.alias(store, "champion") == "1"
    assert model_versions.alias(store, "challenger") == refused.version
    assert forecast.show_version(store, refused.version).changes[-1].action == "refused"


def test_champion_is_compared_on_days_that_it_had_not_seen(trained: Trained) -> None:
    """A day later the champion's tested fit is asked about the challenger's days; not about those it was fitted on."""
    bundle = model_versions.load(trained.store, trained.training.version)
    later = from_usage(a_usage({key: row[24:] for key, row in three_series(1024).items()}, end=END + timedelta(days=1)))
    found = trial.run_trial(later, trained.settings, no_progress)
    theirs = trial.backtest_champion(found, bundle)
    assert theirs is not None
    assert theirs.select("origin", "hour", "gpus").equals(found.table.select("origin", "hour", "gpus"))
    assert quality(theirs).wql != found.quality.wql
    old = from_usage(a_usage({key: row[:700] for key, row in three_series().items()}, end=END - timedelta(hours=300)))
    assert trial.backtest_champion(trial.run_trial(old, trained.settings, no_progress), bundle) is None


def test_same_data_ties_with_the_champion(trained: Trained, tried: trial.Trial) -> None:
    """On the data it was trained on, the champion's tested fit forecasts exactly what the challenger's does."""
    theirs = trial.backtest_champion(tried, model_versions.load(trained.store, trained.training.version))
    assert theirs is not None
    assert theirs.equals(tried.table)


def test_seed_changes_the_trees() -> None:
    """Another seed grows other trees, the same seed the same."""
    panel = from_usage(a_usage({CHAT: waves(400)}))
    grown = [[tree.text for tree in demand.fit(panel, 24, seed=seed).trees] for seed in (7, 7, 8)]
    assert grown[0] == grown[1] != grown[2]
