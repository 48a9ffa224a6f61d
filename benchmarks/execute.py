"""The figures of plans carried out, on a real cluster with Kueue and Karpenter, whose nodes and pods KWOK plays.

`python -m benchmarks.execute [--only NAME,...] [--share N] [--kills N] [--seed N]` starts a cluster for each part;
NAMEs: apply, admission, day, unchanged, storm, kills. `day` carries out a plan of 24 hours on a clock on which an hour
passes in 30 s, beside 30 gangs that ask all the time; then Karpenter alone orders nodes for the same gangs. What went
wrong is read from the cluster's own history, change by change. `--share 10` runs a tenth of the loads, to see that all
works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tests.cluster.servers import build

from benchmarks.parts.execute import admission, day, kills, large, many_pools
from benchmarks.parts.figures import Figure
from benchmarks.parts.running import measure, names_in, parser_of, stop_cleanly
from gangplan.progress import Progress

NAMES = ("apply", "admission", "day", "unchanged", "storm", "kills")
KILLS, SEED = 500, 7

Part = Callable[[int, Progress], list[Figure]]


def main() -> None:
    """Measure what was asked for and report it."""
    parser = parser_of("execute", "The figures of plans carried out.", NAMES)
    parser.add_argument("--kills", type=int, default=KILLS, help="how many processes `kills` kills (default: 500)")
    parser.add_argument("--seed", type=int, default=SEED, help="draws the kills (default: 7)")
    asked = parser.parse_args()
    names = names_in(parser, asked.only)
    stop_cleanly()
    build.servers(tuple(build.TOOLS))  # built once for all, which is not what is measured
    parts = _parts(names, asked.kills, asked.seed)
    begun = {name: partial(part, asked.share) for name, part in parts.items()}
    measure("execute", begun, begins="the cluster starts")


def _parts(names: Sequence[str], count: int, seed: int) -> dict[str, Part]:
    """Return what was asked for; the two parts of the large cluster share it."""
    in_large = [name for name in ("unchanged", "storm") if name in names]
    parts: dict[str, Part] = {
        "apply": many_pools.apply,
        "admission": admission.admission,
        "day": day.day,
        "kills": partial(kills.kills, count=count, seed=seed),
    }
    asked = {name: part for name, part in parts.items() if name in names}
    return asked | ({"large": partial(large.large, parts=in_large)} if in_large else {})


if __name__ == "__main__":
    main()
