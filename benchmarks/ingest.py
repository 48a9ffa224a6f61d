"""`make bench-ingest`: a million jobs of `sacct -P` into MLflow, demand by hour, beside Polars reading the text alone.

Each import and each reading stands in a process of its own; memory is that process's peak resident size.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.parts.figures import Figure, report

JOBS = 1_000_000
ROUNDS = 3
"""Imports, each into a store of its own; the figures are their medians."""

START, DAYS = 1_767_225_600, 120  # 2026-01-01 in UTC
ZONE, TIMES = "Europe/Berlin", ("Submit", "Start", "End")
TENANTS, TYPES, SIZES = 12, ("a100", "h100", "l40s"), (1, 1, 1, 2, 4, 8, 8, 16)

READ_POLARS = """
import sys, polars as pl
frame = pl.read_csv(sys.argv[1], separator="|", quote_char=None, infer_schema=False)
print(frame.height)
"""
READ_DUCKDB = """
import sys, duckdb
query = "select count(*) from (select * from read_csv(?, delim='|', quote='', all_varchar=true) order by JobID limit 1)"
print(duckdb.sql(query, params=[sys.argv[1]]).fetchone())
"""


def write_sacct(path: Path, jobs: int, seed: int = 7) -> None:
    """Write what `sacct -P -X` prints for so many jobs: most have GPUs, some wait, some run, some were cancelled."""
    random = np.random.default_rng(seed)
    submitted = np.sort(random.integers(START, START + DAYS * 86400, jobs))
    started = submitted + random.exponential(900, jobs).astype(np.int64)
    ended = started + random.lognormal(8, 1.5, jobs).clip(30, 7 * 86400).astype(np.int64)
    now = START + DAYS * 86400
    gpus = np.where(random.random(jobs) < 0.05, 0, random.choice(SIZES, jobs))
    frame = pl.DataFrame(
        {
            "number": np.arange(jobs) + 10_000,
            "tenant": random.integers(0, TENANTS, jobs),
            "type": random.choice(TYPES, jobs),
            "gpus": gpus,
            "cancelled": random.random(jobs) < 0.1,
            **dict(zip(TIMES, (submitted, started, ended), strict=True)),
        }
    )
    waits, runs = pl.col("Start") > now, pl.col("End") > now
    number = {name: pl.col(name).cast(pl.String) for name in ("number", "tenant", "gpus")}
    plain = pl.format("billing={},cpu={},mem=64G,node=1", number["gpus"], number["gpus"])
    gres = pl.format("gres/gpu:{}={},gres/gpu={}", "type", number["gpus"], number["gpus"])
    tres = pl.when(pl.col("gpus") > 0).then(pl.format("{},{}", plain, gres)).otherwise(plain)
    state = pl.when(waits).then(pl.lit("PENDING")).when(runs).then(pl.lit("RUNNING"))
    local = {name: pl.from_epoch(name, "s").dt.replace_time_zone("UTC").dt.convert_time_zone(ZONE) for name in TIMES}
    moments = {name: moment.dt.strftime("%Y-%m-%dT%H:%M:%S") for name, moment in local.items()}
    unknown = pl.lit("Unknown")
    frame.select(
        JobID="number",
        JobName=pl.format("train-{}", number["tenant"]),
        User=pl.format("u{}", number["tenant"]),
        Account=pl.format("team-{}", number["tenant"]),
        Partition=pl.lit("gpu"),
        QOS=pl.lit("normal"),
        Submit=moments["Submit"],
        Start=pl.when(waits).then(unknown).otherwise(moments["Start"]),
        End=pl.when(waits | runs).then(unknown).otherwise(moments["End"]),
        State=state.when("cancelled").then(pl.lit("CANCELLED by 1234")).otherwise(pl.lit("COMPLETED")),
        ReqTRES=pl.format("{},gres/gpu={}", plain, number["gpus"]),
        AllocTRES=pl.when(waits).then(pl.lit("")).otherwise(tres),
        NodeList=pl.format("gpu{}", number["number"]),
        ExitCode=pl.lit("0:0"),
    ).write_csv(path, separator="|", quote_style="never")


def run(command: list[str], home: Path) -> tuple[float, float, float]:
    """Run a command; return its wall time in seconds, the peak of its own memory in MB, its processor seconds."""
    environment = {**os.environ, "GANGPLAN_HOME": str(home), "MLFLOW_DISABLE_TELEMETRY": "true"}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    said = process.stderr.read().decode() if process.stderr else ""
    if status:
        raise SystemExit(f"{' '.join(command)}: {said}")
    return took, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Write the accounting, import it, read it with others, report."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "sacct.txt"
        write_sacct(text, JOBS)
        gangplan = [sys.executable, "-m", "gangplan", "ingest", str(text), "--zone", ZONE, "--json"]
        imports = [run(gangplan, Path(folder) / f"home-{number}") for number in range(ROUNDS)]
        read = [run([sys.executable, "-c", READ_POLARS, str(text)], Path(folder)) for _ in range(ROUNDS)]
        peer = f"Polars reads the text in {_median(read, 0):.1f} s (processor {_median(read, 2):.1f} s)"
        if importlib.util.find_spec("duckdb"):
            other = [run([sys.executable, "-c", READ_DUCKDB, str(text)], Path(folder)) for _ in range(ROUNDS)]
            peer += f", DuckDB in {_median(other, 0):.1f} s ({_median(other, 2):.1f} s)"
        memory = f"Polars reading the text {_median(read, 1):,.0f} MB"
        figures = [
            Figure(name="ingest_1m_s", value=_median(imports, 0), unit="s, the whole command", bar="<= 20", peer=peer),
            Figure(name="ingest_1m_memory_mb", value=_median(imports, 1), unit="MB", bar="<= 1536", peer=memory),
            Figure(name="ingest_1m_processor_s", value=_median(imports, 2), unit="s of processor, all cores"),
            Figure(name="ingest_1m_text_mb", value=text.stat().st_size / 2**20, unit="MB of text"),
        ]
    report("ingest", figures)


def _median(runs: list[tuple[float, float, float]], place: int) -> float:
    """Return the median of one of the measures."""
    return statistics.median(each[place] for each in runs)


if __name__ == "__main__":
    main()
