"""MIG layouts, running pods' requests and gangs by ResourceClaims on real servers; a manager of MIG is played."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gangplan.clock import floor_hour
from gangplan.config import Settings
from gangplan.errors import ConflictError, ForbiddenError
from gangplan.execute import Carried, Targets
from gangplan.execute.devices import (
    ClaimedGang,
    Layouts,
    LayoutTarget,
    ResizeRule,
    give_back_claims,
    held_claims,
    hold_claims,
    resize_all,
)
from gangplan.kube import KUEUE, Api, read_nodes
from gangplan.testing import a_plan, a_pool
from gangplan.types import ContainerUse, Observation, Plan, Quota, Step, StepKind, WorkloadClass
from gangplan.workflows.execution.carrying_out import Pass
from gangplan.workflows.execution.followers import Followers
from tests.cluster.conftest import Space, until
from tests.cluster.execute.planned import with_rights
from tests.cluster.objects import a_pod
from tests.cluster.servers import fleet

Object = dict[str, Any]
CONFIG, STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
LATER = timedelta(seconds=6)
"""So much later than the machine's clock our process looks again: a cordon has to settle."""


class Manager:
    """What NVIDIA's mig-manager does: it takes a changed label up, is pending, and succeeds, fails or hangs."""

    def __init__(self, api: Api, parts: dict[str, Object]) -> None:
        self.api, self.parts = api, parts
        self.seen: dict[str, str] = {}
        self.next = ""  # how its next change ends: success, failed, or never

    def work(self, name: str) -> None:
        """Look at a node once."""
        labels = self.api.get(f"/api/v1/nodes/{name}")["metadata"]["labels"]
        config = labels.get(CONFIG, "")
        if config and self.seen.get(name) != config:
            self.seen[name] = config
            self._say(name, "pending", dict.fromkeys(("nvidia.com/gpu", "nvidia.com/mig-1g.10gb"), "0"))
        elif labels.get(STATE) == "pending" and self.next:
            self._say(name, self.next, self.parts[config] if self.next == "success" else {})

    def _say(self, name: str, state: str, amounts: Object) -> None:
        self.api.merge(f"/api/v1/nodes/{name}", {"metadata": {"labels": {STATE: state}}})
        self.api.merge(f"/api/v1/nodes/{name}/status", {"status": {"allocatable": amounts, "capacity": amounts}})


class Group:
    """Two pools of a test's own on the cluster, with two nodes of whole GPUs."""

    def __init__(self, space: Space) -> None:
        self.api, self.name = space.api, space.name
        self.whole, self.parts = f"{space.name}-whole", f"{space.name}-parts"
        self.pools = (
            a_pool(self.whole, gpus_per_node=8, accelerator="h100"),
            a_pool(self.parts, gpus_per_node=8, accelerator="h100", slot="1g.10gb", slots_per_gpu=7),
        )
        self.layouts = Layouts(configs={self.whole: "all-disabled", self.parts: "all-1g.10gb"}, minutes=1)
        self.target = LayoutTarget(space.api, self.layouts)
        self.nodes = [fleet.node(self.pools[0], index) for index in range(2)]
        for one in self.nodes:
            space.make("/api/v1/nodes", one)
        until(lambda: all(one.ready for one in self.target.observe()))
        whole, parts = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
        self.manager = Manager(
            space.api, {"all-disabled": {whole: "8", parts: "0"}, "all-1g.10gb": {whole: "0", parts: "56"}}
        )

    def plan(self, whole: int, parts: int) -> Plan:
        """A plan of this hour and the next."""
        return a_plan(floor_hour(datetime.now(UTC)), {self.whole: [whole] * 2, self.parts: [parts] * 2}, self.pools)

    def carry_on(self, plan: Plan, *, ahead: timedelta = LATER) -> tuple[Step, ...]:
        """Go one round, with a quota of one node for the whole GPUs."""
        quotas = (Quota(pool=self.whole, place="q", group="q", slots=8, used=0),)
        return self.target.carry_on(plan, Observation(quotas=quotas), (), datetime.now(UTC) + ahead)

    def node(self, name: str) -> Object:
        """A node as it stands."""
        return self.api.get(f"/api/v1/nodes/{name}")

    def open(self, pool: str) -> int:
        """How many nodes of a pool take pods."""
        return sum(one.pool == pool and not one.moves_to and not one.closed for one in self.target.observe())


@pytest.fixture
def group(space: Space) -> Iterator[Group]:
    """Two nodes of a test's own that can be divided."""
    return Group(space)


