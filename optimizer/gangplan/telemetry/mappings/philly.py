"""The jobs of Microsoft's Philly trace: each attempt to run one is a life of the job, on the GPUs that it names."""

from __future__ import annotations

import polars as pl

from gangplan.telemetry.mappings.prepared import Preparation, Prepared, rows_of
from gangplan.telemetry.rows import FAULT

_DETAIL = pl.Struct({"ip": pl.String, "gpus": pl.List(pl.String)})
_ATTEMPT = pl.Struct({"start_time": pl.String, "end_time": pl.String, "detail": pl.List(_DETAIL)})
_JOB = pl.Struct({"attempts": pl.List(_ATTEMPT)})
_NO_TIME = ("None", "")


def prepare_philly(rows: pl.DataFrame) -> Prepared:
    """Return one row for each attempt, submitted when the one before it ended."""
    decoded = _decoded(rows["attempts"])
    wrong = pl.when(decoded.is_null() & pl.col("attempts").is_not_null()).then(pl.col("attempts").str.slice(0, 60))
    jobs = rows.with_columns(_attempt=decoded.struct.field("attempts"), **{FAULT: pl.coalesce(FAULT, wrong)})
    tried = jobs.filter((pl.col("_attempt").list.len() > 0).fill_null(value=False) | pl.col(FAULT).is_not_null())
    attempts = tried.explode("_attempt")
    gpus = pl.col("_attempt").struct.field("detail").list.eval(pl.element().struct.field("gpus").list.len()).list.sum()
    times = {name: pl.col("_attempt").struct.field(name) for name in ("start_time", "end_time")}
    known = {name: pl.when(~moment.is_in(_NO_TIME)).then(moment) for name, moment in times.items()}
    numbered = attempts.with_columns(**known, gpus=gpus, _number=pl.int_range(1, pl.len() + 1).over("jobid"))
    next_start = pl.col("start_time").shift(-1).over("jobid")
    ended = numbered.with_columns(ended_at=pl.coalesce("end_time", next_start))
    before = pl.col("ended_at").shift(1).over("jobid")
    first = pl.col("_number") == 1
    lives = ended.with_columns(
        job_id=pl.when(first).then(pl.col("jobid")).otherwise(pl.format("{}#{}", "jobid", "_number")),
        gpus=pl.col("gpus").cast(pl.String),
        submitted_at=pl.when(first).then(pl.col("submitted_time")).otherwise(pl.coalesce(before, "start_time")),
        started_at="start_time",
    )
    never = jobs.height - tried.height
    notes = (
        (f"{rows_of(never)} left out: jobs that were never tried, and do not say how many GPUs they asked for",)
        if never
        else ()
    )
    return Prepared(frame=lives.drop("_attempt", "_number", "start_time", "end_time"), notes=notes, skipped=never)


def _decoded(text: pl.Series) -> pl.Series:
    """Return what each text says of a job's attempts; null where it says something else."""
    try:
        return text.str.json_decode(_JOB)
    except pl.exceptions.PolarsError:  # at least one is wrong: the others count
        return pl.Series([_alone(each) for each in text.to_list()], dtype=_JOB)


def _alone(text: str | None) -> object:
    """Return what one text says, or none."""
    try:
        return pl.Series([text], dtype=pl.String).str.json_decode(_JOB).item()
    except pl.exceptions.PolarsError:
        return None


PHILLY = Preparation(
    run=prepare_philly,
    makes=("job_id", "gpus", "submitted_at", "started_at", "ended_at"),
    reads=("attempts", "submitted_time"),
)
