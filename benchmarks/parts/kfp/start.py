"""How long a held step's container takes to the first line of its work, beside an empty component, on a real node."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from benchmarks.parts.figures import ROOT, Figure
from benchmarks.parts.kfp.ground import PODS, SPACE, Ground, ground, missing
from benchmarks.parts.kfp.local import environment_of
from gangplan import client
from gangplan.clock import system_clock
from gangplan.kube import Object
from gangplan.progress import Progress
from gangplan.testing import a_request
from gangplan.types import PipelineOwner, PodSet
from gangplan_kfp.support import Gang

ROUNDS = 10
_HOUR = timedelta(hours=1)
_PATIENCE_S = 120.0
_SAID = "seconds since the container's start: "


def start(python: Path, share: int, progress: Progress) -> list[Figure]:
    """Return the median of a held step, and an empty component's beside it; none where no real node can be."""
    if why := missing():
        print(f"start: not measured, {why}")
        return []
    rounds = max(2, ROUNDS // share)
    took: dict[str, list[float]] = {"empty": [], "held": []}
    progress(0, rounds, "the cluster starts")
    with ground(1) as place:
        empty = _command(python)
        held = ["python3", "-m", "gangplan_kfp.held", "--gang", _gang(place).text(), "--", *empty]
        for number in range(rounds):
            progress(number, rounds, "steps")
            took["empty"].append(_seconds(place, f"empty-{number}", empty, number, python))
            took["held"].append(_seconds(place, f"held-{number}", held, number, python))
    value, peer = statistics.median(took["held"]), statistics.median(took["empty"])
    words = f"an empty component {peer:.2f} s; medians of {rounds}; real pods, Kueue ledger"
    return [Figure(name="component_start_s", value=value, unit="s", bar="<= 1.5", peer=words)]


def _command(python: Path) -> list[str]:
    """Return the command that KFP gives the container of a component whose first line says how old the container is."""
    program = [str(python), "-m", "benchmarks.parts.kfp.runner", "command"]
    said = subprocess.run(program, env=environment_of(ROOT), cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(said.stdout.splitlines()[-1])


def _gang(place: Ground) -> Gang:
    """Reserve the gang that the steps hold, one after the other."""
    owner, key = PipelineOwner(run="start"), "kfp/start/gang"
    wish = a_request(key, pod_sets=(PodSet(count=1, gpus_per_pod=1),))
    with place.ledger() as ledger:
        asked = client.submit(ledger, wish, system_clock() + _HOUR, f"{owner}/gang/1")
        held = client.claim(ledger, asked, _HOUR)
    return Gang(key=key, reservation=str(held.id), handover_s=_HOUR.total_seconds())


def _seconds(place: Ground, name: str, command: Sequence[str], at: int, python: Path) -> float:
    """Run a step, and return how old its container was at its first line."""
    place.api.create(PODS, place.step("start", name, command, at=at, python=python))
    deadline = time.monotonic() + _PATIENCE_S
    while not _over(pod := place.api.get(f"{PODS}/{name}")):
        assert time.monotonic() < deadline, pod["status"]
        time.sleep(0.2)
    log = place.cluster.kubectl("-n", SPACE, "logs", name)
    assert pod["status"]["phase"] == "Succeeded", log
    (line,) = [line for line in log.splitlines() if _SAID in line]
    return float(line.rpartition(_SAID)[2])


def _over(pod: Object) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")
