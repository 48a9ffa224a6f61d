"""An Airflow of the tests' own: a home under a temporary folder, its database copied from one migrated template."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from gangplan.clock import floor_hour
from gangplan.config import present
from gangplan.reserve import Ledger, open_ledger
from gangplan.testing import a_calendar, a_pool, a_request
from gangplan.types import Reservation

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from fastapi.testclient import TestClient

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(tempfile.mkdtemp(prefix="gangplan-airflow-"))

# Airflow reads its settings when it is imported, which the test modules do; this file is imported before them.
os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:viewer,user:user,op:op,admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(HOME / "passwords.json"),
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of the tests, of sixty-four characters, no less and no more",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'metadata.db'}",
        "GANGPLAN_HOME": str(HOME / "gangplan"),
        "GANGPLAN_RELEASE_GRACE_S": "0",
    }
)


def pytest_sessionfinish() -> None:
    """Take the home away."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def metadata_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty Airflow database, made once for all workers (its migration takes 10 s)."""
    root = tmp_path_factory.getbasetemp()
    shared = root.parent if root.name.startswith("popen-") else root
    file = shared / "airflow-metadata.db"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            staging = shared / "airflow-staging.db"
            environment = {**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{staging}"}
            command = [sys.executable, "-m", "airflow", "db", "migrate"]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            staging.rename(file)
    return file


@pytest.fixture(scope="session")
def metadata(metadata_template: Path) -> None:
    """The Airflow database that this process talks to."""
    shutil.copy(metadata_template, HOME / "metadata.db")


@pytest.fixture(scope="session")
def dags(metadata: None) -> dict[str, DAG]:
    """The DAGs of tests/airflow/dags."""
    from tests.airflow.versions import DagBag

    bag = DagBag(str(Path(__file__).parent / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


@pytest.fixture
def ledger_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A ledger file of the test's own, known to Airflow by the connection gangplan_default."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("AIRFLOW_CONN_GANGPLAN_DEFAULT", f'{{"conn_type": "gangplan", "extra": {{"url": "{url}"}}}}')
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Generator[Ledger]:
    """That ledger, with one pool of 2 nodes x 4 GPUs of an h100 for some hours."""
    from gangplan_airflow.owners import give_back_all

    with open_ledger(ledger_url) as ledger:
        ledger.publish(a_calendar([a_pool()], start=floor_hour(present()), hours=[2] * 48))
        yield ledger
        give_back_all()  # here all tasks run in one process: what is done at its end is done after each test


@pytest.fixture
def take_all(ledger: Ledger) -> Callable[[timedelta], Reservation]:
    """Let another gang take all slots for some time."""

    def take(duration: timedelta) -> Reservation:
        return ledger.submit(a_request("another gang", duration=duration))

    return take


@pytest.fixture(scope="module")
def web(metadata: None) -> Generator[TestClient]:
    """Airflow's web server, for an administrator."""
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with TestClient(create_app(apps="core"), base_url="http://testserver") as client:
        passwords = json.loads((HOME / "passwords.json").read_text())
        token = client.post("/auth/token", json={"username": "admin", "password": passwords["admin"]}).json()
        client.headers["Authorization"] = f"Bearer {token['access_token']}"
        yield client
