"""The figures of gangplan in Kubeflow Pipelines: steps, 200 runs at once, and what becomes of a dead run's slots.

`python -m benchmarks.kfp [--only NAME,...] [--share N] [--python FILE]`; NAMEs: start, overhead, pipeline, parallel,
dead. `start` and `dead` start a cluster with real nodes, which needs root. `--share 10` runs a tenth of the loads, to
see that all works.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.parts.figures import ROOT, Figure
from benchmarks.parts.kfp import dead, local, parallel, start
from benchmarks.parts.running import measure, names_in, parser_of, stop_cleanly
from gangplan.progress import Progress

PYTHON = ROOT / ".envs" / "kfp" / "bin" / "python"

Part = Callable[[Path, int, Progress], list[Figure]]
PARTS: dict[str, Part] = {
    "start": start.start,
    "overhead": local.overhead,
    "pipeline": local.pipeline,
    "parallel": parallel.parallel,
    "dead": dead.dead,
}


def main() -> None:
    """Measure what was asked for and report it."""
    parser = parser_of("kfp", "The figures in Kubeflow Pipelines.", PARTS)
    parser.add_argument("--python", type=Path, default=PYTHON, help="the Python of KFP's environment")
    asked = parser.parse_args()
    names = names_in(parser, asked.only)
    stop_cleanly()
    measure("kfp", {name: partial(PARTS[name], asked.python, asked.share) for name in names})


if __name__ == "__main__":
    main()
