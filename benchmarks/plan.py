"""The capacity plan at the sizes of `tests/plan/instances.py`: built, solved, and beside CBC, SCIP and rules of thumb.

`--only build,plan,...` runs some parts; each part and each size stands in a process of its own, on one core.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.plan.instances import SIZES, growth, inputs, instance, settings_of, small

from benchmarks.parts import peers
from benchmarks.parts.figures import Figure, report
from gangplan import plan
from gangplan.plan.model.algebra import compile_model
from gangplan.plan.model.program import build
from gangplan.plan.problem.builder import build_problem
from gangplan.plan.questions.alternatives import GREEDY, MEAN, PLAN, REACTIVE, Alternative, compare
from gangplan.plan.questions.whatif import WhatIf, WhatIfSolver
from gangplan.plan.solver.highs import Engine, Work
from gangplan.plan.solver.search import Search, SearchResult
from gangplan.progress import no_progress
from gangplan.tracking import Store

PLAN_BARS = {"S": 0.5, "M72": 4, "L48": 8, "L72": 15, "L": 75}
SMALL_BARS, SMALL_SEEDS, SMALL_AGAIN = {48: 0.25, 168: 0.8}, range(1, 13), 3
BUILD_BARS = {"M": 2, "L": 14}
GROWTH = (10, 20, 30, 60)
PEER_LIMIT_S = 180.0
SMALL_WORK = 10.0
"""A small fleet's plan may do so much work: with more it is over the bar in any case."""

SMALL_PEER_LIMIT_S = 5.0
"""HiGHS alone takes minutes for some small fleets: after so long it is over the bar in any case."""
ROUNDED_SEEDS = 50
WORTH_SEEDS = (1, 2, 3, 4, 5)

GANGPLAN = str(Path(sys.executable).with_name("gangplan"))
"""The command of this environment."""

Part = Callable[[], Iterator[Figure]]
_console = Console(width=140)


def built(size: str) -> tuple[float, float, tuple[int, int, int, int]]:
    """Seconds to build the whole Pyomo model and to hand it to HiGHS; its rows, columns, nonzeros, integers."""
    problem = instance(size)
    begin = time.perf_counter()
    model = build(problem)
    said = time.perf_counter()
    form = compile_model(model)
    Engine(form, relaxed=False, seed=1)
    done = time.perf_counter()
    rows, columns = form.matrix.shape
    return said - begin, done - said, (rows, columns, form.matrix.nnz, int(form.whole.sum()))


def searched(size: str, seed: int) -> tuple[float, float, float, str]:
    """Seconds of a whole plan, model and proof included; its gap, its price, how it was found."""
    problem = instance(size, seed)
    begin = time.perf_counter()
    found = Search(problem).run(no_progress)
    return time.perf_counter() - begin, found.gap, found.objective, found.method


def planned_small(hours: int, seed: int) -> tuple[float, float, float, float]:
    """Seconds of a small fleet's whole plan, explanation included, and its gap; seconds and gap of HiGHS alone."""
    forecast, fleet, settings = small(hours, seed, work_limit=SMALL_WORK)
    plan.solve(*small(24, seed)[:2], settings=settings)  # what is loaded once is not the plan's
    took: list[float] = []
    while not took or (len(took) < SMALL_AGAIN and sum(took) < 5):  # one that branches is not asked again
        begin = time.perf_counter()
        found = plan.solve(forecast, fleet, settings=settings)
        took.append(time.perf_counter() - begin)
    problem = build_problem(forecast, fleet, settings)
    begin = time.perf_counter()
    alone = Engine(compile_model(build(problem)), relaxed=False, seed=settings.seed, gap=settings.mip_gap)
    whole = alone.run(Work(seconds=SMALL_PEER_LIMIT_S))
    return statistics.median(took), found.gap, time.perf_counter() - begin, 1 - whole.bound / whole.objective


