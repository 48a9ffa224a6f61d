"""The command line: help with an example, JSON, exit codes, and one-line errors before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from tests.command import Call, caller

from gangplan.testing import NOW

COMMANDS = (
    "init",
    "ingest",
    "train",
    "plan",
    "apply",
    "reserve",
    "what-if",
    "resize",
    "release",
    "node lost",
    "node drain",
    "node ready",
    "node list",
    "status",
    "calendar",
    "explain",
    "feedback",
    "run",
    "report",
    "forecast tell",
    "forecast events",
    "forecast spikes",
    "forecast drift",
    "review list",
    "review show",
    "review approve",
    "review reject",
    "review rollback",
)
ASK = ("reserve", "--tenant", "vision", "--pods", "2", "--gpus", "4", "--accelerator", "h100-lab", "--duration", "1h")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home folder of a test's commands."""
    return tmp_path / "home"


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Call the command as a shell would, in this process."""
    monkeypatch.setenv("GANGPLAN_HOME", str(home))

    yield caller(monkeypatch, capsys)
    typer.echo("", nl=False)


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder with their contents."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(call: Call, command: str) -> None:
    """Every command explains itself with an example of its own."""
    said = call(*command.split(), "--help")
    assert said.code == 0
    assert "Example:" in said.out
    assert f"{command.split()[0]}" in said.out.split("Example:")[1]


def test_version(call: Call) -> None:
    """The version is printed."""
    assert call("--version").out.startswith("gangplan 0.")


def test_reserve_wait_release(call: Call) -> None:
    """Slots are granted, a second gang waits with its reason (exit code 3), and gets them after the release."""
    assert call("init").code == 0
    first = call(*ASK, "--key", "one", "--json")
    assert (first.code, first.json["state"]) == (0, "granted")
    assert sum(place["gpus"] for place in first.json["placements"]) == 8
    second = call(*ASK, "--key", "two", "--json")
    assert (second.code, second.json["state"]) == (3, "waiting")
    assert second.json["reason"]["message"]
    assert second.json["eta"]
    assert call("release", "--key", "one", "--json").json["state"] == "released"
    assert call(*ASK, "--key", "two", "--json").json["state"] == "granted"
    assert call("release", "--key", "one").code == 0
    states = {row["key"]: row["state"] for row in call("status", "--json").json}
    assert states == {"one": "released", "two": "granted"}


def test_words_for_a_person(call: Call) -> None:
    """Without --json the same is said in tables and words."""
    call("init")
    assert "granted" in call(*ASK, "--key", "one").out
    waiting = call(*ASK, "--key", "two")
    assert "why" in waiting.out
    assert "h100-lab" in call("calendar").out
    assert "waiting" in call("status").out
    assert "would help" in call("explain", "--key", "two").out


def test_calendar_before_any_plan(call: Call) -> None:
    """An empty ledger says how to get a calendar."""
    said = call("calendar")
    assert said.code == 0
    assert "gangplan plan" in said.out


def test_key_conflict_is_a_refusal(call: Call) -> None:
    """The same key with another body is an expected no, not a fault."""
    call("init")
    call(*ASK, "--key", "one")
    said = call(*ASK[:-1], "2h", "--key", "one")
    assert said.code == 3
    assert said.err.startswith("error: ")


BAD = [
    (("reserve",), "--tenant"),
    (("reserve", "--tenant", "v"), "--pods"),
    ((*ASK, "--gpus", "1"), "--gpus"),
    ((*ASK[:-1], "soon"), "--duration"),
    ((*ASK[:-1], "0s"), "duration"),
    ((*ASK, "--wait", "1 week"), "--wait"),
    ((*ASK, "--walltime", "1m"), "walltime"),
    ((*ASK, "--earliest", "2026-03-01T12:00:00+02:00"), "--earliest"),
    ((*ASK, "--earliest", "2026-03-01T12:00:00"), "--earliest"),
    ((*ASK, "--latest", "tomorrow"), "--latest"),
    ((*ASK, "--deadline", "tomorrow"), "--deadline"),
    ((*ASK, "--speed", "h100-lab"), "--speed"),
    ((*ASK, "--speed", "h100-lab=fast"), "--speed"),
    ((*ASK, "--speed", "h100-lab=2", "--speed", "h100-lab=3"), "--speed"),
    ((*ASK, "--speed", "b200=2"), "speed[b200]"),
    ((*ASK, "--slot", "a part"), "slot"),
    ((*ASK, "--min-pods", "3"), "pod_sets.min_count"),
    ((*ASK, "--max-pods", "1"), "pod_sets.max_count"),
    ((*ASK, "--max-pods", "4", "--max-pods", "4"), "--max-pods"),
    (("what-if", *ASK[1:-1], "soon"), "--duration"),
    (("resize", "--pods", "4"), "id"),
    (("resize", "--key", "a"), "--pods"),
    (("node", "lost"), "name"),
    ((*ASK, "--priority", "high"), "--priority"),
    ((*ASK, "--workload-class", "fast"), "--workload-class"),
    (("reserve", "--tenant", "a b", *ASK[3:]), "tenant"),
    ((*ASK[:4], "-2", *ASK[5:]), "pod_sets.count"),
    ((*ASK[:6], "0", *ASK[7:]), "pod_sets.gpus_per_pod"),
    (("release",), "id"),
    (("calendar", "--hours", "0"), "--hours"),
    (("status", "--state", "lost"), "--state"),
    (("ingest", "nowhere.csv"), "nowhere.csv"),
    (("review", "approve", "1"), "--by"),
    (("frobnicate",), "frobnicate"),
]


@pytest.mark.parametrize(("words", "field"), BAD, ids=[" ".join(words[-3:]) for words, _ in BAD])
def test_bad_input_is_one_line_and_writes_nothing(call: Call, home: Path, words: tuple[str, ...], field: str) -> None:
    """Wrong input names its field on one line, exits with 2, and no file is made or changed."""
    before = everything(home)
    said = call(*words)
    assert said.code == 2, said
    assert field in said.err
    assert said.err.count("\n") == 1
    assert said.err.startswith("error: ")
    assert everything(home) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("GANGPLAN_MIP_GAP", "7"), ("GANGPLAN_LEDGER", "nonsense"), ("GANGPLAN_HORIZON_HOURS", "soon")],
)
def test_wrong_environment_is_named(
    call: Call, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A wrong setting in the environment is refused by its name."""
    monkeypatch.setenv(name, value)
    said = call("status")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert name.removeprefix("GANGPLAN_").lower() in said.err
    assert everything(home) == {}


