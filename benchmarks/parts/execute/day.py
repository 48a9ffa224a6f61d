"""A day of hourly plans on a fast clock, carried out beside gangs that ask all the time; and Karpenter alone."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.parts.execute.carrying import HOUR_S, Carrier, FastClock
from benchmarks.parts.execute.gangs import GANGS, Gangs, Run
from benchmarks.parts.execute.history import Findings, findings, open_nodes
from benchmarks.parts.execute.plans import curve
from benchmarks.parts.execute.recorder import Recorder
from benchmarks.parts.execute.world import DELAY_S, FLEET, GPUS, POOLS, world
from benchmarks.parts.figures import FOLDER, Figure
from gangplan.progress import Progress
from gangplan.testing import a_plan

HOURS, SEED = 24, 7
START = datetime(2026, 3, 2, tzinfo=UTC)
_LEAST_HOURS = 4


def day(share: int, progress: Progress) -> list[Figure]:
    """Return what went wrong in a day, and the hours whose nodes were there when they began."""
    hours = max(HOURS // share, _LEAST_HOURS)
    curves = {pool.name: [0, *curve(pool, hours + 1, SEED)] for pool in POOLS}  # the first hour is for the first nodes
    with world(static=True) as cluster, Recorder(cluster.api) as recorder:
        clock = FastClock(start=START)
        with (
            Carrier(cluster.api, a_plan(START, curves, FLEET.pools), clock) as carrier,
            Gangs(cluster.api, SEED) as gangs,
        ):
            _wait(clock.at(hours + 1), "hours", hours, clock, progress)
        changes = recorder.changes
        gaps = recorder.gaps
    wrong = findings(changes, GPUS)
    wrong.lost |= {run.name for run in gangs.runs if run.failed}
    write_notes("day", wrong)
    moments = [clock.at(hour) for hour in range(1, hours + 1)]
    there = open_nodes(changes, moments)
    ahead = [
        all(there[hour].get(pool, 0) >= nodes[hour + 1] for pool, nodes in curves.items()) for hour in range(hours)
    ]
    print(f"steps: {dict(carrier.taken)}; put off: {dict(carrier.put_off)}", file=sys.stderr)
    peer = reactive(hours, progress)
    return [*_wrong(wrong, gangs.runs, hours, gaps), *_ahead(ahead, carrier), peer_figure(gangs.runs, peer)]


def reactive(hours: int, progress: Progress) -> tuple[list[Run], Findings]:
    """Return the gangs of Karpenter alone, which orders nodes for pods that wait, with all quota from the start."""
    with world(static=False, quota=100) as cluster, Recorder(cluster.api) as recorder:
        clock = FastClock(start=START)
        with Gangs(cluster.api, SEED) as gangs:
            _wait(clock.at(hours + 1), "hours of Karpenter alone", hours, clock, progress)
        return gangs.runs, findings(recorder.changes, GPUS)


def write_notes(part: str, found: Findings) -> None:
    """Write what went wrong to .run/bench/execute-<part>.txt, to look at."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    lost = [f"lost: {gang}" for gang in sorted(found.lost)]
    refused = [f"found no node for {seconds:.2f} s: {gang}" for gang, seconds in sorted(found.refused.items())]
    (FOLDER / f"execute-{part}.txt").write_text("\n".join([*lost, *refused, *found.notes, ""]))


def _wait(until: float, what: str, total: int, clock: FastClock, progress: Progress) -> None:
    while (now := time.monotonic()) < until:
        progress(min((now - clock.began) / clock.hour_s, total), total, what)
        time.sleep(0.5)


def _wrong(found: Findings, runs: Sequence[Run], hours: int, gaps: int) -> list[Figure]:
    done = sum(run.done > 0 for run in runs)
    seen = f"{hours} hours of {HOUR_S:.0f} s, {GANGS} gangs, {done:,} runs, {found.states:,} states of the cluster"
    over = f"{seen}; at most {found.worst} GPUs too many, {found.over_s:.2f} s in all; {gaps} gaps"
    longest = max(found.refused.values(), default=0.0)
    return [
        Figure(name="over_allocations", value=found.over, unit="states", bar="<= 0", peer=over),
        Figure(name="granted_lost_nodes", value=len(found.lost), unit="gangs", bar="<= 0", peer=seen),
        Figure(
            name="met_missing_nodes",
            value=len(found.refused),
            unit="gangs",
            bar="<= 0",
            peer=f"the longest for {longest:.1f} s",
        ),
    ]


def _ahead(ahead: Sequence[bool], carrier: Carrier) -> list[Figure]:
    late = [str(hour) for hour, good in enumerate(ahead) if not good]
    peer = f"{len(ahead)} hours; late: {', '.join(late) or 'none'}; start-up {DELAY_S} s and Karpenter's own time"
    share = sum(ahead) / len(ahead)
    return [Figure(name="nodes_ahead_share", value=share, unit="", bar=">= 0.99", peer=peer)]


def peer_figure(ours: Sequence[Run], alone: tuple[Sequence[Run], Findings]) -> Figure:
    """Return how long an admitted gang waits until all of its pods run, beside Karpenter alone."""
    runs, wrong = alone
    mine, theirs = _starts(ours), _starts(runs)
    peer = (
        f"p95 {_p95(mine):.2f} s of {len(mine):,}; Karpenter alone {statistics.median(theirs):.2f} s, "
        f"p95 {_p95(theirs):.2f} s of {len(theirs):,}: {len(wrong.refused)} gangs met missing nodes, "
        f"{len(wrong.lost)} lost some"
    )
    return Figure(name="admitted_to_running_s", value=statistics.median(mine), unit="s", peer=peer)


def _starts(runs: Sequence[Run]) -> list[float]:
    return [run.ran - run.admitted for run in runs if run.ran and run.admitted]


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[18]
