"""The runs that feedback leaves in MLflow: the score's metrics and tables, and the corrections drawn from it.

A run's evidence is counted once. Learning from the very same score gives back its run; a score whose span overlaps
with earlier ones (a replay an hour later, say) builds on the newest beliefs that end before it starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl
from mlflow.entities import Metric, Run

from gangplan.clock import Clock, parse_utc
from gangplan.feedback.beliefs import correct
from gangplan.tables import CORRECTIONS, empty
from gangplan.tracking import FEEDBACK, Store, table_sha256
from gangplan.types import Beliefs, Score

_KIND = {"kind": "score"}
_SCANNED = 1000  # runs looked through for the beliefs before; a year of hourly ones would be read in pages
_NUMBERS = (
    "wql",
    "coverage_80",
    "planned_cost",
    "realised_cost",
    "unserved_gpu_hours",
    "idle_gpu_hours",
    "mean_wait_s",
    "mean_eta_error_s",
)


def learn(score: Score, store: Store, *, clock: Clock) -> Beliefs:
    """Draw corrections from a score and the beliefs before it, and log both as one run.

    Learning again from the same score returns what was drawn from it the first time and logs nothing.
    """
    digest = _digest(score)
    known = store.runs(FEEDBACK, {**_KIND, "evidence": digest})
    if known:
        return _beliefs(store, known[0])
    before = _before(store, score.start)
    corrections = correct(
        score.by_series,
        before=empty(CORRECTIONS) if before is None else store.read_table(before.info.run_id, "corrections"),
        age=timedelta() if before is None else score.end - _time(before, "end"),
        applied=_applied(store, score),
    )
    made_at = clock()
    run_id = _log(score, corrections, store, made_at, {"evidence": digest, "built_on": _id(before)})
    return Beliefs(made_at=made_at, corrections=corrections, run_id=run_id)


def read_beliefs(store: Store) -> Beliefs | None:
    """Return the newest beliefs, or none when feedback has not run yet."""
    found = store.runs(FEEDBACK, _KIND)
    return _beliefs(store, found[0]) if found else None


def read_score(store: Store) -> Score | None:
    """Return the newest score, or none when feedback has not run yet."""
    found = store.runs(FEEDBACK, _KIND)
    if not found:
        return None
    run = found[0]
    numbers: Mapping[str, float] = run.data.metrics
    return Score(
        start=_time(run, "start"),
        end=_time(run, "end"),
        wql=numbers["wql"],
        coverage_80=numbers["coverage_80"],
        planned_cost=numbers["planned_cost"],
        realised_cost=numbers["realised_cost"],
        unserved_gpu_hours=numbers["unserved_gpu_hours"],
        idle_gpu_hours=numbers["idle_gpu_hours"],
        mean_wait_s=numbers.get("mean_wait_s"),
        mean_eta_error_s=numbers.get("mean_eta_error_s"),
        by_series=store.read_table(run.info.run_id, "by_series"),
        corrected_by=run.data.tags.get("corrected_by") or None,
    )


def _log(score: Score, corrections: pl.DataFrame, store: Store, at: datetime, tags: Mapping[str, str]) -> str:
    """Write the run; a reader sees it whole or not at all, since only finished runs are read."""
    span = {"start": score.start.isoformat(), "end": score.end.isoformat(), "made_at": at.isoformat()}
    every = {**_KIND, **span, **tags, "corrected_by": score.corrected_by or ""}
    stamp = int(at.timestamp() * 1000)
    values = {name: getattr(score, name) for name in _NUMBERS}
    metrics = [Metric(name, float(value), stamp, 0) for name, value in values.items() if value is not None]
    with store.run(FEEDBACK, f"feedback {score.start:%Y-%m-%d} to {score.end:%Y-%m-%d}", every) as run_id:
        store.client.log_batch(run_id, metrics=metrics)
        store.log_table(run_id, "by_series", score.by_series)
        store.log_table(run_id, "corrections", corrections)
    return run_id


def _before(store: Store, start: datetime) -> Run | None:
    """Return the newest run whose evidence ended by `start`."""
    earlier = [run for run in store.runs(FEEDBACK, _KIND, limit=_SCANNED) if _time(run, "end") <= start]
    return max(earlier, key=lambda run: _time(run, "end"), default=None)


def _applied(store: Store, score: Score) -> pl.DataFrame:
    """Return the corrections that the scored forecast held."""
    return empty(CORRECTIONS) if score.corrected_by is None else store.read_table(score.corrected_by, "corrections")


def _beliefs(store: Store, run: Run) -> Beliefs:
    """Read a run's corrections."""
    run_id: str = run.info.run_id
    return Beliefs(made_at=_time(run, "made_at"), corrections=store.read_table(run_id, "corrections"), run_id=run_id)


def _digest(score: Score) -> str:
    """Name a score by all that it says; rounded, so that the order of a sum does not make it another."""
    table = score.by_series.with_columns(pl.selectors.float().round(6))
    numbers = [getattr(score, name) for name in _NUMBERS]
    rounded = [None if number is None else round(number, 6) for number in numbers]
    body = repr((score.start, score.end, score.corrected_by, rounded, table_sha256(table)))
    return hashlib.sha256(body.encode()).hexdigest()


def _time(run: Run, tag: str) -> datetime:
    """Read a time from a run's tags."""
    return parse_utc(tag, run.data.tags[tag])


def _id(run: Run | None) -> str:
    """A run's id, or nothing."""
    return "" if run is None else str(run.info.run_id)
