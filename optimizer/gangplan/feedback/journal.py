"""The runs that feedback writes to MLflow: the score's metrics and tables, and the corrections learned so far.

Beliefs move once in a week, on the scored hours of a whole week: a day alone says little about a level, and one bad day
must not move it to its limit (docs/feedback.md has the figures). Scores of single days are kept until then.

No hour counts twice. To learn again from the same score returns its run; a score whose span overlaps with earlier ones
(of a replay an hour later, for example) starts from the newest beliefs that were learned before its own week.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from mlflow.entities import Metric, Run

from gangplan.clock import HOUR, Clock, parse_utc
from gangplan.feedback.beliefs import correct
from gangplan.feedback.scoring import by_series
from gangplan.tables import COMPARED, CORRECTIONS, QUANTILE_COLUMNS, empty
from gangplan.tracking import FEEDBACK, Store, table_sha256
from gangplan.types import SERIES, Beliefs, Score

_KIND = {"kind": "score"}
_SCANNED = 1000  # the most runs that are searched for the earlier beliefs and hours

WEEK = timedelta(days=7)
"""The span of hours that moves the beliefs; half a day at its beginning may be missing, and half of all its hours."""

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
    """Log a score, and the corrections learned from the week that ends with it, as one run.

    Until the scores since the last correction cover a week, the beliefs stay as they are. A second call with the same
    score returns the beliefs of the first one and logs nothing.
    """
    digest = _digest(score)
    known = store.runs(FEEDBACK, {**_KIND, "evidence": digest})
    if known:
        return _beliefs(store, known[0])
    earlier = store.runs(FEEDBACK, _KIND, limit=_SCANNED)
    before = _before(earlier, score)
    corrections = _corrections(store, None if before is None else before.info.run_id)
    begun = min(score.start, score.end - WEEK)
    week = _compared_since(store, earlier, score, begun if before is None else max(begun, _time(before, "end")))
    learned = _is_a_week(week, score.end)
    if learned:
        corrections = correct(
            by_series(week),
            before=corrections,
            age=timedelta() if before is None else score.end - _time(before, "end"),
            applied=_corrections(store, score.corrected_by),
        )
    made_at, built_on = clock(), "" if before is None else before.info.run_id
    tags = {"evidence": digest, "built_on": built_on, "learned": str(learned).lower()}
    run_id = _log(score, corrections, store, made_at, tags)
    return Beliefs(made_at=made_at, corrections=corrections, run_id=run_id)


def _corrections(store: Store, run_id: str | None) -> pl.DataFrame:
    """Return the corrections of a run, or none."""
    return empty(CORRECTIONS) if run_id is None else store.read_table(run_id, "corrections")


def _is_a_week(compared: pl.DataFrame, end: datetime) -> bool:
    """Return whether hours (COMPARED) reach back a week from `end`, but for half a day, and half of it is known."""
    hours = compared["hour"].unique()
    return (hours < end - WEEK + timedelta(hours=12)).any() and len(hours) * HOUR >= WEEK / 2


def _compared_since(store: Store, runs: list[Run], score: Score, begun: datetime) -> pl.DataFrame:
    """Return the scored hours (COMPARED) since `begun`, each once, as forecasts with the corrections of `score`."""
    parts, covered = [score.compared.filter(pl.col("hour") >= begun)], score.start
    for run in sorted(runs, key=lambda run: _time(run, "end"), reverse=True):
        if covered <= begun or _time(run, "end") <= begun:
            break
        start = _time(run, "start")
        if start < covered:
            earlier = store.read_table(run.info.run_id, "compared")
            earlier = earlier.filter(pl.col("hour").is_between(begun, covered, closed="left"))
            parts.append(_as_under(store, earlier, had=run.data.tags["corrected_by"], now=score.corrected_by or ""))
            covered = start
    return pl.concat(parts).sort(*SERIES, "hour")


def _as_under(store: Store, compared: pl.DataFrame, *, had: str, now: str) -> pl.DataFrame:
    """Return hours (COMPARED) as if their forecast had had the levels of other corrections."""
    if had == now:
        return compared
    levels = [_corrections(store, run or None).select(*SERIES, "level") for run in (had, now)]
    both = compared.join(levels[0], on=SERIES, how="left").join(levels[1], on=SERIES, how="left", suffix="_now")
    factor = pl.col("level_now").fill_null(1.0) / pl.col("level").fill_null(1.0)
    return both.with_columns(pl.col(QUANTILE_COLUMNS) * factor).select(list(COMPARED))


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
        compared=store.read_table(run.info.run_id, "compared"),
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
        store.log_table(run_id, "compared", score.compared)
        store.log_table(run_id, "corrections", corrections)
    return run_id


def _before(runs: list[Run], score: Score) -> Run | None:
    """Return the newest run that moved the beliefs; one whose span overlaps more than half of the score's is replaced.

    Scores of two days overlap by an hour or so, as the plan that is scored was made at least a day before.
    """
    learned = [run for run in runs if run.data.tags.get("learned") == "true"]
    earlier = [run for run in learned if _time(run, "end") <= score.start + (score.end - score.start) / 2]
    return max(earlier, key=lambda run: _time(run, "end"), default=None)


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