def grown(pools: int) -> tuple[float, float, float]:
    """Seconds, gap and peak GiB of a plan for that many pools."""
    problem = instance(growth(pools))
    begin = time.perf_counter()
    found = Search(problem).run(no_progress)
    return time.perf_counter() - begin, found.gap, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def planned_again() -> tuple[float, float, float]:
    """Seconds of the first plan of M72 and of the next one, demand 2 % up, that begins where it ended; its gap."""
    begin = time.perf_counter()
    first = Search(instance("M72"))
    before = first.run(no_progress)
    once = time.perf_counter() - begin
    later = instance("M72", demand=1.02)
    begin = time.perf_counter()
    again = Search(later, cuts=tuple(first.decomposition.cuts), start=before.nodes).run(no_progress)
    return once, time.perf_counter() - begin, again.gap


def asked_what_if() -> list[tuple[str, float, float]]:
    """What-ifs on a solved M72: what was asked, seconds in process, the gap of the answer."""
    problem = instance("M72")
    search = Search(problem)
    nodes = search.run(no_progress).nodes
    solved = WhatIfSolver(problem, nodes, search.decomposition.near_cuts())
    pool = problem.pools[0]
    asked = {
        f"{pool.name}.max + 5": WhatIf(pools={(pool.name, "max"): "+5"}),
        "demand +5 %": WhatIf(demand={"": 1.05}),
        "demand of t1 +30 %": WhatIf(demand={"tenant:t1": 1.3}),
    }  # fmt: skip
    rows: list[tuple[str, float, float]] = []
    for words, question in asked.items():
        begin = time.perf_counter()
        answer = solved.ask(question)
        rows.append((words, time.perf_counter() - begin, answer.gap))
    return rows


def whole_command(folder: Path) -> tuple[float, float]:
    """Seconds of `gangplan plan what-if` on a kept M72, and of `gangplan plan list`, which only starts up."""
    size = SIZES["M72"]
    forecast, fleet, policy = inputs(size)
    made = plan.solve(forecast, fleet, settings=settings_of(size), policy=policy)
    store = f"sqlite:///{folder}/mlflow.db"
    plan.log_plan(made, forecast, Store(uri=store))
    environment = {**os.environ, "GANGPLAN_MLFLOW": store, "GANGPLAN_HOME": str(folder)}
    commands = (["what-if", "--demand", "tenant:t1=+30%"], ["list"])
    asked, started = ([_timed(command, environment) for _ in range(3)] for command in commands)
    return statistics.median(asked), statistics.median(started)


def _timed(command: list[str], environment: dict[str, str]) -> float:
    """Seconds of a plan command in a process of its own."""
    begin = time.perf_counter()
    subprocess.run([GANGPLAN, "plan", *command], env=environment, check=True, capture_output=True)
    return time.perf_counter() - begin


def beside_peers() -> list[tuple[str, float, float]]:
    """Seconds and price of gangplan, CBC and SCIP on M72, whole model from an MPS file, one per cent asked."""
    ours = searched("M72", 1)
    with tempfile.TemporaryDirectory() as folder:
        path = peers.write_mps(instance("M72"), Path(folder) / "m72.mps")
        return [
            ("gangplan", ours[0], ours[2]),
            ("CBC", *peers.cbc(path, 0.01, PEER_LIMIT_S)),
            ("SCIP", *peers.scip(path, 0.01, PEER_LIMIT_S)),
        ]


def out_of_sample(seed: int) -> dict[str, Alternative]:
    """The plan of M beside the alternatives, on 40 fresh paths."""
    problem = instance("M", seed)
    nodes = Search(problem).run(no_progress).nodes
    return {found.name: found for found in compare(problem, nodes)}


def rounded() -> list[float]:
    """What plans of random S lose at most: against a bound within a thousandth of the best whole-number plan."""
    losses: list[float] = []
    for seed in range(1, ROUNDED_SEEDS + 1):
        problem = instance("S", seed)
        ours = Search(problem).run(no_progress)
        exact = replace(problem, settings=problem.settings.model_copy(update={"mip_gap": 1e-3, "time_limit_s": 60.0}))
        best: SearchResult = Search(exact).run(no_progress)
        losses.append(ours.objective / best.bound - 1)
    return losses


