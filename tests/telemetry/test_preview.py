"""`gangplan ingest --preview`: what is understood, before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from tests.command import Call, caller, widen
from tests.telemetry.malformed import answering, listed, write_kubeconfig

from gangplan.cli.screen import picture

JOBS = """\
job_id;tenant;workload_class;accelerator;gpus;submitted_at;started_at;ended_at
a;search;cost;a100;4;2026-03-01T00:00:00;2026-03-01T00:10:00;2026-03-01T05:00:00
b;search;cost;a100;8;2026-03-01T02:00:00;2026-03-01T02:10:00;2026-03-01T04:00:00
c;search;cost;a100;-8;2026-03-01T02:00:00;2026-03-01T02:10:00;2026-03-01T04:00:00
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command in a folder with a table of jobs in Berlin's time."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path / "home"))
    widen(monkeypatch, 200)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.csv").write_text(JOBS)
    yield caller(monkeypatch, capsys)
    typer.echo("", nl=False)


def test_preview_shows_what_is_understood_and_writes_nothing(call: Call, tmp_path: Path):
    """Rows, span, demand by hour as a picture, and what was kept out; no home is made."""
    said = call("ingest", "jobs.csv", "--zone", "Europe/Berlin", "--preview")
    assert said.code == 0
    for words in (
        "jobs: the first of 2 rows, in UTC",
        "2026-02-28T23:00:00+00:00 to 2026-03-01T04:00:00+00:00",
        "GPUs asked for, by hour",
        "each column an hour, highest 12",
        "kept out: jobs.csv line 4: gpus: '-8' must be greater than 0",
        "note: 9 times without an offset were read as times of Europe/Berlin",
        "nothing was written",
    ):
        assert words in " ".join(said.out.split()), words
    assert not (tmp_path / "home").exists()


def test_preview_as_json(call: Call):
    """The same as values: what a program needs to decide whether to import."""
    seen = call("ingest", "jobs.csv", "--zone", "Europe/Berlin", "--preview", "--json").json
    assert (seen["rows"], seen["rejected_count"], seen["tables"]) == (2, 1, {"demand": 5, "jobs": 2})
    assert [row["gpus"] for row in seen["demand"]] == [4, 4, 12, 12, 4]
    assert seen["first_rows"]["jobs"][0]["submitted_at"] == "2026-02-28T23:00:00+00:00"


def test_what_a_preview_refuses_an_import_refuses_too(call: Call, tmp_path: Path):
    """One line and exit code 2; nothing is written."""
    for words in (["--preview"], []):
        said = call("ingest", "jobs.csv", *words)
        assert said.code == 2
        assert "has no time zone" in said.err
    assert call("ingest", "jobs.csv", "--zone", "Berlin").code == 2
    assert call("ingest", "jobs.csv", "--mapping", "helois").code == 2
    assert call("ingest", "jobs.csv", "--decimal", ";").code == 2
    assert not (tmp_path / "home" / "mlflow" / "artifacts").exists()


def test_preview_of_a_trace_that_is_walked_through_shows_what_an_import_keeps(call: Call, tmp_path: Path):
    """As of a moment in the trace a job that ends later runs; before the trace there is nothing to import."""
    as_of = ("--now", "2026-03-01T02:00:00Z", "ingest", "jobs.csv", "--zone", "Europe/Berlin")
    seen, kept = call(*as_of, "--preview", "--json").json, call(*as_of, "--json").json
    assert (seen["rows"], seen["end"], seen["tables"]) == (2, "2026-03-01T02:00:00+00:00", {"demand": 3, "jobs": 2})
    assert [row["ended_at"] for row in seen["first_rows"]["jobs"]] == [None, None]
    assert {name: seen[name] for name in ("rows", "start", "end")} == {
        name: kept[name] for name in ("rows", "start", "end")
    }
    assert [*seen["notes"], *(note for note in kept["notes"] if note.startswith("late:"))] == kept["notes"]
    for words in (["--preview"], []):
        said = call("--now", "2026-02-01T00:00:00Z", *as_of[2:], *words)
        assert said.code == 2
        assert "leaves no whole hour" in said.err


def test_preview_of_a_cluster_knows_what_the_cluster_forgot(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A pod that is gone since the last import counts until now, as in the next import; the cache stays as it is."""
    with answering() as server:
        write_kubeconfig(tmp_path / "kubeconfig", server.url)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        server.reply = lambda path: (200, json.dumps(listed(path)).encode())
        assert call("--now", "2026-03-01T06:00:00Z", "ingest", "kubernetes+-", "--json").json["rows"] == 2
        (cache,) = (tmp_path / "home").rglob("cluster-*.parquet")
        before = cache.read_bytes()
        server.reply = lambda path: (200, json.dumps(listed(path) | {"items": []}).encode())
        seen = call("--now", "2026-03-01T08:30:00Z", "ingest", "kubernetes+-", "--preview", "--json").json
    assert (seen["rows"], seen["tables"]["jobs"]) == (2, 2)
    assert [row["gpus"] for row in seen["demand"]] == [24.0] * 8
    assert cache.read_bytes() == before


def test_picture_fits_the_terminal_and_shows_gaps():
    """A thousand hours in at most 72 columns; the highest fills its column, a missing hour is a dot."""
    title, *lines, axis = picture("GPUs", [(f"h{hour}", float(hour)) for hour in range(1000)])
    assert title == "[bold]GPUs[/]"
    assert max(len(line) for line in lines) <= 72
    assert lines[0].endswith("\u2588")
    assert axis == "h0 to h999, each column the mean of 14 hours, highest 996.5"
    _, *lines, _ = picture("GPUs", [("h0", 4.0), ("h1", None), ("h2", 0.0), ("h3", 0.01)])
    assert lines[-1] == "\u2588\u00b7 \u2581"
    assert picture("GPUs", []) == []
