"""The gate between a challenger and the champion's place: MLflow's own evaluation and validation, put into words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import mlflow.models
import polars as pl
from mlflow.metrics import MetricValue
from mlflow.models import MetricThreshold
from mlflow.models.evaluation import EvaluationResult
from mlflow.models.evaluation.validation import ModelValidationFailedException, validate_evaluation_results

from gangplan.forecast.evaluation.compare import ROW, TIERS, percent, ratio, side_by_side
from gangplan.forecast.evaluation.trial import Trial, leak, seconds, seen_hours
from gangplan.forecast.libraries import quiet_mlflow
from gangplan.forecast.models import bundle_bytes

CHAMPION_TOLERANCE = 1.02  # retraining on the same recipe moves the loss by about this much from day to day
TIER_TOLERANCE = 1.05  # and that of a tier, which has fewer series, by more
COVERAGE_BAND = (0.60, 0.97)
MOST_MIB = 64.0
MOST_SECONDS = 60.0
_NOTHING: dict[str, object] = {}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One limit: MLflow's name of the figure, its value, the most (or the least) that it may be, and words."""

    metric: str
    value: float
    limit: float
    words: str
    passed: bool
    least: bool = False


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """Whether the gate passed, and each limit that it held the challenger against."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The checks that failed; where none did, the comparisons over all series; in one line."""
        failed = [check.words for check in self.checks if not check.passed]
        pooled = [check.words for check in self.checks if check.metric.endswith("/all")]
        return "; ".join(failed or [*pooled, f"all {len(self.checks)} limits kept"])


def evaluate(trial: Trial, champion: pl.DataFrame | None, horizon: int) -> dict[str, float]:
    """Let `mlflow.models.evaluate` measure a challenger; return its figures, which the active run gets as well.

    `champion` is the champion's back-test on the origins that neither had seen (`tables.BACKTEST`), `horizon` the hours
    of the forecast whose processor time is measured.
    """
    functions = (wql, naive_wql, coverage_80, *(() if champion is None else (champion_wql,)))
    mlflow_models: Any = mlflow.models  # partly typed
    metrics = [
        mlflow_models.make_metric(eval_fn=metric, greater_is_better=metric is coverage_80, name=metric.__name__)
        for metric in functions
    ]
    with quiet_mlflow():
        measured: EvaluationResult = mlflow_models.evaluate(
            data=_frame(trial, champion).to_pandas(),
            predictions="q0.5",
            targets="gpus",
            extra_metrics=metrics,
            evaluators="default",
            evaluator_config={"log_explainer": False, "log_model_explainability": False},
        )
    figures = cast("dict[str, float]", measured.metrics) | {
        "leak/gpus": leak(trial),
        "leak/hours": seen_hours(trial),
        "size/mib": len(bundle_bytes(trial.bundle)) / 2**20,
        "speed/seconds": seconds(trial, horizon),
    }
    return figures | _ratios(figures)


def judge(figures: dict[str, float]) -> GateResult:
    """Hold the figures of `evaluate` against the limits, by `mlflow.validate_evaluation_results`."""
    tolerances = {tier: CHAMPION_TOLERANCE if tier == "all" else TIER_TOLERANCE for tier in TIERS}
    checks = [
        *_against(figures, "naive", "seasonal naive has", dict.fromkeys(TIERS, 1.0)),
        *_against(figures, "champion", "the champion has", tolerances),
        *_coverage(figures),
        *_costs(figures),
    ]
    return GateResult(checks=tuple(checks))


def wql(targets: Any, loss: Any, tier: Any) -> MetricValue:
    """WQL of the challenger, by tier of series."""
    return MetricValue(aggregate_results=_by_tier(targets, loss, tier))


def naive_wql(targets: Any, naive_loss: Any, tier: Any) -> MetricValue:
    """WQL of seasonal naive, by tier of series."""
    return MetricValue(aggregate_results=_by_tier(targets, naive_loss, tier))


def champion_wql(targets: Any, champion_loss: Any, loss: Any, tier: Any) -> MetricValue:
    """WQL of the champion, by tier of series; and the challenger's on the same rows as `same_<tier>`."""
    known = champion_loss.notna()
    champion = _by_tier(targets[known], champion_loss[known], tier[known])
    mine = _by_tier(targets[known], loss[known], tier[known])
    return MetricValue(aggregate_results={**champion, **{f"same_{name}": value for name, value in mine.items()}})


def coverage_80(targets: Any, inside: Any, tier: Any) -> MetricValue:
    """The share of hours within the 80 % band, by tier of series."""
    rows = pl.DataFrame({"inside": inside.to_numpy(), "tier": tier.to_numpy()})
    shares = {name: float(part["inside"].sum()) / part.height for name, part in _tiers(rows)}
    return MetricValue(aggregate_results=shares)


