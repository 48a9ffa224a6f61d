"""Slurm's accounting (`sacct -P`): which of its rows are jobs, and which GPUs each of them asked for.

A row is one life of a job: a requeued job has several (`sacct -D`), each with its own submission. Steps
(`12.batch`) repeat their job, and so does a second export of the same time. Source: sacct(1) of Slurm 24.11.
"""

from __future__ import annotations

import re

import polars as pl

from gangplan.errors import InputError
from gangplan.kube import instances_of
from gangplan.telemetry.mappings.prepared import Preparation, Prepared, rows_of
from gangplan.telemetry.rows import FAULT

_ENDED = (
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "PREEMPTED",
    "BOOT_FAIL",
    "DEADLINE",
    "OUT_OF_ME",
    "REVOKED",
)
"""Beginnings of the states in which a job is over."""

_TYPED = r"gres/gpu:([^=,]+)=(\d+)"
_ALL = r"gres/gpu=(\d+)"
_PROFILE = r"(?:^|[_:.-])(\dg\.\d+gb)"
"""A MIG profile in the name of a type, such as a100_3g.20gb."""

_GPUS = r"gres/gpu(?::[^=,]+)?=\d{1,9}(?:,|$)"
"""A number of GPUs as sacct writes it."""

_TASKS = r"_\[([^\]%]+)(?:%(\d{1,9}))?\]$"
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?")
_MORE = ",..."
"""What stands for the tasks that do not fit into SLURM_BITSTR_LEN characters."""


def prepare_sacct(rows: pl.DataFrame) -> Prepared:
    """Return one row for each life of a job with GPUs, with what sacct says in words made plain."""
    if not {"AllocTRES", "ReqTRES"} & set(rows.columns):
        remedy = "lacks that column, which says the GPUs of each job: call sacct with -o (docs/telemetry.md)"
        raise InputError("AllocTRES", ", ".join(rows.columns), remedy)
    faulty = rows.filter(pl.col(FAULT).is_not_null())
    notes: list[str] = []
    jobs = _with_columns(rows.filter(pl.col(FAULT).is_null()))
    jobs = _counted(jobs, ~pl.col("JobID").str.contains(".", literal=True), "steps of jobs", notes)
    jobs, odd = _sound(_with_gpus(jobs))
    shards = pl.col("_tres").str.contains("gres/(shard|mps)") & (pl.col("gpus") == 0)
    jobs = _counted(jobs, ~shards, "jobs on shards of a GPU, whose share sacct does not tell", notes)
    jobs = _counted(jobs, pl.col("gpus") > 0, "jobs without GPUs", notes)
    jobs = _arrays(_lives(_by_type(jobs, notes), notes), notes)
    left = faulty.drop("AllocTRES", "ReqTRES", strict=False)
    frame = pl.concat([jobs.drop("_order"), left, odd.select(left.columns)], how="diagonal")
    return Prepared(frame=frame, notes=tuple(notes), skipped=rows.height - frame.height)


