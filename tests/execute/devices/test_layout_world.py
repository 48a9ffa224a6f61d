"""Nodes change their layout in a world that is late, fails, hangs and changes its plan: no gang loses a node by it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.effort import effort

from gangplan.clock import floor_hour
from gangplan.errors import ConflictError
from gangplan.execute.devices.layouts import Layouts, LayoutTarget, layout_steps
from gangplan.kube import Api
from gangplan.testing import NOW, a_plan, a_pool
from gangplan.types import Grant, Observation, Plan, Quota

Object = dict[str, Any]
POOL, CONFIG, STATE = "gangplan.io/pool", "nvidia.com/mig.config", "nvidia.com/mig.config.state"
POOLS = (
    a_pool("whole", gpus_per_node=2, accelerator="h100"),
    a_pool("parts", gpus_per_node=2, accelerator="h100", slot="3g.40gb", slots_per_gpu=2),
)
LAYOUTS = Layouts(configs={"whole": "all-disabled", "parts": "all-3g.40gb"}, minutes=10, at_once=3)
RESOURCES = {"all-disabled": {"nvidia.com/gpu": "2"}, "all-3g.40gb": {"nvidia.com/mig-3g.40gb": "4"}}
PER_NODE = {"whole": 2, "parts": 4}
BINDING = timedelta(seconds=4)
"""So long after it chose a node, a scheduler's binding of a pod arrives."""


def merged(into: Object, change: Object) -> None:
    """Do what an API server does with a merge patch."""
    for key, value in change.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            merged(into.setdefault(key, {}), cast(Object, value))
        else:
            into[key] = value


class Server:
    """The nodes and pods of a cluster, as its API server keeps them."""

    def __init__(self) -> None:
        self.nodes: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.version = 0

    def get(self, path: str) -> Object:
        """Return a node."""
        return copy.deepcopy(self.nodes[path.rpartition("/")[2]])

    def items(self, path: str, **query: str) -> Iterator[Object]:
        """Yield the nodes, or the pods of a node."""
        found = self.nodes.values()
        if path.endswith("pods"):
            node = query["fieldSelector"].partition("=")[2]
            found = [pod for pod in self.pods.values() if pod["spec"]["nodeName"] == node]
        yield from copy.deepcopy(list(found))

    def merge(self, path: str, change: Object) -> None:
        """Change a node that nobody has changed since it was read."""
        node = self.nodes[path.rpartition("/")[2]]
        if change["metadata"].get("resourceVersion", "") not in ("", node["metadata"]["resourceVersion"]):
            raise ConflictError("changed")
        merged(node, change)
        self.version += 1
        node["metadata"]["resourceVersion"] = str(self.version)


