"""The runs that feedback writes to MLflow: the score's metrics and tables, and the corrections learned from it.

No score counts twice. To learn again from the same score returns its run; a score whose span overlaps with earlier ones
(of a replay an hour later, for example) starts from the newest beliefs whose span ended before its own started.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from mlflow.entities import Metric, Run

from gangplan.clock import Clock, parse_utc
from gangplan.feedback.beliefs import correct
from gangplan.tables import CORRECTIONS, empty
from gangplan.tracking import FEEDBACK, Store, table_sha256
from gangplan.types import Beliefs, Score

_KIND = {"kind": "score"}
_SCANNED = 1000  # the most runs that are searched for the earlier beliefs
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
    """Learn corrections from a score and the beliefs before it, and log both as one run.

    A second call with the same score returns the beliefs of the first one and logs nothing.
    """
    digest = _digest(score)
    known = store.runs(FEEDBACK, {**_KIND, "evidence": digest})
    if known:
        return _beliefs(store, known[0])
    earlier = [run for run in store.runs(FEEDBACK, _KIND, limit=_SCANNED) if _time(run, "end") <= score.start]
    before = max(earlier, key=lambda run: _time(run, "end"), default=None)
    applied = score.corrected_by
    corrections = correct(
        score.by_series,
        before=empty(CORRECTIONS) if before is None else store.read_table(before.info.run_id, "corrections"),
        age=timedelta() if before is None else score.end - _time(before, "end"),
        applied=empty(CORRECTIONS) if applied is None else store.read_table(applied, "corrections"),
    )
    made_at, tags = clock(), {"evidence": digest, "built_on": "" if before is None else before.info.run_id}
    run_id = _log(score, corrections, store, made_at, tags)
    return Beliefs(made_at=made_at, corrections=corrections, run_id=run_id)


def read_beliefs(store: Store) -> Beliefs | None:
    """Return the newest beliefs; None when feedback has not run yet."""
    runs = store.runs(FEEDBACK, _KIND)
    return _beliefs(store, runs[0]) if runs else None


def read_score(store: Store) -> Score | None:
    """Return the newest score; None when feedback has not run yet."""
    runs = store.runs(FEEDBACK, _KIND)
    if not runs:
        return None
    run = runs[0]
    numbers: dict[str, Any] = {name: run.data.metrics.get(name) for name in _NUMBERS}
    return Score(
        start=_time(run, "start"),
        end=_time(run, "end"),
        **numbers,
        by_series=store.read_table(run.info.run_id, "by_series"),
        corrected_by=run.data.tags.get("corrected_by") or None,
    )


def _log(score: Score, corrections: pl.DataFrame, store: Store, at: datetime, tags: Mapping[str, str]) -> str:
    """Write the run and return its id; nobody reads it before it is finished."""
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


def _beliefs(store: Store, run: Run) -> Beliefs:
    run_id: str = run.info.run_id
    return Beliefs(made_at=_time(run, "made_at"), corrections=store.read_table(run_id, "corrections"), run_id=run_id)


def _digest(score: Score) -> str:
    """Return a digest of a score; numbers are rounded, because the order of a sum changes their last digits."""
    table = score.by_series.with_columns(pl.selectors.float().round(6))
    numbers = [getattr(score, name) for name in _NUMBERS]
    rounded = [None if number is None else round(number, 6) for number in numbers]
    body = repr((score.start, score.end, score.corrected_by, rounded, table_sha256(table)))
    return hashlib.sha256(body.encode()).hexdigest()


def _time(run: Run, tag: str) -> datetime:
    return parse_utc(tag, run.data.tags[tag])