def _with_columns(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with every column that is used, and their order."""
    optional = [name for name in ("AllocTRES", "ReqTRES", "State", "Cluster") if name not in rows.columns]
    full = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in optional)
    return full.with_row_index("_order")


def _counted(rows: pl.DataFrame, kept: pl.Expr, what: str, notes: list[str]) -> pl.DataFrame:
    """Return the rows that are kept, and note how many are left out."""
    left = rows.filter(kept.fill_null(value=True))
    if left.height < rows.height:
        notes.append(f"{rows_of(rows.height - left.height)} left out: {what}")
    return left


def _with_gpus(jobs: pl.DataFrame) -> pl.DataFrame:
    """Return the jobs with their GPUs and the type that sacct names first: what they got, else what they asked for."""
    given = [pl.when(pl.col(name) != "").then(pl.col(name)) for name in ("AllocTRES", "ReqTRES")]
    tres = jobs.with_columns(_tres=pl.coalesce(*given, pl.lit(""))).drop("AllocTRES", "ReqTRES")
    typed = pl.col("_tres").str.extract(_TYPED, 2).cast(pl.Int64, strict=False)
    total = pl.col("_tres").str.extract(_ALL, 1).cast(pl.Int64, strict=False)
    return tres.with_columns(gpus=pl.coalesce(total, typed, 0), accelerator=pl.col("_tres").str.extract(_TYPED, 1))


def _sound(jobs: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the jobs, and those whose GPUs or tasks nobody can count, with that text as what is wrong with the row."""
    said = pl.col("_tres").str.count_matches(r"gres/gpu[:=]")
    tasks = pl.col("JobID").str.extract(_TASKS, 1).map_elements(_tasks, pl.Int64)
    fault = (
        pl.when(said != pl.col("_tres").str.count_matches(_GPUS))
        .then("_tres")
        .when(pl.col("JobID").str.contains("_[", literal=True) & tasks.is_null())
        .then("JobID")
    )
    judged = jobs.with_columns(fault.alias(FAULT))
    return judged.filter(pl.col(FAULT).is_null()), judged.filter(pl.col(FAULT).is_not_null())


def _by_type(jobs: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return one row for each type of GPU of a job, since each is another series; slices count as parts of a GPU."""
    several = pl.col("_tres").str.count_matches(_TYPED) > 1
    each = jobs.filter(several).with_columns(_one=pl.col("_tres").str.extract_all(_TYPED)).explode("_one")
    split = each.with_columns(
        gpus=pl.col("_one").str.extract(_TYPED, 2).cast(pl.Int64),
        accelerator=pl.col("_one").str.extract(_TYPED, 1),
        JobID=pl.format("{}:{}", "JobID", pl.col("_one").str.extract(_TYPED, 1)),
    )
    together = pl.concat([jobs.filter(~several).drop("_tres"), split.drop("_one", "_tres")])
    instances = {kind: _instances(kind) for kind in together["accelerator"].drop_nulls().unique().sort()}
    held = {kind: count for kind, (profile, count) in instances.items() if profile}
    if not held:
        return together.with_columns(pl.col("gpus").cast(pl.Float64))
    sliced = together.filter(pl.col("accelerator").is_in(list(held))).height
    each = ", ".join(sorted({f"{count} x {profile}" for profile, count in instances.values() if profile}, reverse=True))
    notes.append(f"{rows_of(sliced)} ask for MIG instances: as many as a GPU holds count as one ({each})")
    number = pl.col("accelerator").replace_strict(held, default=1, return_dtype=pl.Int64)
    return together.with_columns(gpus=pl.col("gpus") / number)


def _instances(kind: str) -> tuple[str, int]:
    """Return the MIG profile in the name of a type ("": none), and how many of its instances a GPU holds."""
    found = re.search(_PROFILE, kind)
    return (found[1], instances_of(found[1], re.sub(_PROFILE, "", kind))) if found else ("", 1)


def _lives(jobs: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return each life of a job once, as its newest telling has it, with ids of its own after the first."""
    repeated = (
        pl.struct("Cluster", "JobID").is_duplicated() if jobs["Cluster"].count() else pl.col("JobID").is_duplicated()
    )
    often = jobs.select(repeated).to_series()
    if often.any():
        jobs = pl.concat([jobs.filter(~often), _told_often(jobs.filter(often), notes)]).sort("_order")
    over = pl.any_horizontal(pl.col("State").str.starts_with(state) for state in _ENDED).fill_null(value=False)
    ended = (
        pl.when(over & pl.col("End").is_null()).then(pl.lit("Unknown, but the job is over")).otherwise(pl.col("End"))
    )
    waits = (pl.col("State") == "PENDING").fill_null(value=False)
    cluster = pl.when(pl.col("Cluster").fill_null("") != "").then(pl.col("Cluster") + "/").otherwise(pl.lit(""))
    return jobs.with_columns(JobID=cluster + pl.col("JobID"), Start=pl.when(~waits).then(pl.col("Start")), End=ended)


def _told_often(jobs: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return each life of jobs with several rows; one without an end is over when the next one was submitted."""
    job = ["Cluster", "JobID"]
    known = pl.col("End").is_not_null().cast(pl.Int8) * 2 + pl.col("Start").is_not_null().cast(pl.Int8)
    told = jobs.with_columns(_known=known).sort("_known", "_order")
    lives = told.unique([*job, "Submit", "Start"], keep="last", maintain_order=True).drop("_known")
    started = pl.col("Start").is_not_null()
    lives = lives.filter(started | ~started.any().over([*job, "Submit"]))
    if again := jobs.height - lives.height:
        words = "they tell a job again, of which the row with its end counts, or else the last"
        notes.append(f"{rows_of(again)} left out: {words}")
    lives = lives.sort([*job, "Submit", "Start"], nulls_last=True, maintain_order=True)
    number, later = pl.int_range(1, pl.len() + 1).over(job), pl.col("Submit").shift(-1).over(job)
    lives = lives.with_columns(_life=number, End=pl.coalesce("End", later))
    if requeued := lives.filter(pl.col("_life") == 2).height:
        count = lives.filter(pl.col("_life").max().over(job) > 1).height
        notes.append(f"requeued jobs ({requeued:,}): each of their lives counts as a job, {count:,} in all")
    names = pl.when(pl.col("_life") > 1).then(pl.format("{}#{}", "JobID", "_life")).otherwise(pl.col("JobID"))
    return lives.with_columns(JobID=names).drop("_life")


def _arrays(jobs: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Return the jobs with the waiting tasks of an array in one row, as many as its limit lets run at once."""
    bracketed = pl.col("JobID").str.contains(_TASKS)
    if not jobs.select(bracketed.any()).item():
        return jobs.with_columns(pl.col("gpus").cast(pl.String))
    base = pl.col("JobID").str.replace(r"_.*$", "")
    running = jobs.filter(~bracketed, pl.col("Start").is_not_null(), pl.col("End").is_null())
    busy = running.group_by("Cluster", _base=base).agg(_busy=pl.len().cast(pl.Int64))
    waiting = jobs.with_columns(_base=base).join(busy, on=["Cluster", "_base"], how="left", nulls_equal=True)
    waiting = waiting.with_columns(
        _tasks=pl.when(bracketed).then(pl.col("JobID").str.extract(_TASKS, 1)).map_elements(_tasks, pl.Int64),
        _limit=pl.when(bracketed).then(pl.col("JobID").str.extract(_TASKS, 2)).cast(pl.Int64),
    )
    free = (pl.col("_limit") - pl.col("_busy").fill_null(0)).clip(lower_bound=0)
    counted = waiting.with_columns(_wait=pl.min_horizontal("_tasks", free))
    arrays = counted.filter(pl.col("_tasks").is_not_null())
    tasks, asking = int(arrays["_tasks"].sum()), int(arrays["_wait"].sum())
    if cut := arrays.filter(pl.col("JobID").str.contains(_MORE, literal=True)).height:
        notes.append(f"waiting arrays whose tasks sacct cut short ({cut:,}): those it shows count; SLURM_BITSTR_LEN=0")
    limited = "" if tasks == asking else f"; their limits (%) let {asking:,} more run at once, and so many count"
    notes.append(f"waiting arrays ({arrays.height:,}) with tasks that have not begun ({tasks:,}){limited}")
    kept = counted.filter((pl.col("_wait") > 0).fill_null(value=True)).sort("_order")
    gpus = (pl.col("gpus") * pl.col("_wait").fill_null(1)).cast(pl.String)
    return kept.with_columns(gpus=gpus).drop("_base", "_busy", "_tasks", "_limit", "_wait")


def _tasks(ranges: str) -> int | None:
    """Count the tasks of an array: 1-4,7,10-20:2 has 11; none where the text tells no tasks."""
    count = 0
    for part in ranges.removesuffix(_MORE).split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            return None
        first, last, step = (int(number or found[1]) for number in found.groups())
        step = step if found[3] else 1
        if last < first or not step:
            return None
        count += (last - first) // step + 1
    return count


SACCT = Preparation(
    run=prepare_sacct, makes=("accelerator", "gpus"), reads=("AllocTRES", "ReqTRES", "State", "Cluster")
)
