"""The MLflow store's database: made whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from gangplan.tracking import Store

MAKE = "import sys; from gangplan.tracking import Store; Store(uri=sys.argv[1]).client"


def test_a_killed_migration_leaves_no_half_store(tmp_path: Path) -> None:
    """A process killed while it makes the database leaves none, and the next one makes it and works."""
    file = tmp_path / "mlflow" / "mlflow.db"
    child = subprocess.Popen([sys.executable, "-c", MAKE, f"sqlite:///{file}"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in file.parent.glob(".mlflow.db.*")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not file.exists()

    store = Store(uri=f"sqlite:///{file}")
    with store.run("gangplan/telemetry", "a run", {"kind": "test"}) as run_id:
        pass
    assert store.runs("gangplan/telemetry", {"kind": "test"})[0].info.run_id == run_id
