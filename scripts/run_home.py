"""The home of `make run`: its environment, its lock, its log, its databases."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import traceback
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, NoReturn

from rich.console import Console
from run_processes import MARK, spawn

from gangplan.config import Settings, write_atomic
from gangplan.errors import GangplanError, UnavailableError
from gangplan.urls import sqlite_file

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("GANGPLAN_HOME") or ROOT / ".run").resolve()
AIRFLOW = HOME / "airflow"
LOGS = HOME / "logs"
LOG = LOGS / "airflow.log"
METADATA = AIRFLOW / f"metadata-{version('apache-airflow-core')}.db"  # another Airflow, another database: no upgrade

CONFIG = """\
# Airflow's settings for `make run`. To look at its runs afterwards:
#   AIRFLOW_HOME={airflow} GANGPLAN_HOME={home} {bin}/airflow standalone
[core]
dags_folder = {root}/dags
plugins_folder = {root}/plugins
load_examples = False
executor = LocalExecutor
parallelism = 3
fernet_key = {fernet}
[database]
sql_alchemy_conn = sqlite:///{metadata}
[logging]
base_log_folder = {logs}/tasks
[triggerer]
job_heartbeat_sec = 2
"""


MAKE_MLFLOW = """\
from gangplan.config import load_settings
from gangplan.tracking import open_store
open_store(load_settings(), create=True).client
"""


def hermetic(inherited: dict[str, str]) -> dict[str, str]:
    """Return an environment in which Airflow knows this home only, and nothing leaves the machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    return {name: value for name, value in inherited.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))} | {
        MARK: str(HOME),
        "GANGPLAN_HOME": str(HOME),
        "AIRFLOW_HOME": str(AIRFLOW),
        "AIRFLOW_CONFIG": str(AIRFLOW / "airflow.cfg"),
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__CORE__EXECUTOR": "run_executor.CycleExecutor",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "scripts"), inherited.get("PYTHONPATH")])),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "SPT_NOENV": "1",  # Airflow renames its processes; this keeps their environment readable, and so the mark
    }


def start_over(environment: dict[str, str]) -> NoReturn:
    """Begin again in that environment: Airflow reads it when it is imported."""
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606 - this very program


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the home's lock, which the system lets go of when this process ends, however it ends."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "run.lock").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: a forked child would go on holding it
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "?"
            raise UnavailableError(
                f"run: one is going on in {HOME} (process {owner}): wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def quiet() -> Iterator[IO[str]]:
    """Send all that Airflow and the tasks print to a log file; give the terminal to the caller alone."""
    LOGS.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    kept = os.dup(1), os.dup(2)
    with LOG.open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        with os.fdopen(os.dup(kept[0]), "w") as terminal:
            yield terminal
    except Exception as error:
        traceback.print_exc()
        if isinstance(error, GangplanError):
            raise
        raise GangplanError(f"{type(error).__name__}: {error} (log: {LOG})") from error
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)


def prepare(settings: Settings, console: Console) -> None:
    """Write Airflow's settings and make the databases that are not there, both at the same time."""
    AIRFLOW.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = AIRFLOW / "fernet.key"
    if not key.exists():
        write_atomic(key, urlsafe_b64encode(os.urandom(32)).decode())
    places = {"root": ROOT, "home": HOME, "airflow": AIRFLOW, "logs": LOGS, "metadata": METADATA}
    text = CONFIG.format(fernet=key.read_text(), bin=Path(sys.executable).parent, **places)
    write_atomic(AIRFLOW / "airflow.cfg", text)
    staging = METADATA.with_name(f".{METADATA.name}.new")
    missing = not _is_whole(METADATA)
    making = [_migrate(staging)] if missing else []
    store = sqlite_file(settings.mlflow_uri)
    if store is not None and not store.exists():
        making.append(spawn("-c", MAKE_MLFLOW))
    if making:
        console.print("making the databases of Airflow and MLflow (the first time only)")
    if sum(process.wait() for process in making):
        raise GangplanError(f"a database could not be made: see {LOG}")
    if missing:
        staging.replace(METADATA)


def _migrate(staging: Path) -> subprocess.Popen[bytes]:
    """Let Airflow make its database aside, so that a killed run leaves no half of one in its place."""
    for path in AIRFLOW.glob(f"{staging.name}*"):
        path.unlink()
    return spawn("-m", "airflow", "db", "migrate", AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{staging}")


def _is_whole(file: Path) -> bool:
    """Tell whether a metadata database is there and sound."""
    if not file.exists():
        return False
    try:
        with closing(sqlite3.connect(file)) as database:
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
            return sound and database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    except sqlite3.DatabaseError:
        return False
