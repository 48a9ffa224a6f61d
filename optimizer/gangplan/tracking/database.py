"""MLflow's databases: looked at before they are used, made whole or not at all, never migrated.

MLflow's client migrates a database in which it misses a table, and after that its owners' older MLflow does not start.
So the schema's revision is read first, over a connection that cannot write.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.store.db import utils
from mlflow.utils.file_utils import ExclusiveFileLock
from mlflow.version import VERSION

from gangplan.errors import InputError
from gangplan.tracking.faults import naming_faults
from gangplan.urls import CLEAR, has_marks, shown, sqlite_file, sqlite_url, unambiguous

_KINDS = ("sqlite", "http", "https", "postgresql", "postgresql+psycopg")
_KNOWN = "http://host:port of a server, postgresql://host/database or sqlite:///file.db"
_CONNECT_S = 10
BUSY_S = 5.0
"""How long a reader waits for whoever locks a SQLite file; a longer wait is a store that is stuck."""
_MIGRATION_LOCK = 0x6D6C666C  # "mlfl": the number of our advisory lock
_tools: Any = utils  # MLflow's helpers have no types
_SERVE = "let its own MLflow serve it (mlflow server --backend-store-uri ...) and give the address http://host:5000"


def client_uri(uri: str) -> str:
    """Return the URI as MLflow must get it: a path with % ? or # as a SQLite URI, which no library cuts or decodes."""
    file = sqlite_file(uri)
    if file is None or not has_marks(file):
        return uri if file is None else f"sqlite:///{file}"
    # with the driver's name in it, MLflow makes no folder of the escaped path
    escaped = sa.URL.create("sqlite+pysqlite", database=f"file:{quote(str(file))}", query={"uri": "true"})
    return escaped.render_as_string(hide_password=False)


def require_known(uri: str, field: str) -> None:
    """Refuse what is no URI that MLflow's client takes, or one whose password ends elsewhere than it seems to."""
    if urlsplit(uri).scheme not in _KINDS:
        raise InputError(field, uri, f"is no MLflow tracking URI: use {_KNOWN}")
    if not unambiguous(uri):
        raise InputError(field, uri, CLEAR)


@contextmanager
def database_to_read(uri: str, field: str = "source") -> Generator[sa.Connection]:
    """Open the database of an MLflow store for reading alone.

    Raises
    ------
    InputError
        It does not exist, is none of MLflow's, or has the schema of another version; nothing was made or changed.
    UnavailableError
        It cannot be reached.
    """
    require_known(uri, field)
    with _reading(uri, field) as connection:
        found = _revision(connection)
        if found != _tools._get_latest_schema_revision():
            raise _wrong_schema(uri, field, found, _SERVE)
        yield connection


def prepare(uri: str) -> None:
    """Let the database of our own store be one that MLflow's client takes as it is: an empty one is filled.

    Raises
    ------
    InputError
        It is none of MLflow's, or has the schema of another version.
    """
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return _make_file(file)
    newest = _tools._get_latest_schema_revision()
    empty, found = _state(uri)
    if found != newest and file is None:
        with _alone(uri):  # another process may be filling it at this moment: it is looked at again after that
            empty, found = _state(uri)
            if empty:
                MlflowClient(tracking_uri=uri)
                return None
    if found != newest:
        raise _wrong_schema(uri, "mlflow", found, f"keep a backup and run `mlflow db upgrade`, or {_SERVE}")
    return None


def _state(uri: str) -> tuple[bool, str | None]:
    """Return whether a database has no table at all, and its revision."""
    with _reading(uri, "mlflow") as connection:
        found = _revision(connection)
        return found is None and not sa.inspect(connection).get_table_names(), found


def _wrong_schema(uri: str, field: str, found: str | None, remedy: str) -> InputError:
    """Return the error about a database that this MLflow cannot use as it is."""
    if found is None:
        return InputError(field, shown(uri), "is no database of MLflow's: check the path")
    return InputError(field, shown(uri), f"has the schema of another MLflow than {VERSION} ({found}): {remedy}")


@contextmanager
def _reading(uri: str, field: str) -> Generator[sa.Connection]:
    """Connect so that nothing can be written."""
    with naming_faults(uri, field):
        engine = _engine_to_read(uri, field)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()


def _engine_to_read(uri: str, field: str) -> sa.Engine:
    """Return an engine whose connections cannot write."""
    file = sqlite_file(uri)
    if file is not None:
        address = f"file:{quote(str(file))}?{_mode(file, field)}"
        return sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(address, BUSY_S, uri=True), poolclass=sa.NullPool
        )
    options: dict[str, Any] = {"postgresql_readonly": True}
    arguments = {"connect_timeout": _CONNECT_S}
    return sa.create_engine(uri, execution_options=options, connect_args=arguments, poolclass=sa.NullPool)


def _mode(file: Path, field: str) -> str:
    """Return how SQLite may open a file: a log of writes that is not there is not made."""
    if not file.is_file():
        raise InputError(field, file, "is not there: give sqlite:/// and the path of a file that exists")
    with file.open("rb") as opened:
        header = opened.read(20)
    if header[:15] != b"SQLite format 3":
        raise InputError(field, file, "is no SQLite database: check the path")
    logged = header[18:19] == b"\2"
    return "immutable=1" if logged and not file.with_name(f"{file.name}-wal").exists() else "mode=ro"


def _revision(connection: sa.Connection) -> str | None:
    """Return the revision of the schema, or none where the database has no tables of MLflow's."""
    tables = sa.inspect(connection).get_table_names()
    if not {"alembic_version", "experiments"} <= set(tables):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _make_file(file: Path) -> None:
    """Create a migrated file in one step, because a migration that was killed half-way cannot be resumed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with ExclusiveFileLock(str(file.with_name(f".{file.name}.lock"))):  # the kernel frees it with its process
        if file.exists():
            return
        for left_over in file.parent.glob(f".{file.name}.*.new"):
            left_over.unlink()
        staging = file.with_name(f".{file.name}.{uuid.uuid4().hex}.new")  # MLflow keeps an engine for each name
        client: Any = MlflowClient(tracking_uri=client_uri(sqlite_url(staging)))
        client.search_experiments(max_results=1)
        staging.rename(file)


@contextmanager
def _alone(uri: str) -> Generator[None]:
    """Let one process after the other look at a database on a server, and fill it."""
    engine = sa.create_engine(uri, poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_lock(_MIGRATION_LOCK)))  # until the connection ends
        yield