def test_a_node_is_divided(group: Group, space: Space) -> None:
    """Cordoned, waited for while a pod runs, labelled, opened when its kubelet counts the parts, and taken back."""
    plan = group.plan(1, 1)
    (step,) = group.carry_on(plan, ahead=timedelta(0))
    (name,) = step.nodes
    assert step.kind == StepKind.CORDON
    pod = a_pod("late", gpus=8)
    pod["spec"]["nodeName"] = name  # bound before the cordon was seen
    space.api.create(f"/api/v1/namespaces/{space.name}/pods", pod)
    (step,) = group.carry_on(plan)
    assert step.waits_for == f"{name} is in use: {space.name}/late"
    space.api.delete(f"/api/v1/namespaces/{space.name}/pods/late", gracePeriodSeconds=0)
    until(lambda: group.carry_on(plan)[0].kind == StepKind.LAYOUT and CONFIG in group.node(name)["metadata"]["labels"])
    group.manager.next = "success"

    def is_open() -> bool:
        group.manager.work(name)
        group.carry_on(plan)
        return group.open(group.parts) == 1

    until(is_open)
    node = group.node(name)
    assert "unschedulable" not in node["spec"]
    assert not {note for note in node["metadata"]["annotations"] if note.startswith("gangplan.io/")}
    assert node["metadata"]["labels"]["gangplan.io/pool"] == group.parts
    assert group.carry_on(plan) == ()


def test_a_change_that_fails_stays_cordoned_until_the_label_changes(group: Group) -> None:
    """The remedy that is told works: another label wakes the manager, ours follows, and the node opens."""
    plan = group.plan(1, 1)
    (name,) = group.carry_on(plan, ahead=timedelta(0))[0].nodes
    group.manager.next = "failed"

    def fails() -> str:
        group.manager.work(name)
        return next((step.waits_for for step in group.carry_on(plan) if "stays cordoned" in step.waits_for), "")

    told = until(fails)
    assert f"kubectl label node {name} nvidia.com/mig.config=all-disabled --overwrite" in told
    assert group.node(name)["spec"]["unschedulable"]
    group.manager.next = "success"
    group.manager.work(name)
    assert "stays cordoned" in group.carry_on(plan)[0].waits_for, "nothing wakes it but a change"
    group.api.merge(f"/api/v1/nodes/{name}", {"metadata": {"labels": {CONFIG: "all-disabled"}}})

    def is_open() -> bool:
        group.manager.work(name)
        group.carry_on(plan)
        return group.open(group.parts) == 1

    until(is_open)


def test_a_dry_run_and_another_s_change(group: Group) -> None:
    """A dry run changes nothing; a step that was made from another state of the node is refused."""
    step = Step(
        kind=StepKind.CORDON,
        pool=group.whole,
        before=2,
        after=1,
        why="",
        place=group.parts,
        nodes=(group.nodes[0]["metadata"]["name"],),
    )
    now = datetime.now(UTC)
    group.target.apply(step, now, dry_run=True)
    assert group.open(group.whole) == 2
    group.api.merge(f"/api/v1/nodes/{step.nodes[0]}", {"spec": {"unschedulable": True}})
    with pytest.raises(ConflictError):
        group.target.apply(step, now)
    group.api.merge(f"/api/v1/nodes/{step.nodes[0]}", {"spec": {"unschedulable": None}})

    group.target.apply(step, now)
    assert group.open(group.whole) == 1
    group.target.apply(step, now + timedelta(hours=1))
    (moving,) = (one for one in group.target.observe() if one.moves_to)
    assert moving.since == now.replace(microsecond=0), "taken twice, written once"


def test_after_a_pass_layouts_go_on(group: Group, space: Space, caplog: pytest.LogCaptureFixture) -> None:
    """The controller takes the next step of each group after a pass; why a node must wait is said once."""
    after = Followers(settings=Settings(), api=space.api, may_begin=lambda: None, may_write=lambda: None)
    plan = group.plan(1, 1)
    targets = Targets(pools={}, layouts=(group.layouts,))

    def a_pass(quota: int) -> None:
        quotas = (Quota(pool=group.whole, place="q", group="q", slots=quota, used=0),)
        seen = Observation(quotas=quotas)
        carried = Carried(done=(), left=(), refused=(), unreachable={}, before=seen, observed=seen, goals=())
        made = Pass(carried=carried, plan=plan, grants=(), at=datetime.now(UTC), targets=targets)
        after.arrange(made)
        after.resize(made)  # no class has a rule, and there is no Prometheus

    a_pass(16)
    a_pass(16)
    assert [one.message for one in caplog.records if "the quota of" in one.message] == [
        f"layouts of {group.whole}, {group.parts}: the quota of {group.whole} is 16 slots, and its other nodes have 8"
    ]
    assert group.open(group.whole) == 2
    a_pass(8)
    assert group.open(group.whole) == 1


# ---------------------------------------------------------------- requests of running pods


