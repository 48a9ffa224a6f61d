"""No password reaches a screen, a run, a log or a file, from any command that takes a URL."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.command import Call, caller
from tests.effort import effort

from gangplan.urls import sqlite_url

SECRET = "s3cret"  # noqa: S105 - made up; it is within each password
PASSWORDS = (
    "s3cret",
    "s3cret%40%3A%2F%25%23",
    "p%25s3cret",
    "x@s3cret",
    "s3cret/x",
    "s3cret#x",
    "x?s3cret",
    "a:s3cret",
)
DOWN = "127.0.0.1:1"
SERVERS = (
    "http://ada:{}@" + DOWN,
    "http://:{}@" + DOWN,
    "http://" + DOWN + "?token={}",
    "postgresql://ada:{}@" + DOWN + "/db",
    "postgresql://" + DOWN + "/db?user=ada&password={}",
    "postgresql://" + DOWN + "/db?sslmode=disable&sslpassword={}",
    "mysql://ada:{}@" + DOWN + "/db",
    "ftp://ada:{}@" + DOWN,
)
READING = (
    ("ingest", "mlflow+{}"),
    ("ingest", "prometheus+{}"),
    ("ingest", "{}"),
    ("forecast", "tell", "mlflow+{}"),
    ("forecast", "tell", "{}"),
    ("kube", "doctor", "--ledger", "{}"),
)
OWN_STORE = (
    ("ingest", "sample"),
    ("train",),
    ("plan",),
    ("forecast", "events"),
    ("review", "list"),
    ("review", "listen", "--port", "0"),
    ("report",),
    ("feedback",),
    ("apply",),
    ("explain",),
)
OWN_LEDGER = (
    ("init",),
    ("status",),
    ("calendar",),
    ("ledger", "status"),
    ("ledger", "serve"),
    ("ledger", "audit"),
    ("policy", "show"),
    ("reserve", "--tenant", "a", "--pods", "1", "--gpus", "1", "--accelerator", "h100", "--duration", "1h"),
    ("node", "list"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_template: Path) -> Path:
    """A home whose store is there; files that a command leaves where it runs are looked at as well."""
    home = tmp_path / "home"
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_template, home / "mlflow" / "mlflow.db")
    shutil.copy(mlflow_template, tmp_path / "other.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGPLAN_HOME", str(home))
    monkeypatch.setenv("GANGPLAN_WEBHOOK_SECRET", "sixteen letters and more")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return home


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command as a shell would, in this process."""
    return caller(monkeypatch, capsys)


def some_passwords(server: str, number: int) -> tuple[str, ...]:
    """A few of the passwords, others for each kind of server; all of them in a long run."""
    first = SERVERS.index(server)
    turned = PASSWORDS[first:] + PASSWORDS[:first]
    return turned[: effort(number, len(PASSWORDS))]


def nothing_kept(folder: Path) -> None:
    """Assert that no file's name or content has the secret in it."""
    for path in folder.rglob("*"):
        assert SECRET not in path.name
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def silent(call: Call, caplog: pytest.LogCaptureFixture, *words: str) -> None:
    """Call a command that must fail without a trace and without the secret."""
    said = call(*words)
    assert said.code in (1, 2, 3, 4), (words, said)
    assert SECRET not in said.out + said.err + caplog.text, (words, said)
    assert "Traceback" not in said.err, (words, said)
    assert len(said.err.splitlines()) <= 3, (words, said)


@pytest.mark.searches
@pytest.mark.parametrize("server", SERVERS)
def test_sources_keep_no_password(server: str, home: Path, call: Call, caplog: pytest.LogCaptureFixture) -> None:
    """What is read from a URL that one types."""
    for password in some_passwords(server, 2):
        url = server.format(password)
        for words in READING:
            silent(call, caplog, *(word.format(url) for word in words))
    assert SECRET not in "".join(str(path) for path in home.rglob("*"))


@pytest.mark.searches
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("variable", "commands"), [("GANGPLAN_MLFLOW", OWN_STORE), ("GANGPLAN_LEDGER", OWN_LEDGER)])
def test_own_stores_keep_no_password(
    server: str,
    variable: str,
    commands: tuple[tuple[str, ...], ...],
    home: Path,
    call: Call,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the environment names, for every command that opens it."""
    for password in some_passwords(server, 1):
        monkeypatch.setenv(variable, server.format(password))
        for words in commands:
            silent(call, caplog, *words)
    nothing_kept(home.parent)


def test_home_with_marks_in_its_path_works(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, mlflow_template: Path
) -> None:
    """Blanks, umlauts, and what means something else in a URL: files lie where they should and nowhere else."""
    home = tmp_path / "new" / "h a%20#?ü%"
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_template, home / "mlflow" / "mlflow.db")
    monkeypatch.setenv("GANGPLAN_HOME", str(home))
    jobs = tmp_path / "jobs ä#?%20.csv"
    header = "job_id,tenant,workload_class,accelerator,gpus,submitted_at,started_at,ended_at"
    jobs.write_text(f"{header}\na,t,cost,h100,8,2026-03-01T01:00:00Z,2026-03-01T02:00:00Z,2026-03-02T04:00:00Z\n")
    assert call("init").code == 0
    ask = ("--tenant", "a", "--pods", "1", "--gpus", "1", "--accelerator", "h100-lab", "--duration", "1h")
    for words in (("ingest", str(jobs)), ("forecast", "events"), ("reserve", *ask), ("status",), ("ledger", "status")):
        said = call(*words)
        assert said.code == 0, said
    assert {path.name for path in home.iterdir()} >= {"gangplan.yaml", "fleet.yaml", "ledger.db", "mlflow"}
    assert len(list((home / "mlflow" / "artifacts").rglob("demand.parquet"))) == 1
    assert {path.name for path in home.parent.iterdir()} == {home.name}
    assert call("--home", str(home), "ingest", f"mlflow+{sqlite_url(home / 'mlflow' / 'mlflow.db')}").code == 2
