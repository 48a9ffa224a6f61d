"""MLflow's databases: made whole or not at all, never migrated, and only read where they belong to others."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from gangplan import telemetry
from gangplan.errors import GangplanError, InputError, UnavailableError
from gangplan.progress import no_progress
from gangplan.telemetry.sources.choose import load
from gangplan.testing import NOW
from gangplan.tracking import Store, database, database_to_read
from gangplan.urls import sqlite_url

MAKE = "import sys; from gangplan.tracking import Store; print(Store(uri=sys.argv[1]).experiment('gangplan/telemetry'))"
OLD, NEW = "acf3f17fdcc7", "0123456789ab"
"""The revision of MLflow 2.9.2, and one that no MLflow has yet."""


def beside(file: Path) -> dict[str, bytes]:
    """What lies in the folder of a file."""
    return {path.name: path.read_bytes() for path in file.parent.iterdir() if path.is_file()}


def test_a_killed_migration_leaves_no_half_store(tmp_path: Path) -> None:
    """A process killed while it makes the database leaves none; several that come next make one, and all work."""
    file = tmp_path / "mlflow" / "mlflow.db"
    command = [sys.executable, "-c", MAKE, f"sqlite:///{file}"]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in file.parent.glob(".mlflow.db.*")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not file.exists()

    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    store = Store(uri=f"sqlite:///{file}")
    with store.run("gangplan/telemetry", "a run", {"kind": "test"}) as run_id:
        pass
    assert store.runs("gangplan/telemetry", {"kind": "test"})[0].info.run_id == run_id
    assert {other.communicate(timeout=120)[0].strip() for other in others} == {store.experiment("gangplan/telemetry")}
    assert not list(file.parent.glob(".mlflow.db.*.new"))


def of_another_mlflow(file: Path, revision: str) -> Path:
    """Give a store the schema's revision of another MLflow, and take a table from it, as an old one lacks some."""
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.execute("DROP TABLE webhooks")
    connection.close()
    return file


def imported(file: Path, own: Store) -> None:
    """Bring the runs of a store in."""
    telemetry.ingest(f"mlflow+sqlite:///{file}", own, seed=7, clock=lambda: NOW)


def announced(file: Path, own: Store) -> None:
    """Bring the events of a store in."""
    telemetry.announce(f"mlflow+sqlite:///{file}", own, clock=lambda: NOW)


READERS = (imported, announced)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("revision", [OLD, NEW])
def test_store_of_another_mlflow_is_refused_and_left_as_it_was(
    read: Callable[[Path, Store], None], revision: str, mlflow_template: Path, tmp_path: Path, mlflow_store: Store
) -> None:
    """An older or newer schema is not touched: the remedy is the server that its owners run."""
    file = of_another_mlflow(Path(shutil.copy(mlflow_template, tmp_path / "theirs.db")), revision)
    before = beside(file)
    with pytest.raises(InputError, match=rf"schema of another MLflow .*\({revision}\).* http://host:5000"):
        read(file, mlflow_store)
    assert beside(file) == before


def test_own_store_is_not_migrated_unasked(mlflow_template: Path, tmp_path: Path) -> None:
    """Also what the settings name may be served by others: it is theirs to migrate."""
    file = of_another_mlflow(Path(shutil.copy(mlflow_template, tmp_path / "mlflow.db")), OLD)
    before = beside(file)
    with pytest.raises(InputError, match="mlflow db upgrade"):
        _ = Store(uri=f"sqlite:///{file}").client
    assert beside(file) == before


def no_file(_: Path) -> None:
    """Make nothing."""


def empty_file(file: Path) -> None:
    """Make an empty file."""
    file.touch()


def folder(file: Path) -> None:
    """Make a folder."""
    file.mkdir()


def text(file: Path) -> None:
    """Make a text file."""
    file.write_text("not a database, by far\n" * 9)


def another_database(file: Path) -> None:
    """Make a database of somebody else's, with a version of its own."""
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_file, "is not there"),
        (folder, "is not there"),
        (empty_file, "is no SQLite database"),
        (text, "is no SQLite database"),
        (another_database, "is no database of MLflow's"),
    ],
)
def test_what_is_no_store_is_refused_and_left_as_it_was(
    read: Callable[[Path, Store], None], make: Callable[[Path], None], says: str, tmp_path: Path, mlflow_store: Store
) -> None:
    """Nothing is created and nothing is filled with tables."""
    (tmp_path / "theirs").mkdir()
    file = tmp_path / "theirs" / "runs.db"
    make(file)
    before = beside(file)
    with pytest.raises(InputError, match=says):
        read(file, mlflow_store)
    assert beside(file) == before


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_file_that_may_only_be_read_is_read(journal: str, mlflow_store: Store, tmp_path: Path) -> None:
    """It needs no rights to write, and no log beside the file is made; marks in its path are no matter."""
    run = mlflow_store.client.create_run(mlflow_store.experiment("theirs"), tags={"gangplan.event.kind": "release"})
    mlflow_store.client.set_terminated(run.info.run_id)
    assert mlflow_store.folder is not None
    place = tmp_path / "h a%20#?ü"
    place.mkdir()
    file = Path(shutil.copy(mlflow_store.folder / "mlflow.db", place / "runs.db"))
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.close()
    file.chmod(0o444)
    place.chmod(0o555)
    before = beside(file)
    made = telemetry.announce(f"mlflow+{sqlite_url(file)}", mlflow_store, clock=lambda: NOW)
    assert made.rows["kind"].to_list() == ["release"]
    with pytest.raises(GangplanError, match="readonly"), database_to_read(sqlite_url(file)) as reading:
        reading.execute(sa.text("DELETE FROM runs"))
    assert beside(file) == before
    place.chmod(0o755)


def test_store_that_another_process_locks_is_unavailable(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever migrates it, or is stuck in it: one line, and the call may be made again."""
    file = Path(shutil.copy(mlflow_template, tmp_path / "mlflow.db"))
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnavailableError, match="database is locked") as refused:
        load(f"mlflow+sqlite:///{file}", seed=7, clock=lambda: NOW, progress=no_progress)
    assert "\n" not in str(refused.value)
    connection.close()