def _by_tier(demand: Any, loss: Any, tier: Any) -> dict[str, float]:
    """WQL by tier, and of all."""
    rows = pl.DataFrame({"gpus": demand.to_numpy(), "loss": loss.to_numpy(), "tier": tier.to_numpy()})
    return {name: percent(float(part["loss"].sum()), float(part["gpus"].sum())) for name, part in _tiers(rows)}


def _tiers(rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """All rows, and those of each tier where there is more than one."""
    parts = [(tier, rows.filter(pl.col("tier") == tier)) for tier in TIERS]
    present = [(tier, part) for tier, part in parts if part.height]
    return [("all", rows), *(present if len(present) > 1 else [])]


def _frame(trial: Trial, champion: pl.DataFrame | None) -> pl.DataFrame:
    """One row for each hour that came: the losses, the champion's where it is known, the tier."""
    inside = pl.col("gpus").is_between("q0.1", "q0.9")
    both = side_by_side(trial.table, trial.naive).with_columns(inside.alias("inside"))
    rows = both.rename({"other": "naive_loss"})
    kept = ["q0.5", "gpus", "tier", "inside", "loss", "naive_loss"]
    if champion is None:
        return rows.select(kept)
    theirs = side_by_side(trial.table, champion).rename({"other": "champion_loss"})
    return rows.join(theirs.select(*ROW, "champion_loss"), on=ROW, how="left").select(*kept, "champion_loss")


def _ratios(figures: dict[str, float]) -> dict[str, float]:
    """Return the challenger's loss over that of each rival, by tier, where the rival was measured."""
    pairs = [("naive", f"wql/{tier}", tier) for tier in TIERS]
    pairs += [("champion", f"champion_wql/same_{tier}", tier) for tier in TIERS]
    return {
        f"to_{rival}/{tier}": ratio(figures[mine], figures[f"{rival}_wql/{tier}"])
        for rival, mine, tier in pairs
        if f"{rival}_wql/{tier}" in figures
    }


def _against(figures: dict[str, float], rival: str, says: str, most: dict[str, float]) -> list[Check]:
    """Compare the losses of each tier with a rival's."""
    checks: list[Check] = []
    for tier, limit in most.items():
        metric = f"to_{rival}/{tier}"
        if metric not in figures:
            continue
        mine = figures[f"wql/{tier}" if rival == "naive" else f"champion_wql/same_{tier}"]
        days = " on the same days" if rival == "champion" else ""
        words = f"{TIERS[tier]}: WQL {mine:.2f} where {says} {figures[f'{rival}_wql/{tier}']:.2f}{days}"
        checks.append(_check(metric, figures, limit, words))
    return checks


def _coverage(figures: dict[str, float]) -> list[Check]:
    """The band, from both sides."""
    low, high = COVERAGE_BAND
    words = f"80 % band holds {figures['coverage_80/all']:.0%} ({low:.0%} to {high:.0%} wanted)"
    both = [_check("coverage_80/all", figures, low, words, least=True), _check("coverage_80/all", figures, high, words)]
    return [check for check in both if not check.passed] or both[:1]


def _costs(figures: dict[str, float]) -> list[Check]:
    """No leak, not too large, not too slow."""
    moved, size, speed = figures["leak/gpus"], figures["size/mib"], figures["speed/seconds"]
    changed = f"a changed future moves a past forecast by {moved:.3g} GPUs" if moved else "no look into the future"
    seen = f"the fit had seen {figures['leak/hours']:.0f} of the tested hours"
    return [
        _check("leak/gpus", figures, 0.0, changed),
        _check("leak/hours", figures, 0.0, seen),
        _check("size/mib", figures, MOST_MIB, f"file of {size:.1f} MiB (at most {MOST_MIB:.0f})"),
        _check("speed/seconds", figures, MOST_SECONDS, f"a forecast takes {speed:.1f} s (at most {MOST_SECONDS:.0f})"),
    ]


def _check(metric: str, figures: dict[str, float], limit: float, words: str, *, least: bool = False) -> Check:
    """Ask MLflow; a value that is no number never passes."""
    value = float(figures[metric])
    passed, threshold = math.isfinite(value), MetricThreshold(threshold=limit, greater_is_better=least)
    try:
        with quiet_mlflow():
            validate_evaluation_results({metric: threshold}, EvaluationResult({metric: value}, _NOTHING))
    except ModelValidationFailedException:
        passed = False
    return Check(metric=metric, value=value, limit=limit, words=words, passed=passed, least=least)