def part_build() -> Iterator[Figure]:
    """How long the model takes to be said and handed over."""
    table = _table(
        "Pyomo model -> standard form -> HiGHS",
        "size",
        "rows",
        "columns",
        "nonzeros",
        "integers",
        "build s",
        "hand-over s",
    )
    for size, bar in BUILD_BARS.items():
        build_s, hand_s, shape = alone(built, size)
        table.add_row(size, *(f"{count:,}" for count in shape), f"{build_s:.2f}", f"{hand_s:.2f}")
        yield Figure(name=f"build_{size.lower()}_s", value=build_s + hand_s, unit="s", bar=f"<= {bar}")
    _console.print(table)


def part_plan() -> Iterator[Figure]:
    """How long a plan takes, model and proof included."""
    table = _table("A plan at one per cent, proven", "size", "seed", "s", "gap", "price", "how")
    for size, bar in PLAN_BARS.items():
        took: list[float] = []
        for seed in (1, 2, 3) if size in ("S", "M72") else (1,):
            seconds, gap, price, how = alone(searched, size, seed)
            table.add_row(size, str(seed), f"{seconds:.2f}", f"{gap:.2%}", f"{price:,.0f}", how)
            took.append(seconds if gap <= 0.01 else float("inf"))
        yield Figure(name=f"plan_{size.lower()}_s", value=statistics.median(took), unit="s", bar=f"<= {bar}")
    _console.print(table)


def part_small() -> Iterator[Figure]:
    """How long a small fleet's plan takes: three series, three pools, nine paths; the worst of its seeds."""
    table = _table(
        "A small fleet's plan, beside HiGHS alone on the whole-number program",
        "hours",
        "seed",
        "s",
        "gap",
        "HiGHS s",
        "HiGHS gap",
    )
    for hours, bar in SMALL_BARS.items():
        took: list[float] = []
        peer: list[float] = []
        for seed in SMALL_SEEDS:
            seconds, gap, others, other_gap = alone(planned_small, hours, seed)
            table.add_row(str(hours), str(seed), f"{seconds:.3f}", f"{gap:.2%}", f"{others:.2f}", f"{other_gap:.2%}")
            took.append(seconds if gap <= 0.01 else float("inf"))
            peer.append(others)
        limit = f"HiGHS alone, {SMALL_PEER_LIMIT_S:g} s at most"
        words = f"{limit}: median {statistics.median(peer):.2f} s, worst {max(peer):.2f} s"
        unit = f"s, worst of {len(took)}, median {statistics.median(took):.3f}"
        yield Figure(name=f"plan_small{hours}_s", value=max(took), unit=unit, bar=f"<= {bar}", peer=words)
    _console.print(table)


def part_again() -> Iterator[Figure]:
    """How long the next plan takes that begins where the last one ended."""
    first, again, gap = alone(planned_again)
    yield Figure(
        name="replan_m72_s",
        value=again if gap <= 0.01 else float("inf"),
        unit="s",
        bar="<= 2",
        peer=f"cold {first:.2f} s",
    )


def part_what_if() -> Iterator[Figure]:
    """How long a what-if takes."""
    table = _table("What-ifs on a solved M72", "asked", "s", "gap")
    rows = alone(asked_what_if)
    for words, seconds, gap in rows:
        table.add_row(words, f"{seconds:.3f}", f"{gap:.2%}")
    _console.print(table)
    yield Figure(name="what_if_s", value=statistics.median(row[1] for row in rows), unit="s, in process", bar="<= 0.1")
    with tempfile.TemporaryDirectory() as folder:
        whole, started = alone(whole_command, Path(folder))
    yield Figure(
        name="what_if_command_s",
        value=whole - started,
        unit="s, whole command beyond start-up",
        bar="<= 1",
        peer=f"start-up {started:.2f} s (gangplan plan list)",
    )


def part_peers() -> Iterator[Figure]:
    """How much faster than other solvers."""
    table = _table("M72 at one per cent, one thread", "solver", "s", "price")
    (_, ours, price), *others = alone(beside_peers)
    for name, seconds, found in (("gangplan", ours, price), *others):
        table.add_row(name, f"{seconds:.1f}", f"{found:,.0f}")
    _console.print(table)
    name, best, _ = min(others, key=lambda row: row[1] if row[2] < float("inf") else float("inf"))
    yield Figure(name="speedup_over_best_peer", value=best / ours, unit="x", bar=">= 4", peer=f"{name} {best:.1f} s")