@pytest.fixture
def resizable(space: Space) -> str:
    """A running pod of latency work that asks for far more than it uses, on a node that can resize."""
    pod = a_pod("serve", gpus=1)
    pod["metadata"]["labels"] = {"gangplan.io/workload-class": "latency"}
    pod["spec"]["nodeName"] = "h100-owned-0"
    asked = {"cpu": "8", "memory": "16Gi"}
    pod["spec"]["containers"][0]["resources"] = {
        "requests": {**asked, fleet.GPU: "1"},
        "limits": {"cpu": "16", "memory": "32Gi", fleet.GPU: "1"},
    }
    path = f"/api/v1/namespaces/{space.name}/pods"
    space.api.create(path, pod)
    until(lambda: space.api.get(f"{path}/serve").get("status", {}).get("phase") == "Running")
    status = space.api.get(f"{path}/serve")["status"]["containerStatuses"]
    status[0]["resources"] = pod["spec"]["containers"][0]["resources"]  # a kubelet says so of each container
    space.api.merge(f"{path}/serve/status", {"status": {"containerStatuses": status}})
    return f"{path}/serve"


def requests_in(space: Space, path: str) -> Object:
    """What the pod's container asks for."""
    asked: Object = space.api.get(path)["spec"]["containers"][0]["resources"]["requests"]
    return asked


def limits_in(pod: Object) -> Object:
    """What the pod's container may use at most."""
    limits: Object = pod["spec"]["containers"][0]["resources"]["limits"]
    return limits


def test_a_running_pod_gives_back_what_it_wastes(space: Space, resizable: str) -> None:
    """Its CPU and memory are lowered in place, its GPU and limits stay, and it gets them back when it needs them."""
    rules = {WorkloadClass.LATENCY: ResizeRule(margin=2.0, hours=1)}

    def used(cores: float, gib: float) -> list[ContainerUse]:
        memory = gib * 2**30
        where = {"namespace": space.name, "pod": "serve", "container": "main"}
        return [ContainerUse(**where, cores=cores, memory=memory, hours=48)]

    before = space.api.get(resizable)
    (change,) = resize_all(space.api, used(1.5, 2), rules)
    assert change.waits_for == ""
    assert requests_in(space, resizable) == {"cpu": "3", "memory": "4Gi", fleet.GPU: "1"}
    after = space.api.get(resizable)
    assert (
        after["spec"]["containers"][0]["resources"]["limits"] == before["spec"]["containers"][0]["resources"]["limits"]
    )
    assert after["status"]["qosClass"] == "Burstable"
    assert resize_all(space.api, used(1.5, 2), rules) == ()
    resize_all(space.api, used(99, 99), rules)
    assert requests_in(space, resizable) == {"cpu": "8", "memory": "16Gi", fleet.GPU: "1"}


def test_a_resize_that_is_not_done_is_shown(space: Space, resizable: str) -> None:
    """A kubelet that cannot do it says so on the pod; nothing more is asked of it until it is done."""
    marks = space.api.get(resizable)["status"]["conditions"]
    moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    marks.append(
        {
            "type": "PodResizePending",
            "status": "True",
            "reason": "Infeasible",
            "message": "Node didn't have enough capacity",
            "lastTransitionTime": moment,
        }
    )
    space.api.merge(f"{resizable}/status", {"status": {"conditions": marks}})
    where = {"namespace": space.name, "pod": "serve", "container": "main"}
    used = ContainerUse(**where, cores=1, memory=2**30, hours=48)
    (change,) = resize_all(space.api, [used], {WorkloadClass.LATENCY: ResizeRule()})
    assert change.waits_for == "its last resize is Infeasible: Node didn't have enough capacity"
    assert requests_in(space, resizable)["cpu"] == "8"


# ---------------------------------------------------------------- gangs by ResourceClaims

DRA = "/apis/resource.k8s.io/v1"


