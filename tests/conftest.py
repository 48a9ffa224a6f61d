"""What all tiers share: a fixed moment, and an MLflow store of one's own from a migrated template.

The system's clock stands at `NOW` while a test and its fixtures run, in gangplan and in every command that the test
starts. A test whose leases have to end by themselves, or that meets another program's clock, uses the present: it is
marked `present` with the reason.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock

from gangplan.testing import NOW
from tests import effort  # noqa: F401 - it registers the profile

if TYPE_CHECKING:
    from gangplan.tracking import Store

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and Hypothesis's settings."""
    config.addinivalue_line("markers", "present(why): the test uses the machine's clock, for this reason")
    config.addinivalue_line("markers", "searches: the test tries far more cases in `make test-long`")
    hypothesis.settings.load_profile("tests")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set the system's clock before any fixture of the test is made."""
    marker = item.get_closest_marker("present")
    assert marker is None or marker.args, f"{item.nodeid}: say why it uses the present"
    os.environ["GANGPLAN_NOW"] = "" if marker else NOW.isoformat()


@pytest.fixture
def now() -> datetime:
    """The moment at which tests take place."""
    return NOW


@pytest.fixture
def clock(now: datetime) -> Callable[[], datetime]:
    """A clock that stands at `now`."""
    return lambda: now


@pytest.fixture
def move_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Moves the system's clock to another moment, for the rest of the test."""
    return lambda moment: monkeypatch.setenv("GANGPLAN_NOW", moment.isoformat())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public traces; a test that needs it is skipped, by name, where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"public traces are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty MLflow database, made once for all workers (its migration takes seconds)."""
    from gangplan.tracking import Store

    root = tmp_path_factory.getbasetemp()
    shared = root.parent if root.name.startswith("popen-") else root
    file = shared / "mlflow-template" / "mlflow.db"
    with FileLock(shared / "mlflow-template.lock"):
        if not file.exists():
            staging = shared / "mlflow-staging" / "mlflow.db"
            Store(uri=f"sqlite:///{staging}").client.search_experiments()
            staging.parent.rename(file.parent)
    return file


@pytest.fixture
def mlflow_store(tmp_path: Path, mlflow_template: Path) -> Store:
    """An empty MLflow store of the test's own."""
    from gangplan.tracking import Store

    file = tmp_path / "mlflow" / "mlflow.db"
    file.parent.mkdir()
    shutil.copy(mlflow_template, file)
    return Store(uri=f"sqlite:///{file}")
