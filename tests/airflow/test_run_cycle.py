"""The runner behind `make run`: it refuses early, runs once at a time, and leaves nothing behind when it is killed.

That it runs the whole cycle is what CI's `make run` shows; here is what must hold when something is wrong.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "scripts" / "run_cycle.py"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that is not there yet."""
    return tmp_path / "home"


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runner's module of processes."""
    monkeypatch.syspath_prepend(RUNNER.parent)
    import run_processes

    return run_processes


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the runner to its end."""
    given = {**os.environ, "GANGPLAN_HOME": str(home), **environment}
    command = [sys.executable, str(RUNNER), *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=120)


def eventually(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds, and fail when it does not come about."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--telemetry", "/nowhere.csv"), {}, "error: TELEMETRY: '/nowhere.csv' is not there: give sample, a CSV"),
        (("--telemetry", ""), {}, "error: TELEMETRY: '' is not there"),
        ((), {"GANGPLAN_SEED": "-1"}, "error: seed: '-1' input should be greater than or equal to 0"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    home: Path, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    """A wrong telemetry source or setting ends at once, with field, value and remedy, exit code 2 and no home made."""
    ended = run(home, *arguments, **environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(said)
    assert len(ended.stderr.splitlines()) == 1
    assert not home.exists()


def test_two_at_once_are_refused(home: Path) -> None:
    """While one run holds the home's lock, another says so and changes nothing."""
    home.mkdir()
    with (home / "run.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        ended = run(home)
    assert ended.returncode == 4
    assert "one is going on" in ended.stderr
    assert "(process 4711)" in ended.stderr
    assert sorted(path.name for path in home.iterdir()) == ["run.lock"]


def marked(home: Path, processes: ModuleType) -> list[psutil.Process]:
    """The processes of a run in that home."""
    found = [process for process in psutil.process_iter() if processes._is_ours(process, str(home))]
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_killed_run_leaves_no_process(
    home: Path, processes: ModuleType, metadata_template: Path, mlflow_template: Path
) -> None:
    """SIGKILL of the runner ends its services too, and with them all that could go on writing."""
    from importlib.metadata import version

    (home / "airflow").mkdir(parents=True)
    (home / "mlflow").mkdir()
    shutil.copy(metadata_template, home / "airflow" / f"metadata-{version('apache-airflow-core')}.db")
    shutil.copy(mlflow_template, home / "mlflow" / "mlflow.db")
    runner = subprocess.Popen([sys.executable, str(RUNNER)], env={**os.environ, "GANGPLAN_HOME": str(home)})
    eventually(lambda: len(marked(home, processes)) >= 2 or runner.poll() is not None, 60)
    assert runner.poll() is None
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    eventually(lambda: not marked(home, processes), 20)


def test_what_was_left_is_ended_and_nothing_else(home: Path, processes: ModuleType) -> None:
    """A process that carries the mark of this home is ended; one of another home is not."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    ours, other = (
        subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, processes.MARK: str(place)})
        for place in (home, home / "other")
    )
    eventually(lambda: bool(marked(home, processes)) and bool(marked(home / "other", processes)), 20)
    processes.end_leftovers(str(home))
    assert ours.poll() is not None
    assert marked(home, processes) == []
    assert other.poll() is None
    other.communicate()


def test_half_a_database_is_told_from_a_whole_one(
    metadata_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a sound and migrated metadata database is used; any other is made anew."""
    monkeypatch.syspath_prepend(RUNNER.parent)
    from run_home import _is_whole

    half = tmp_path / "half.db"
    half.write_bytes(metadata_template.read_bytes()[: metadata_template.stat().st_size // 2])
    empty = tmp_path / "empty.db"
    empty.touch()
    assert [_is_whole(file) for file in (metadata_template, half, empty, tmp_path / "none.db")] == [True] + 3 * [False]


def test_a_failed_task_s_own_error_is_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last error of a task's log gives the line and, by its class, the exit code."""
    monkeypatch.syspath_prepend(RUNNER.parent)
    from run_cycle import TaskFailedError, last_error

    log = tmp_path / "attempt=1.log"
    log.write_text(
        '{"event": "trying"}\n'
        '{"event": "failed", "error_detail": [{"exc_type": "InputError", "exc_value": "gpus: -1 must be more"}]}\n'
        "not JSON\n"
    )
    error = TaskFailedError("gangplan_ingest.ingest", *last_error(log), log)
    assert error.exit_code == 2
    assert str(error) == "gpus: -1 must be more"
    log.write_text('{"event": "failed", "error_detail": [{"exc_type": "KeyError", "exc_value": "x"}]}\n')
    assert last_error(log) == ("KeyError", "KeyError: x")
    broken = TaskFailedError("a.task", *last_error(log), log)
    assert (broken.exit_code, str(broken)) == (1, f"KeyError: x (task a.task, log {log})")