def part_growth() -> Iterator[Figure]:
    """How time and memory grow with the pools."""
    table = _table("20 paths, 20 workloads, 48 periods", "pools", "s", "gap", "GiB")
    rows = {pools: alone(grown, pools) for pools in GROWTH}
    for pools, (seconds, gap, gib) in rows.items():
        table.add_row(str(pools), f"{seconds:.1f}", f"{gap:.2%}", f"{gib:.2f}")
    _console.print(table)
    least, most = GROWTH[0], GROWTH[-1]
    ratio = rows[most][0] / rows[least][0] / (most / least)
    yield Figure(name="growth_over_linear", value=ratio, unit="x linear", bar="<= 1.5")
    yield Figure(name="growth_gib", value=max(row[2] for row in rows.values()), unit="GiB", bar="<= 4")
    seconds, gap, *_ = alone(searched, "XL76", 1)
    yield Figure(name="plan_xl76_s", value=seconds, unit=f"s, gap {gap:.2%}")


def part_worth() -> Iterator[Figure]:
    """What the plan is worth beside rules of thumb, out of sample: the median over a few instances."""
    runs: list[dict[str, Alternative]] = []
    for seed in WORTH_SEEDS:
        runs.append(alone(out_of_sample, seed))
        _console.print(_worth_table(seed, runs[-1]))
    yield _saving("saving_over_greedy", [100 * (1 - run[PLAN].mean / run[GREEDY].mean) for run in runs], 7)
    yield _saving("saving_over_reactive", [100 * (1 - run[PLAN].mean / run[REACTIVE].mean) for run in runs], 7)
    yield _saving("worst_below_mean_plan", [100 * (1 - run[PLAN].worst / run[MEAN].worst) for run in runs], 10)


def _worth_table(seed: int, run: dict[str, Alternative]) -> Table:
    """Show every way to run the fleet on one instance."""
    table = _table(
        f"M (seed {seed}) on 40 fresh paths",
        "policy",
        "mean",
        "less the plan's",
        "95 % worst",
        "unserved",
        "latency unserved",
    )
    for name, found in run.items():
        table.add_row(
            name,
            f"{found.mean:,.0f}",
            f"{found.difference:+,.0f} +- {found.range:,.0f}",
            f"{found.worst:,.0f}",
            f"{found.unserved:.2%}",
            f"{found.latency_unserved:.2%}",
        )
    return table


def _saving(name: str, found: list[float], bar: float) -> Figure:
    """Sum up a saving over the instances."""
    unit = f"%, median of {len(found)} M, {min(found):.1f} to {max(found):.1f}"
    return Figure(name=name, value=statistics.median(found), unit=unit, bar=f">= {bar:g}")


def part_rounding() -> Iterator[Figure]:
    """What rounding loses."""
    losses = [100 * loss for loss in alone(rounded)]
    mean = statistics.mean(losses)
    yield Figure(
        name="rounding_loss", value=max(losses), unit=f"%, worst of {len(losses)} S, mean {mean:.2f}", bar="<= 1"
    )


PARTS: dict[str, Part] = {
    "build": part_build,
    "plan": part_plan,
    "small": part_small,
    "again": part_again,
    "what_if": part_what_if,
    "peers": part_peers,
    "growth": part_growth,
    "worth": part_worth,
    "rounding": part_rounding,
}


def alone(function, *arguments):
    """Run in a fresh process on one core, so that memory and threads are its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_one_core) as pool:
        return pool.submit(function, *arguments).result()


def _one_core() -> None:
    """Keep this process to one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _table(title: str, *columns: str) -> Table:
    """Make a table whose numbers stand right."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("size", "how", "policy", "solver", "asked") else "right")
    return table


def main() -> None:
    """Run the parts that were asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}, with commas between")
    chosen = [name for name in parser.parse_args().only.split(",") if name] or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: no such part: use some of {','.join(PARTS)}")
    figures: list[Figure] = []
    for at, name in enumerate(chosen, 1):
        _console.print(f"[{at}/{len(chosen)}] {name}: {(PARTS[name].__doc__ or '').strip()}", markup=False)
        figures += PARTS[name]()
    report("plan", figures)


if __name__ == "__main__":
    main()
