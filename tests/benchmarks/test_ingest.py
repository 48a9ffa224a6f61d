"""The accounting that the benchmark of imports writes is what the reader of sacct reads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from benchmarks.ingest import ZONE, write_sacct

from gangplan.progress import no_progress
from gangplan.telemetry.mappings import Reading
from gangplan.telemetry.sources.choose import load


def test_every_job_with_gpus_is_read(tmp_path: Path):
    """None is rejected; those without GPUs are left out."""
    write_sacct(tmp_path / "sacct.txt", 500)
    now = datetime(2026, 11, 28, tzinfo=UTC)
    source, reading = str(tmp_path / "sacct.txt"), Reading(zone=ZONE)
    read = load(source, seed=7, clock=lambda: now, progress=no_progress, reading=reading)
    assert (read.rejected_count, read.rows + read.skipped) == (0, 500)
    assert 5 < read.skipped < 60