class World(RuleBasedStateMachine):
    """A cluster with its scheduler, its quotas and its mig-manager."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.target = LayoutTarget(cast(Api, self.server), LAYOUTS)
        self.now = NOW
        self.wanted = {"whole": 0, "parts": 0}
        self.quota = {"whole": 0, "parts": 0}
        self.gangs: dict[str, tuple[str, str]] = {}  # pool and node; no node before its pod is bound
        self.bindings: dict[str, str] = {}  # gangs whose pods are on their way to a node
        self.dividing: dict[str, str] = {}  # what the manager makes of a node
        self.seen: dict[str, str] = {}  # the label that the manager has taken up
        self.count = 0

    @initialize(nodes=st.integers(2, 4))
    def begin(self, nodes: int) -> None:
        """All nodes have whole GPUs."""
        for index in range(nodes):
            self.server.nodes[f"n{index}"] = {
                "metadata": {
                    "name": f"n{index}",
                    "resourceVersion": "0",
                    "labels": {POOL: "whole", CONFIG: "all-disabled", STATE: "success"},
                },
                "spec": {},
                "status": {
                    "allocatable": dict(RESOURCES["all-disabled"]),
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
            self.seen[f"n{index}"] = "all-disabled"
        self.wanted["whole"] = self.quota["whole"] = nodes
        self.quota["whole"] *= 2

    def open(self, pool: str) -> list[str]:
        """The nodes of a pool that take pods."""
        return [
            name
            for name, one in self.server.nodes.items()
            if one["metadata"]["labels"][POOL] == pool and not one["spec"].get("unschedulable")
        ]

    def used(self, pool: str) -> int:
        """The slots that gangs hold: each half a node."""
        return sum(PER_NODE[pool] // 2 for held, _ in self.gangs.values() if held == pool)

    def plan(self) -> Plan:
        """The plan of this moment."""
        hour = floor_hour(self.now)
        return a_plan(hour, {pool: [nodes] for pool, nodes in self.wanted.items()}, POOLS)

    @rule(whole=st.integers(0, 4))
    def plan_anew(self, whole: int) -> None:
        """The plan changes, in mid-course as well."""
        nodes = len(self.server.nodes)
        self.wanted = {"whole": min(whole, nodes), "parts": nodes - min(whole, nodes)}

    @rule(pool=st.sampled_from(["whole", "parts"]))
    def admit(self, pool: str) -> None:
        """Kueue admits a gang where quota is free; the scheduler chooses its node, and there is one. It binds later."""
        if self.used(pool) + PER_NODE[pool] // 2 <= self.quota[pool]:
            self.count += 1
            gang = f"g{self.count}"
            there = [*self.bindings.values(), *(at for _, at in self.gangs.values())]
            self.gangs[gang], self.bindings[gang] = (pool, ""), min(self.open(pool), key=there.count)

    def bind(self) -> None:
        """Bindings arrive, also on a node that was cordoned since."""
        for gang, node in self.bindings.items():
            self.gangs[gang] = (self.gangs[gang][0], node)
            limits = {"limits": RESOURCES[self.seen[node]]}
            self.server.pods[gang] = {
                "metadata": {"name": gang, "namespace": "t"},
                "spec": {"nodeName": node, "containers": [{"resources": limits}]},
                "status": {"phase": "Running"},
            }
        self.bindings = {}

    @precondition(lambda self: self.gangs)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A gang ends."""
        gang = data.draw(st.sampled_from(sorted(self.gangs)))
        for there in (self.gangs, self.bindings, self.server.pods):
            cast("dict[str, Any]", there).pop(gang, None)

    @rule(minutes=st.sampled_from([0.1, 0.5, 12]))
    def wait(self, minutes: float) -> None:
        """Time goes by; no binding is on its way for longer than a scheduler takes."""
        self.now += timedelta(minutes=minutes)
        self.bind()

    @rule()
    def carry_quota(self) -> None:
        """Quota follows: lowered to the plan or what is used, raised to the nodes that are open."""
        for pool, per_node in PER_NODE.items():
            most = len(self.open(pool)) * per_node
            self.quota[pool] = min(most, max(self.wanted[pool] * per_node, self.used(pool)))

    @rule(rounds=st.integers(1, 2), taken=st.integers(1, 4), twice=st.booleans())
    def carry_on(self, rounds: int, taken: int, twice: bool) -> None:
        """Our process takes some steps, dies after any of them, or another takes them again."""
        for _ in range(rounds):
            self.once(taken, twice)

    def once(self, taken: int, twice: bool) -> None:
        """Go round once."""
        quotas = (Quota(pool=p, place=p, group=p, slots=q, used=self.used(p)) for p, q in self.quota.items())
        grants = (
            Grant(name=gang, pool=pool, slots=PER_NODE[pool] // 2, nodes={node: PER_NODE[pool] // 2} if node else {})
            for gang, (pool, node) in self.gangs.items()
        )
        seen = Observation(quotas=tuple(quotas), grants=tuple(grants))
        steps = layout_steps(LAYOUTS, self.plan(), self.target.observe(), seen, (), self.now)
        for step in [step for step in steps if not step.waits_for][:taken]:
            for _ in range(1 + twice):
                self.target.apply(step, self.now)

    @rule(index=st.integers(0, 3))
    def begin_to_divide(self, index: int) -> None:
        """The manager takes up the first changed label from a node on."""
        names = sorted(self.server.nodes)
        for name in names[index:] + names[:index]:
            config = self.server.nodes[name]["metadata"]["labels"][CONFIG]
            if config != self.seen[name] and name not in self.dividing:
                pods = [pod for pod in self.server.pods.values() if pod["spec"]["nodeName"] == name]
                assert not pods, "a pod lost its GPU"
                assert name not in self.bindings.values(), "a pod on its way loses its GPU"
                self.seen[name] = self.dividing[name] = config
                self.write(name, {STATE: "pending"}, {})
                return

    @rule(well=st.booleans())
    def end_to_divide(self, well: bool) -> None:
        """The manager is done with the first node, or fails; until then it hangs."""
        if self.dividing:
            name, config = self.dividing.popitem()
            self.write(name, {STATE: "success" if well else "failed"}, RESOURCES[config] if well else {})

    def write(self, name: str, labels: Object, allocatable: Object) -> None:
        """Write what the manager says and what the kubelet counts."""
        self.server.merge(f"/{name}", {"metadata": {"labels": labels}})
        self.server.nodes[name]["status"]["allocatable"] = dict(allocatable)

    @rule(index=st.integers(0, 3), config=st.sampled_from(sorted(RESOURCES)))
    def wake(self, index: int, config: str) -> None:
        """A person does what the remedy says: on a node that stays cordoned, the label is changed."""
        node = self.server.nodes.get(f"n{index}")
        if node and node["metadata"]["labels"].get(STATE) == "failed":
            self.server.merge(f"/n{index}", {"metadata": {"labels": {CONFIG: config}}})

    @invariant()
    def all_that_is_granted_fits(self) -> None:
        """Never more granted, nor quota, than what the nodes that take pods have."""
        for pool, per_node in PER_NODE.items():
            assert max(self.used(pool), self.quota[pool]) <= per_node * len(self.open(pool)), pool

    @invariant()
    def what_is_open_is_divided_right(self) -> None:
        """A node that takes pods has the parts of its pool."""
        for pool in PER_NODE:
            for name in self.open(pool):
                have = self.server.nodes[name]["status"]["allocatable"]
                assert have == RESOURCES[LAYOUTS.configs[pool]], name

    def teardown(self) -> None:
        """When nothing fails any more, the plan is reached."""
        self.gangs, self.bindings, self.server.pods = {}, {}, {}
        for _ in range(12):
            self.carry_quota()
            self.wait(0.1)
            for index, node in enumerate(self.server.nodes.values()):
                if node["metadata"]["labels"].get(STATE) == "failed":
                    other = next(one for one in RESOURCES if one != node["metadata"]["labels"][CONFIG])
                    self.wake(index, other)
                self.begin_to_divide(index)
                self.end_to_divide(well=True)
            self.once(9, twice=False)
        assert {pool: len(self.open(pool)) for pool in PER_NODE} == self.wanted


World.TestCase.settings = settings(max_examples=effort(100, 1000), stateful_step_count=40)
TestWorld = World.TestCase