@pytest.fixture
def driven(space: Space) -> str:
    """Two nodes of a test's own whose 8 GPUs each a DRA driver lists, and the device class that selects them alone."""
    named = {"apiVersion": "resource.k8s.io/v1"}
    for index in range(2):
        node = fleet.node(a_pool(space.name, gpus_per_node=8, accelerator="h100"), index)
        del node["status"]["allocatable"][fleet.GPU]
        name = space.make("/api/v1/nodes", node)["metadata"]["name"]
        product = {"productName": {"string": "NVIDIA H100 80GB HBM3"}, "test": {"string": space.name}}
        spec = {
            "driver": "gpu.nvidia.com",
            "nodeName": name,
            "pool": {"name": name, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": f"gpu-{number}", "attributes": product} for number in range(8)],
        }
        slices = {**named, "kind": "ResourceSlice", "metadata": {"name": name}, "spec": spec}
        space.make(f"{DRA}/resourceslices", slices)
    said = "device.attributes['gpu.nvidia.com']"
    cel = {"cel": {"expression": f"'test' in {said} && {said}.test == '{space.name}'"}}
    kind = {**named, "kind": "DeviceClass", "metadata": {"name": space.name}, "spec": {"selectors": [cel]}}
    space.make(f"{DRA}/deviceclasses", kind)
    until(lambda: sum(one.ready for one in read_nodes(space.api) if one.pool == space.name) == 2)
    return space.name


def test_our_inventory_sees_nodes_of_a_dra_driver(space: Space, driven: str) -> None:
    """Their GPUs are counted from ResourceSlices, as their nodes have none in allocatable."""
    found = [one for one in read_nodes(space.api) if one.pool == driven]
    assert [(one.accelerator, one.count) for one in found] == [("h100", 8), ("h100", 8)]


def devices_in_use(space: Space) -> list[tuple[str, str]]:
    """Each device of each allocation, with its node."""
    items = space.api.items(f"{DRA}/namespaces/{space.name}/resourceclaims")
    given = [one.get("status", {}).get("allocation", {}).get("devices", {}).get("results", ()) for one in items]
    return [(one["pool"], one["device"]) for results in given for one in results]


def test_a_gang_is_held_by_claims(space: Space, driven: str) -> None:
    """A gang holds both nodes without pods of its own; they run on its devices; another gets these when it is done."""

    def gang(name: str) -> ClaimedGang:
        return ClaimedGang(
            namespace=space.name,
            name=name,
            pods=2,
            devices=8,
            device_class=driven,
            tolerations=(fleet.TOLERATION,),
        )

    first, second = gang("first"), gang("second")
    now = datetime.now(UTC)
    until(lambda: hold_claims(space.api, first, now).whole)
    later = now + timedelta(minutes=5)
    assert hold_claims(space.api, second, now).nodes == {}
    assert hold_claims(space.api, second, later, patience=timedelta(minutes=1)).nodes == {}
    until(lambda: len(list(space.api.items(f"/api/v1/namespaces/{space.name}/pods"))) == 2, why="it gave nothing back")
    assert len(set(devices_in_use(space))) == len(devices_in_use(space)) == 16
    pods = f"/api/v1/namespaces/{space.name}/pods"
    step = a_pod("step", gpus=0)
    step["spec"]["resourceClaims"] = [{"name": "gpus", "resourceClaimName": first.claims[0]}]
    step["spec"]["containers"][0]["resources"]["claims"] = [{"name": "gpus"}]
    space.api.create(pods, step)
    until(lambda: space.api.get(f"{pods}/step").get("status", {}).get("phase") == "Running")
    assert space.api.get(f"{pods}/step")["spec"]["nodeName"] == held_claims(space.api, first).nodes[first.claims[0]]
    give_back_claims(space.api, first)
    assert not until(lambda: hold_claims(space.api, second, now)).whole, "the step still has its devices"
    space.api.delete(f"{pods}/step", gracePeriodSeconds=0)
    until(lambda: hold_claims(space.api, second, now).whole)
    assert len(set(devices_in_use(space))) == len(devices_in_use(space)) == 16


# ---------------------------------------------------------------- rights


def test_the_least_rights_suffice(space: Space, group: Group, resizable: str, driven: str, tmp_path: Path) -> None:
    """A layout, a resize and a gang of claims; quotas, secrets and the end of nodes stay out of reach."""
    least = with_rights(space, "executor-devices", tmp_path)
    plan = group.plan(1, 1)
    target = LayoutTarget(least, group.layouts)
    assert target.carry_on(plan, Observation(), (), datetime.now(UTC))[0].kind == StepKind.CORDON
    assert target.carry_on(plan, Observation(), (), datetime.now(UTC) + LATER)[0].kind == StepKind.LAYOUT
    used = ContainerUse(namespace=space.name, pod="serve", container="main", cores=1, memory=2**30, hours=48)
    resize_all(least, [used], {WorkloadClass.LATENCY: ResizeRule()})
    assert requests_in(space, resizable)["cpu"] == "1400m"
    gang = ClaimedGang(
        namespace=space.name, name="g", pods=1, devices=1, device_class=driven, tolerations=(fleet.TOLERATION,)
    )
    until(lambda: hold_claims(least, gang, datetime.now(UTC)).whole)
    give_back_claims(least, gang)
    for path in (f"{KUEUE}/clusterqueues", "/api/v1/secrets"):
        with pytest.raises(ForbiddenError):
            least.get(path)
    with pytest.raises(ForbiddenError):
        least.delete(f"/api/v1/nodes/{group.nodes[0]['metadata']['name']}")
