"""Faults in an Airflow full of gangs, and what they cost: slots lost, given twice, or used by nobody's right."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.parts.airflow.client import ENDED, STARTED_S, Client
from benchmarks.parts.airflow.faults import Faults
from benchmarks.parts.airflow.stack import CLAIM_S, until
from benchmarks.parts.airflow.waits import airflow, ledger_of
from benchmarks.parts.airflow.watch import MARGIN_S, Watcher, taken_twice, without_slots, works_of
from benchmarks.parts.figures import FOLDER, Figure
from gangplan.progress import Progress

DAGS = ("bench_plain", "bench_bare", "bench_breaks", "bench_mapped", "bench_gang")
NODES, GANGS = 8, 40
FAULTS_PER_WORK, LULL_S = 5, 60.0
DRAIN_S = 600.0
FILE = FOLDER / "airflow-leaks.jsonl"


def leaks(python: Path, _share: int, progress: Progress, *, faults: int, seed: int) -> list[Figure]:
    """Return what faults cost; all that was found is in `FILE`, with what had happened before."""
    with airflow(python, list(DAGS)) as client:
        with ledger_of(client, NODES):
            pass
        making = Faults(client, seed)
        watcher = Watcher(client.stack, making.cleared.look)
        try:
            load = Load(client)
            _warm_up(load, watcher, progress)
            _run(load, making, watcher, faults, progress)
            stuck = _drain(client, watcher, progress)
            for one in making.cleared.failed:
                one["log"] = client.stack.task_log(one["key"])
        finally:
            watcher.close()
        works = works_of(client.stack.works)
    found = [
        *watcher.seen.leaks.values(),
        *taken_twice(works),
        *without_slots(works, watcher.seen),
        *making.cleared.failed,
    ]
    _keep(found, making)
    return _figures(found, making, load, len(works), stuck)


class Load:
    """Keeps so many DAG runs going on, of each DAG in turn."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.started = 0

    def top_up(self, runs: dict[tuple[str, str], str]) -> None:
        """Start runs until there are enough; an api-server that does not answer is asked at the next fault."""
        for _ in range(GANGS - sum(state not in ENDED for state in runs.values())):
            dag = DAGS[self.started % len(DAGS)]
            try:
                self.client.trigger(dag, f"r{self.started:05}")
            except httpx.HTTPError:
                return
            self.started += 1


def _warm_up(load: Load, watcher: Watcher, progress: Progress) -> None:
    """Let the first gangs come, until most of them hold slots or wait for them."""

    def stand() -> bool:
        seen = watcher.seen
        progress(seen.granted + seen.waits, GANGS, "gangs come")
        return seen.granted + seen.waits >= GANGS // 2

    load.top_up({})
    until(STARTED_S, "the first gangs", stand, pause=0.5)


def _run(load: Load, making: Faults, watcher: Watcher, faults: int, progress: Progress) -> None:
    """Make all faults, while gangs come and go: no more than so many for each work, however slow the machine is."""
    seen = watcher.seen
    for number in range(faults):
        load.top_up(load.client.runs())
        making.make()
        words = f"faults; {load.started} runs, {watcher.begun} works, {seen.granted} gangs hold, {seen.waits} wait"
        progress(number + 1, faults, f"{words}; {len(seen.leaks)} leaks, {len(making.cleared.failed)} cleared failed")
        over = time.monotonic() + LULL_S
        while number > FAULTS_PER_WORK * (watcher.begun + 1) and time.monotonic() < over:
            time.sleep(0.2)
            load.top_up(load.client.runs())
        assert watcher.error is None, watcher.error


def _drain(client: Client, watcher: Watcher, progress: Progress) -> int:
    """Let all runs end, and then what they held go back; return how many runs did not end."""
    over, going = time.monotonic() + DRAIN_S, -1
    while going and time.monotonic() < over:
        time.sleep(1)
        going = sum(state not in ENDED for state in client.runs().values())
        progress(0, 1, f"{going} runs go on; {watcher.seen.granted} gangs hold")
    over = time.monotonic() + CLAIM_S + 2 * MARGIN_S
    while watcher.seen.granted and time.monotonic() < over:
        time.sleep(1)
        progress(0, 1, f"all ended; {watcher.seen.granted} gangs hold")
    return going


def _keep(found: Sequence[dict[str, Any]], making: Faults) -> None:
    """Write all that was found, each with what was done to its run and what else had just happened."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FILE.open("w") as file:
        for one in sorted(found, key=lambda one: one["at"]):
            run = next((part for part in one["key"].split("/") if part.startswith("r0")), one["key"])
            file.write(json.dumps(one | {"before": making.touching(run, one["at"])}) + "\n")


def _figures(found: Sequence[dict[str, Any]], making: Faults, load: Load, works: int, stuck: int) -> list[Figure]:
    """Return a figure for each thing that must not be."""
    counts = Counter(one["found"] for one in found)
    longest = max((one["for_s"] for one in found if one["found"] == "twice"), default=0.0)
    refused = sum(one["said"].startswith("refused") for one in making.made)
    went = f"{len(making.made)} faults ({refused} refused), {load.started} runs, {works} works, {stuck} runs stuck"
    left = f"; left out: {', '.join(making.left_out)}" if making.left_out else ""
    nobody = f"; {counts['waits for nobody']} waited for nobody"
    words = {
        "leaks_slots": (counts["leaked"], f"{went}{nobody}; {making.counts()}{left}"),
        "leaks_twice": (counts["twice"], f"at the longest for {longest:.1f} s"),
        "leaks_without_slots": (
            counts["without slots"] + counts["overstayed"],
            f"{counts['without slots']} began without, {counts['overstayed']} went on after",
        ),
        "leaks_cleared_failed": (counts["cleared failed"], f"{making.cleared.ended_well} ended well"),
    }
    return [Figure(name=name, value=value, unit="", bar="<= 0", peer=peer) for name, (value, peer) in words.items()]
