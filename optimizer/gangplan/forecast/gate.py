"""The gate between a challenger and the champion's place: MLflow's own validation against thresholds, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlflow.models import MetricThreshold
from mlflow.models.evaluation import EvaluationResult
from mlflow.models.evaluation.validation import ModelValidationFailedException, validate_evaluation_results

from gangplan.forecast.quiet import quiet_mlflow

CHAMPION_TOLERANCE = 1.02  # retraining on the same recipe moves the loss by about this much from day to day
COVERAGE_BAND = (0.60, 0.97)
_NOTHING: dict[str, object] = {}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the gate passed; what it compared, and what it found wanting, in words."""

    passed: bool
    compared: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All of it in one line."""
        return "; ".join(self.failures or self.compared)


@dataclass(frozen=True, kw_only=True)
class _Check:
    """One metric, the most that it may be, and what to say."""

    value: float
    most: float
    words: str


def judge(*, wql: float, naive_wql: float, coverage_80: float, against: tuple[float, float] | None) -> Verdict:
    """Hold a challenger's back-test against naive, the champion and the coverage band.

    Parameters
    ----------
    against
        WQL of challenger and champion on the origins that neither had seen; none when there is no such origin.
    """
    low, high = COVERAGE_BAND
    held = f"80 % band holds {coverage_80:.0%} ({low:.0%} to {high:.0%} wanted)"
    checks = [
        _Check(value=_ratio(wql, naive_wql), most=1.0, words=f"WQL {wql:.2f}, seasonal naive {naive_wql:.2f}"),
        _Check(value=max(low - coverage_80, coverage_80 - high), most=0.0, words=held),
    ]
    if against is not None:
        words = f"WQL {against[0]:.2f} where the champion has {against[1]:.2f} on the same days"
        checks.append(_Check(value=_ratio(*against), most=CHAMPION_TOLERANCE, words=words))
    failures = tuple(check.words for check in checks if not _passes(check))
    return Verdict(passed=not failures, compared=tuple(check.words for check in checks), failures=failures)


def _passes(check: _Check) -> bool:
    """Ask MLflow; a value that is no number never passes."""
    if not math.isfinite(check.value):
        return False
    threshold = MetricThreshold(threshold=check.most, greater_is_better=False)
    result = EvaluationResult(metrics={"value": check.value}, artifacts=_NOTHING)
    try:
        with quiet_mlflow():
            validate_evaluation_results({"value": threshold}, result)
    except ModelValidationFailedException:
        return False
    return True


def _ratio(mine: float, other: float) -> float:
    """My loss over the other's; 1 when both are nothing."""
    if other > 0:
        return mine / other
    return 1.0 if mine == 0 else math.inf
