"""An Airflow with all its processes: api-server, scheduler (LocalExecutor), triggerer, dag-processor, and PostgreSQL.

The ledger is on a PostgreSQL server of its own, so that it can be taken away alone.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from benchmarks.parts.airflow.servers import Postgres
from benchmarks.parts.figures import ROOT

DAGS = Path(__file__).with_name("dags")
PROCESSES = ("api-server", "scheduler", "dag-processor", "triggerer")
WORKERS = 8
CLAIM_S = 45.0
"""Seconds in which a step must claim its grant here; a leak is what is held for longer by a run that has ended."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None)
_START_S = 600

BESIDE = ("psycopg", "psycopg_binary")
"""What Airflow needs for PostgreSQL and its environment does not hold; this environment does, for the same Python."""


class Stack:
    """Airflow's processes in a home of their own under a temporary folder; all are gone when the block ends."""

    def __init__(self, python: Path, *, workers: int = WORKERS, **environment: str) -> None:
        _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # tasks whose scheduler was killed come to this process
        self.folder = Path(tempfile.mkdtemp(prefix="gangplan-bench-airflow-"))
        self.folder.chmod(0o755)  # run by root, PostgreSQL steps down to a user of its own
        self.python = python
        # A killed scheduler's connections live on in the tasks that it had forked, with the locks of its transactions.
        self.metadata = Postgres(self.folder / "metadata", "airflow", idle_in_transaction_session_timeout="20s")
        self.ledger = Postgres(self.folder / "ledger", "ledger")
        self.works = self.folder / "works.jsonl"
        self.works.touch()
        self.ports = _free_ports(3)
        self.environment = self._environment(workers) | environment
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Where the api-server answers."""
        return f"http://127.0.0.1:{self.ports[0]}"

    def __enter__(self) -> Self:
        """Make the database, start all processes, and wait until they answer and know the DAGs."""
        try:
            subprocess.run(self._command("db", "migrate"), env=self.environment, check=True, capture_output=True)
            for name in PROCESSES:
                self.start(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all, and take the folder away."""
        self.ledger.back()
        servers = self.ledger.pids | self.metadata.pids
        for _attempt in range(5):  # what is killed may have just started another
            left = [one for one in psutil.Process().children(recursive=True) if one.pid not in servers]
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=10)
        self.ledger.stop()
        self.metadata.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name: str, *, before: Sequence[str] = (), beside: str = "") -> None:
        """Start a process; `before` is a command that runs it, `beside` the name of a second one of its kind."""
        environment = dict(self.environment)
        if beside:
            environment["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] = str(_free_ports(1)[0])
        parent = os.getpid()
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[beside or name] = subprocess.Popen(
                [*before, *self._command(name)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
            )

    def kill(self, name: str) -> None:
        """End a process and its group at once, as a lost machine does; the tasks that it runs have groups of theirs."""
        process = self.running.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def end(self, name: str) -> None:
        """Ask a process to end in good order; kill it when it does not."""
        process = self.running[name]
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
        self.kill(name)

    def log_of(self, name: str) -> str:
        """Return the end of a process's log."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def task_log(self, key: str) -> list[str]:
        """Return what the tries of a task (`dag/run/task`) have logged."""
        dag, run, task = key.split("/")
        folder = self.folder / "airflow" / "logs" / f"dag_id={dag}" / f"run_id={run}" / f"task_id={task}"
        files = sorted(folder.rglob("*.log*"), key=lambda file: file.stat().st_mtime)
        return [line for file in files for line in (file.name, *file.read_text(errors="replace").splitlines()[-40:])]

    def processor_time(self, name: str) -> float:
        """Return the processor's seconds that a process and its children have used."""
        process = psutil.Process(self.running[name].pid)
        used = 0.0
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                used += sum(one.cpu_times()[:2])  # in its own code, and the system's for it
        return used

    def task_processes(self, pids: Sequence[int]) -> list[psutil.Process]:
        """Return those of these processes that are alive and below this one."""
        below = {one.pid: one for one in psutil.Process().children(recursive=True)}
        return [below[pid] for pid in pids if pid in below and _lives(below[pid])]

    def _command(self, *words: str) -> list[str]:
        return [str(self.python), "-m", "airflow", *words]

    def _environment(self, workers: int) -> dict[str, str]:
        """Return what Airflow reads: this home only, its two databases, and times that let it see a loss soon."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "GANGPLAN"))}
        api, worker_logs, trigger_logs = self.ports
        return inherited | {
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "optimizer", ROOT / "plugins", self._beside()))),
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW_CONN_GANGPLAN_DEFAULT": f'{{"conn_type": "gangplan", "extra": {{"url": "{self.ledger.url}"}}}}',
            "GANGPLAN_HOME": str(self.folder / "gangplan"),
            "GANGPLAN_LEDGER": self.ledger.url,
            "GANGPLAN_CLAIM_WITHIN_S": str(CLAIM_S),
            "GANGPLAN_BENCH_WORKS": str(self.works),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.metadata.url,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": self.metadata.url,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_logs),
            **_settings(workers),
        }

    def _beside(self) -> Path:
        """Lay the driver of PostgreSQL beside Airflow, and nothing else of this environment."""
        folder = self.folder / "beside"
        folder.mkdir()
        for package in BESIDE:
            found = importlib.util.find_spec(package)
            assert found is not None
            assert found.origin is not None
            home = Path(found.origin).parent
            for path in home.parent.glob(f"{package}[.-]*"):  # its libraries and its version
                (folder / path.name).symlink_to(path)
            (folder / package).symlink_to(home)
        return folder


def _settings(workers: int) -> Mapping[str, str]:
    """Return Airflow's settings that the benchmark changes."""
    return {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(workers),
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "2000",
        "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "2000",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        "AIRFLOW__TRIGGERER__CAPACITY": "2000",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "SPT_NOENV": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _lives(process: psutil.Process) -> bool:
    """Tell whether a process has not ended."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _die_with(parent: int) -> None:
    """Let the system end this process when its parent ends."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody uses just now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def until(seconds: float, what: str, holds: object, pause: float = 0.1) -> float:
    """Wait until a condition holds, and return how long that took; fail after so many seconds."""
    assert callable(holds)
    began = time.monotonic()
    while not holds():
        took = time.monotonic() - began
        if took > seconds:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
    return time.monotonic() - began