@pytest.mark.parametrize("words", [("train",), ("plan",), ("apply",), ("feedback",), ("report",), ("review", "list")])
def test_missing_store_is_named_and_not_made(call: Call, home: Path, words: tuple[str, ...]) -> None:
    """A stage that finds no MLflow store says what makes one, and makes none itself."""
    call("init")
    before = everything(home)
    said = call(*words)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "run `gangplan ingest` first" in said.err
    assert everything(home) == before


def test_server_that_does_not_answer(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracking server that is down is said at once, with an exit code that asks to try again."""
    call("init")
    monkeypatch.setenv("GANGPLAN_MLFLOW", "http://127.0.0.1:9")
    said = call("train")
    assert (said.code, said.err.count("\n")) == (4, 1)
    assert "cannot be reached" in said.err


@pytest.fixture
def jobs_file(home: Path, mlflow_template: Path) -> str:
    """A file of jobs of ten days, one of which runs; nothing began or ended in the last ten hours."""
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_template, home / "mlflow" / "mlflow.db")
    rows = ["job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at"]
    for day in range(1, 11):
        begun = NOW - timedelta(days=day)
        rows.append(
            f"j{day},vision,throughput,a100,8,{begun:%FT%TZ},{begun:%FT%TZ},{begun + timedelta(hours=9):%FT%TZ}"
        )
    rows.append(f"runs,vision,throughput,a100,48,{NOW - timedelta(hours=10):%FT%TZ},,")
    (home / "jobs.csv").write_text("\n".join(rows) + "\n")
    return str(home / "jobs.csv")


def test_ingest_keeps_times_and_says_how_late_they_are(call: Call, jobs_file: str) -> None:
    """A file ends with its own last time; `--until now` says that it is of now, and `--now` works as of a moment."""
    late = call("ingest", jobs_file, "--json").json
    assert (late["end"], late["age_hours"]) == ("2026-03-02T00:00:00+00:00", 9)
    assert late["notes"][0].startswith("jobs without an end: 1; they count up to 2026-03-02 00:00")
    assert late["notes"][1] == "late: its last hour ended 9 h before now, and the hours since are missing"
    fresh = call("ingest", jobs_file, "--until", "now", "--json").json
    assert (fresh["end"], fresh["age_hours"], fresh["notes"]) == (NOW.isoformat(), 0, [])
    then = call("--now", "2026-02-25T12:30:00Z", "ingest", jobs_file, "--json").json
    assert (then["end"], then["rejected_count"], then["jobs"]) == ("2026-02-25T12:00:00+00:00", 0, 6)


def test_a_replay_is_asked_for_and_said(call: Call, jobs_file: str) -> None:
    """`--replay` moves the trace to now, and says by how much."""
    moved = call("ingest", jobs_file, "--replay", "--json").json
    assert moved["end"] == NOW.isoformat()
    assert moved["notes"][0].startswith("replayed: every time was moved by 24 h, from 2026-02-20 09:00")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--until", "2026-03-01T00:00:00Z"), "until: '2026-03-01T00:00:00+00:00' is before the last time"),
        (("--until", "2999-01-01T00:00:00Z"), "until: '2999-01-01T00:00:00Z' is after now"),
        (("--until", "soon"), "until: 'soon' is not an ISO 8601 time"),
        (("--at", "2026-02-25T00:00:00Z"), "give --replay with it"),
        (("--replay", "--at", "2020-01-01T00:00:00Z"), "at: '2020-01-01T00:00:00Z' is not in the trace"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(call: Call, jobs_file: str, words: tuple[str, ...], said: str) -> None:
    """One line names the field, the value and the remedy."""
    answered = call("ingest", jobs_file, *words)
    assert (answered.code, answered.err.count("\n")) == (2, 1)
    assert said in answered.err


def test_a_group_without_a_command_prints_its_help_and_no_empty_error(call: Call) -> None:
    """At each depth."""
    for words in (["kube"], ["power", "carbon"]):
        said = call(*words)
        assert (said.code, said.err) == (2, "")
        assert "Commands" in said.out
