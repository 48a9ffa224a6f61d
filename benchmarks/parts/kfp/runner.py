"""Steps and pipelines under KFP's local runner, timed; run by the Python of KFP's environment.

`python -m benchmarks.parts.kfp.runner steps N` prints the seconds of an empty component's steps and of reserve_gang's,
in turn; `... pipeline` prints those of one whole reserved training. Both work in the home that GANGPLAN_HOME names.
`... command` prints the command that a component's container has.
"""

# No postponed annotations: KFP's compiler reads them as they are written.

import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from kfp import dsl, local

from gangplan import client
from gangplan.config import load_settings
from gangplan.reserve import open_ledger
from gangplan_kfp.components import reserve_gang
from gangplan_kfp.pipelines.training import reserved_training
from gangplan_kfp.support import IMAGE

GANG = {"tenant": "vision", "accelerators": ["h100-lab"], "pods": 2, "gpus_per_pod": 4, "duration": "30m"}


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def empty(run_id: str) -> str:
    """Do nothing."""
    return run_id


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def first_line():
    """Say how old the container is: its first process began when it did."""
    import os
    import time
    from pathlib import Path

    ticks = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    print(f"seconds since the container's start: {age:.3f}", flush=True)


def command() -> list[str]:
    """Return what KFP runs in the container of `first_line`, with an input as its launcher makes it."""
    container = first_line.component_spec.implementation.container
    given = {"inputs": {}, "outputs": {"outputFile": "/tmp/outputs/executor_output.json"}}  # noqa: S108 - in the pod
    words = [json.dumps(given) if not isinstance(word, str) or word == "{{$}}" else word for word in container.args]
    return [*container.command, *words]


def steps(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each step; a granted gang goes back before the next one asks."""
    seconds: dict[str, list[float]] = {"empty": [], "reserve": []}
    with open_ledger(load_settings().ledger_url) as ledger:
        for number in range(rounds):
            run = f"run-{number}"
            seconds["empty"].append(_timed(lambda run=run: empty(run_id=run)))
            seconds["reserve"].append(_timed(lambda run=run: reserve_gang(run_id=run, timeout_seconds=0, **GANG)))
            assert client.give_back(ledger, f"kfp/{run}/gang"), "nothing was granted"
    return seconds


def pipeline() -> dict[str, list[float]]:
    """Return the seconds of one reserved training with the settings of the home."""
    return {"pipeline": [_timed(lambda: reserved_training(timeout_seconds=0))]}


def _timed(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main(what: str, rounds: int = 1) -> None:
    """Print the answer as the last line, as JSON."""
    if what == "command":
        print(json.dumps(command()))
        return
    with tempfile.TemporaryDirectory() as folder:
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=folder)
        seconds = steps(rounds) if what == "steps" else pipeline()
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
