"""What all tiers share: a fixed moment, and an MLflow store of one's own from a migrated template."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from gangplan.tracking import Store

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)  # a Monday morning
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def now() -> datetime:
    """The moment at which tests take place."""
    return NOW


@pytest.fixture
def clock(now: datetime) -> Callable[[], datetime]:
    """A clock that stands at `now`."""
    return lambda: now


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
