"""How long each DAG file takes to import, as the dag-processor does it: in a process forked from one with Airflow.

Run by Airflow's own Python: `python -m benchmarks.parts.airflow.imports FILE...` prints seconds by file as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIMES = 3


def seconds_of(python: Path, files: list[Path], path: str) -> dict[str, tuple[float, float]]:
    """Return the seconds of each file, and the processor's among them; the least of a few."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": path}
        command = [str(python), "-m", "benchmarks.parts.airflow.imports", *map(str, files)]
        said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(said.stdout.splitlines()[-1])


def _fresh(file: str) -> tuple[float, float]:
    """Import a file in a child process, and return its seconds and the processor's."""
    import structlog
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.dag_processing.processor import _pre_import_airflow_modules

    _pre_import_airflow_modules(file, structlog.get_logger())
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        began, used = time.perf_counter(), time.process_time()
        bag = BundleDagBag(dag_folder=file, bundle_path=Path(file).parent, bundle_name="dags", load_op_links=False)
        took = time.perf_counter() - began, time.process_time() - used
        os.write(writing, json.dumps([took, bag.import_errors]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        took, errors = json.loads(answer.read())
    os.waitpid(child, 0)
    assert not errors, errors
    return took


def main(files: list[str]) -> None:
    """Print the seconds of these files."""
    print(json.dumps({Path(file).name: min(_fresh(file) for _ in range(TIMES)) for file in files}))


if __name__ == "__main__":
    main(sys.argv[1:])
