"""Programs of the project's other environments, run beside the tests with the ledger on a test's queue."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.conftest import ROOT, Space

PATIENCE_S = 240.0
_MIGRATE = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'airflow', 'db', 'migrate'], check=True)"
_DAG = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert bag.import_errors == {}, bag.import_errors
run = bag.dags[sys.argv[2]].test()
print({row.task_id: str(row.state) for row in run.get_task_instances()})
assert run.state == sys.argv[3], run.state
"""


@dataclass
class Program:
    """A program that runs beside a test; what it writes goes into a file."""

    process: subprocess.Popen[bytes]
    file: Path

    @property
    def written(self) -> str:
        """What it has written so far, of which the end is enough for a message."""
        return self.file.read_text()[-6000:]

    def look(self) -> None:
        """Fail with what it wrote where it has ended already."""
        assert self.process.poll() is None, self.written

    def says(self, text: str) -> bool:
        """Tell whether it has written a text; one that has ended without it fails."""
        found = text in self.file.read_text()
        if not found:
            self.look()
        return found

    def end(self) -> str:
        """Wait until it has ended well, and return what it wrote."""
        assert self.process.wait(PATIENCE_S) == 0, self.written
        return self.file.read_text()


@contextmanager
def program(kind: str, script: str, *words: str, space: Space, home: Path, **environment: str) -> Iterator[Program]:
    """Run a script in one of the environments beside the block."""
    python = ROOT / ".envs" / kind / "bin" / "python"
    if not python.exists():
        pytest.skip(f"the {kind} environment is not built: make .envs/{kind}/.ready")
    given = {
        "KUBECONFIG": str(space.kubeconfig),
        "GANGPLAN_LEDGER": f"kueue://-/{space.name}/queue",
        "GANGPLAN_HOME": str(home / "gangplan"),
        **environment,
    }
    file = home / f"{space.name}.log"
    with file.open("wb") as out:
        process = subprocess.Popen(
            [str(python), "-c", script, *words], cwd=ROOT, env={**os.environ, **given}, stdout=out, stderr=out
        )
    try:
        yield Program(process, file)
    finally:
        process.kill()
        process.wait()


def a_dag(
    file: Path, dag: str, *, state: str = "success", space: Space, home: Path, **environment: str
) -> AbstractContextManager[Program]:
    """Run a DAG beside the block with `dag.test()` of real Airflow; it ends well when its run ends in the state."""
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(file.parent),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'metadata.db'}",
    }
    migrate = "" if (home / "metadata.db").exists() else _MIGRATE
    return program("airflow", f"{migrate}\n{_DAG}", str(file), dag, state, space=space, home=home, **environment)
