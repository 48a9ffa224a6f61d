"""MLflow's tables on a database server: filled by one process, read without rights to write, never migrated."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
import sqlalchemy as sa

from gangplan.errors import GangplanError, InputError
from gangplan.telemetry.sources.mlflow_events import tagged_runs
from gangplan.tracking import Store, database_to_read

TELL = """
import sys
from gangplan.tracking import Store
store = Store(uri=sys.argv[1])
run = store.client.create_run(store.experiment("calendar"), tags={"event.kind": "release"})
store.client.set_terminated(run.info.run_id)
"""


@pytest.fixture(scope="module")
def database(postgres: str) -> str:
    """The URL of an empty database."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE runs")
    return postgres.replace("/postgres?", "/runs?")


def test_store_on_a_server(database: str) -> None:
    """Two processes open an empty database at once; a reader sees both runs, writes nothing, and migrates nothing."""
    tellers = [subprocess.Popen([sys.executable, "-c", TELL, database]) for _ in range(2)]
    assert [teller.wait(timeout=120) for teller in tellers] == [0, 0]
    assert [run.tags for run in tagged_runs(database, "event.kind", "event.")] == [{"kind": "release"}] * 2
    with pytest.raises(GangplanError, match="read-only transaction"), database_to_read(database) as connection:
        connection.execute(sa.text("DELETE FROM tags"))

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'acf3f17fdcc7'")
        connection.execute("DROP TABLE webhook_events")
        for call in (lambda: tagged_runs(database, "event.kind", "event."), lambda: Store(uri=database).client):
            with pytest.raises(InputError, match=r"schema of another MLflow .*\(acf3f17fdcc7\)"):
                call()
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("acf3f17fdcc7",)]
        assert connection.execute("SELECT to_regclass('webhook_events')").fetchall() == [(None,)]
