"""Kill -9 of the controller, the API server, Kueue and Karpenter while plans change and gangs ask all the time."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, Self

from tests.cluster.servers import karpenter
from tests.cluster.servers.cluster import Cluster
from tests.cluster.servers.process import Server

from benchmarks.parts.execute.day import write_notes
from benchmarks.parts.execute.gangs import Gangs
from benchmarks.parts.execute.history import NODE, Findings, Node, findings
from benchmarks.parts.execute.home import Controller, Home
from benchmarks.parts.execute.recorder import Recorder
from benchmarks.parts.execute.world import COHORT, FLEET, GPUS, POOLS, QUEUES, SPACE, world
from benchmarks.parts.figures import Figure
from gangplan.errors import ConflictError, GangplanError, NotFoundError
from gangplan.kube.api import Api, part
from gangplan.progress import Progress
from gangplan.reserve.kueue.objects import names

Object = dict[str, Any]

ROUND, PLANS = 25, 5
"""Kills until a plan must be reached, and kills until a new one is published."""

_PAUSE_S, _SOON_S = 4.0, 0.3
_REACHED_S = 180.0
_LOOK_S = 0.5
_BOOT_S = 4.0


def kills(share: int, progress: Progress, *, count: int, seed: int) -> list[Figure]:
    """Return what was granted above what there was, the gangs that lost nodes, and the plans that were reached."""
    draw = random.Random(seed)
    rounds = max(count // share // ROUND, 1)
    wanted: dict[str, int] = {}
    killed: Counter[str] = Counter()
    reached: list[float] = []
    with TemporaryDirectory() as folder, world(static=True, delay_s=1) as cluster, Recorder(cluster.api) as recorder:
        home = Home(folder=Path(folder), fleet=FLEET, targets=_targets())
        home.publish(_nodes(draw))
        with (
            Controller(cluster, home, f"kueue://gangplan/{SPACE}/{QUEUES[0]}", every="2s", lease="3s") as controller,
            Keeper(cluster, controller) as keeper,
            Gangs(cluster.api, seed) as gangs,
        ):
            for number in range(rounds):
                for each in range(ROUND):
                    progress(number * ROUND + each, rounds * ROUND, f"kills, {len(reached)} plans reached")
                    if each % PLANS == 0:
                        home.publish(wanted := _nodes(draw))
                    _pause(draw, recorder)
                    killed[keeper.kill(draw)] += 1
                took = _wait(partial(_is_reached, cluster.api, recorder, wanted))
                if took is None:
                    print(
                        f"plan {number + 1} was not reached: {_shown(cluster.api, recorder, wanted)}", file=sys.stderr
                    )
                else:
                    reached.append(took)
        found = findings(recorder.changes, GPUS)
    found.lost |= {run.name for run in gangs.runs if run.failed}
    write_notes("kills", found)
    return _figures(found, reached, rounds, killed, keeper, recorder.gaps)


def _figures(
    found: Findings, reached: list[float], rounds: int, killed: Counter[str], keeper: Keeper, gaps: int
) -> list[Figure]:
    whom = ", ".join(f"{name} {count}" for name, count in sorted(killed.items()))
    over = f"of {found.states:,} states; at most {found.worst} GPUs too many, {found.over_s:.2f} s in all; {gaps} gaps"
    met = f"{len(found.refused)} met missing nodes"
    slowest = f"the slowest {max(reached, default=0.0):.0f} s after its last kill"
    ended = f"; {sum(keeper.ended.values())} ended by themselves meanwhile"
    return [
        Figure(name="kills_over_allocations", value=found.over, unit="states", bar="<= 0", peer=over),
        Figure(name="kills_lost_nodes", value=len(found.lost), unit="gangs", bar="<= 0", peer=f"{whom}{ended}; {met}"),
        Figure(
            name="kills_reached",
            value=len(reached) / rounds,
            unit="",
            bar=">= 1",
            peer=f"{len(reached)} of {rounds} plans with {ROUND} kills each; {slowest}",
        ),
    ]


class Keeper:
    """Starts what was killed, or ended, again, as a kubelet does; and boots machines that Karpenter had ordered.

    Its provider for KWOK boots them in its own process, so that they die with it. A cloud's would come all the same.
    """

    def __init__(self, cluster: Cluster, controller: Controller) -> None:
        self.ended: Counter[str] = Counter()
        self._api = cluster.api
        self._servers: dict[str, Server] = {"controller": controller.server} | {
            name: cluster.servers[name] for name in ("apiserver", "kueue", "karpenter")
        }
        self._killing, self._stop = Event(), Event()
        self._since: dict[str, float] = {}
        self._threads = [Thread(target=self._often, args=(work,), daemon=True) for work in (self._keep, self._boot)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def kill(self, draw: random.Random) -> str:
        """Kill one of those that run, and start it again at once."""
        self._killing.set()
        try:
            name = draw.choice(sorted(self._servers))
            server = self._servers[name]
            if server.runs:
                server.kill()
            server.start()
            return name
        finally:
            self._killing.clear()

    def _often(self, work: Callable[[], None]) -> None:
        while not self._stop.wait(_LOOK_S):
            if not self._killing.is_set():
                work()

    def _keep(self) -> None:
        for name, server in self._servers.items():
            if not server.runs and not self._killing.is_set():
                self.ended[name] += 1
                server.start()

    def _boot(self) -> None:
        try:
            claims = list(self._api.items(f"{karpenter.API}/nodeclaims"))
            nodes = {one["metadata"]["name"] for one in self._api.items("/api/v1/nodes")}
            for claim in claims:
                name = part(claim, "status").get("providerID", "").removeprefix("kwok://")
                if not name or name in nodes or "deletionTimestamp" in claim["metadata"]:
                    continue
                if time.monotonic() - self._since.setdefault(name, time.monotonic()) > _BOOT_S:
                    self._api.create("/api/v1/nodes", _machine(claim, name))
        except GangplanError:  # the API server is away: the next look will do
            return


def _machine(claim: Object, name: str) -> Object:
    """Return the node of a machine, as the provider makes it."""
    meta, status = claim["metadata"], claim["status"]
    note = {"kwok.x-k8s.io/node": "fake"}
    sizes = {"capacity": status["capacity"], "allocatable": status["allocatable"]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**meta["labels"], **note}, "annotations": note},
        "spec": {
            "providerID": status["providerID"],
            "taints": [{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}],
        },
        "status": sizes,
    }


def _targets() -> Object:
    return {
        pool.name: {
            "nodes": {"kind": "karpenter", "nodepool": pool.name},
            "quota": {"kind": "kueue", "cohort": COHORT, "flavor": pool.name},
        }
        for pool in POOLS
    }


def _pause(draw: random.Random, recorder: Recorder) -> None:
    """Wait for some time, or until just after something has happened."""
    if draw.random() < 0.5:
        time.sleep(draw.uniform(0, _PAUSE_S))
    else:
        recorder.wait(_PAUSE_S)
        time.sleep(draw.uniform(0, _SOON_S))


def _nodes(draw: random.Random) -> dict[str, int]:
    return {pool.name: draw.randint(1, pool.max_nodes) for pool in POOLS}


def _wait(good: Callable[[], bool]) -> float | None:
    """Return the seconds until something is true; nothing, where it took too long."""
    began = time.monotonic()
    while time.monotonic() - began < _REACHED_S:
        try:
            if good():
                return time.monotonic() - began
        except (ConflictError, NotFoundError, GangplanError):
            pass
        time.sleep(_LOOK_S)
    return None


def _is_reached(api: Api, recorder: Recorder, wanted: dict[str, int]) -> bool:
    replicas, quotas, opened = _has(api, recorder)
    slots = {name: count * GPUS[name] for name, count in wanted.items()}
    return (replicas, quotas, opened) == (wanted, slots, wanted)


def _shown(api: Api, recorder: Recorder, wanted: dict[str, int]) -> str:
    replicas, quotas, opened = _has(api, recorder)
    return f"wanted {wanted}, replicas {replicas}, quotas {quotas}, open nodes {opened}"


def _has(api: Api, recorder: Recorder) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Return replicas, quotas and open nodes by pool."""
    pools = api.items(f"{karpenter.API}/nodepools")
    replicas = {one["metadata"]["name"]: int(one["spec"]["replicas"]) for one in pools}
    cohort = api.get(f"{names.API}/cohorts/{COHORT}")["spec"]["resourceGroups"][0]["flavors"]
    quotas = {flavor["name"]: int(flavor["resources"][0]["nominalQuota"]) for flavor in cohort}
    opened = Counter(node.pool for node in recorder.states(NODE).values() if isinstance(node, Node) and node.open)
    return replicas, quotas, {pool.name: opened[pool.name] for pool in POOLS}
