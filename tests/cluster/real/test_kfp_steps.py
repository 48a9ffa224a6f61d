"""Components of Kubeflow Pipelines as real pods on real nodes, on a Kueue queue's ledger, with the printed rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gangplan.kube import RESERVATION, manifests
from gangplan.reserve.kueue.objects import names
from gangplan.testing import a_request
from gangplan.types import PodSet, Reservation, ReservationState
from tests.cluster.conftest import ROOT, Object, Space, until
from tests.cluster.objects import jobs
from tests.cluster.real.kfp_steps import LONG_S, Step, Steps, free_of, missing
from tests.cluster.servers import fleet
from tests.cluster.servers.node.images import SHELL
from tests.cluster.servers.node.node import Node
from tests.kfp.pod_specs import Compiled, pods

COMPILED = ROOT / "kfp_components" / "compiled"
RUN = "run-1"
KEY = f"kfp/{RUN}/gang"
WISH: dict[str, Any] = {
    "tenant": "vision",
    "accelerators": ["h100"],
    "pods": 2,
    "gpus_per_pod": 4,
    "duration": "10m",
    "preemptible": True,
}


@pytest.fixture(scope="module")
def small_nodes(real_nodes: list[Node], api: Any) -> Iterator[list[Node]]:
    """The two nodes with 4 GPUs each, so that a gang of two pods needs both."""

    def count(gpus: int) -> None:
        for one in real_nodes:
            has = {fleet.GPU: str(gpus)}
            api.merge(f"/api/v1/nodes/{one.name}/status", {"status": {"capacity": has, "allocatable": has}})

    count(4)
    yield real_nodes
    count(fleet.REAL.gpus_per_node)


@pytest.fixture
def steps(space: Space, small_nodes: list[Node], tmp_path: Path) -> Steps:
    """Steps in a namespace with a queue of the 8 GPUs."""
    if why := missing():
        pytest.skip(why)
    space.queue({space.flavor(pool=fleet.REAL.name, topology="gangplan"): 8}, preempts=True)
    space.give(manifests(space.name, jobs=True))
    return Steps(space=space, folder=tmp_path)


def component(name: str, **arguments: Any) -> Object:
    """Return the pod of a compiled component."""
    (pod,) = pods(Compiled.read(COMPILED / f"{name}.yaml"), {"run_id": RUN, **arguments}, run=RUN).values()
    return pod


def a_job(says: str, waits: Path | None = None) -> Object:
    """Return a Job of two pods of 4 GPUs that say who they are, and wait for the file `on` where there is a folder."""
    loop = "while [ ! -e /go/on ]; do sleep 0.1; done; " if waits else ""
    container: Object = {
        "name": "train",
        "image": SHELL,
        "command": ["sh", "-c", f"{says}; {loop}echo rank $NODE_RANK of $NNODES is done"],
        "resources": {"limits": {fleet.GPU: "4"}},
    }
    spec: Object = {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 5}
    if waits:
        with_folder(spec, waits)
    body = {"parallelism": 2, "completions": 2, "backoffLimit": 0, "template": {"spec": spec}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": body}


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The folder in which a file `on` lets a waiting Job's pods end, and a file `notice` says that slots are taken."""
    folder = tmp_path / "go"
    folder.mkdir()
    return folder


@pytest.fixture
def held(steps: Steps) -> Reservation:
    """Two pods of 4 GPUs, reserved on both nodes."""
    return submitted(steps)


def submitted(steps: Steps, duration: timedelta = timedelta(minutes=10)) -> Reservation:
    """Reserve two pods of 4 GPUs."""
    asked = a_request(KEY, duration=duration, pod_sets=(PodSet(count=2, gpus_per_pod=4),), preemptible=True)
    granted = steps.space.ledger().submit(asked)
    assert granted.state is ReservationState.GRANTED, granted.reason
    return granted


def runner(steps: Steps, held: Reservation, job: Object, node: Node, name: str = "run-on-gang", go: str = "") -> Step:
    """Start run_on_gang for a Job, as one that holds a reservation."""
    told = {"GANGPLAN_RESERVATION": held.id, "GANGPLAN_TOKEN": str(held.token), "KFP_POD_NAME": name}
    if go:
        told["GANGPLAN_NOTICE"] = "/go/notice"
    pod = component("run_on_gang", job=job)
    if go:
        with_folder(pod["spec"], Path(go))
    return steps.start(pod, name=name, node=node.name, **told)


def with_folder(spec: Object, folder: Path) -> None:
    """Give a pod's container the folder as /go."""
    spec["containers"][0].setdefault("volumeMounts", []).append({"name": "go", "mountPath": "/go"})
    spec.setdefault("volumes", []).append({"name": "go", "hostPath": {"path": str(folder)}})


def pods_of(space: Space, job: str = "train") -> list[Object]:
    """Return a Job's pods that have not ended."""
    path = f"/api/v1/namespaces/{space.name}/pods"
    found = space.api.items(path, labelSelector=f"batch.kubernetes.io/job-name={job}")
    return [one for one in found if one["status"]["phase"] in ("Pending", "Running")]


def running(space: Space) -> list[Object]:
    """Wait until both pods of the Job run, and return them."""

    def both() -> list[Object]:
        found = [one for one in pods_of(space) if one["status"]["phase"] == "Running"]
        return found if len(found) == 2 else []

    return until(both, LONG_S)


def is_gone(space: Space) -> bool:
    """Tell whether neither the Job nor a pod of it is there."""
    return not list(space.api.items(jobs(space.name))) and not pods_of(space)


def test_a_gang_is_reserved_trained_on_by_a_job_and_given_back(steps: Steps, small_nodes: list[Node]) -> None:
    """Two pods of 4 GPUs on two nodes, none of which Kueue counts twice; the step's log is theirs."""
    space, (first, second) = steps.space, small_nodes
    gang = steps.start(component("reserve_gang", **WISH), node=first.name).succeeded()
    told = {"GANGPLAN_RESERVATION": gang["reservation_id"], "GANGPLAN_TOKEN": str(gang["token"])}
    step = steps.start(component("run_on_gang", job=a_job("echo gang $GANGPLAN_PODS")), node=first.name, **told)
    assert step.succeeded()["name"] == "train"
    log = step.log()
    (job,) = space.api.items(jobs(space.name))
    assert job["status"]["succeeded"] == 2
    for rank in "01":
        assert re.search(rf"^\[{rank} train-{rank}-\w+\] gang 2$", log, re.MULTILINE), log
        assert re.search(rf"^\[{rank} train-{rank}-\w+\] rank {rank} of 2 is done$", log, re.MULTILINE), log
    ran = space.api.items(f"/api/v1/namespaces/{space.name}/pods", labelSelector="batch.kubernetes.io/job-name=train")
    assert {one["spec"]["nodeName"] for one in ran} == {first.name, second.name}
    assert len(list(space.api.items(names.workloads(space.name)))) == 1
    assert steps.start(component("release_gang"), node=first.name).succeeded()["Output"] == "released"
    assert free_of(space.ledger(), KEY)


def test_a_step_that_is_told_to_end_ends_its_job(
    steps: Steps, held: Reservation, small_nodes: list[Node], go: Path
) -> None:
    """By SIGTERM, as when a run is terminated; its pods are gone before it ends."""
    step = runner(steps, held, a_job("true", go), small_nodes[0])
    running(steps.space)
    step.terminate()
    until(lambda: not step.pod(), LONG_S)
    assert is_gone(steps.space)


def test_a_step_that_must_leave_its_slots_ends_its_job(
    steps: Steps, held: Reservation, small_nodes: list[Node], go: Path
) -> None:
    """A file says so; the Job's pods are told to end and their last words shown, and the step is to be tried again."""
    says = "trap 'echo saved; exit 0' TERM"
    step = runner(steps, held, a_job(says, go), small_nodes[0], go=str(go))
    running(steps.space)
    (go / "notice").write_text("{}")
    assert step.ended()["exitCode"] == 75
    assert is_gone(steps.space)
    assert step.log().count("] saved") == 2, step.log()


def test_a_step_that_was_killed_finds_its_job_when_it_is_tried_again(
    steps: Steps, held: Reservation, small_nodes: list[Node], go: Path
) -> None:
    """Nothing is begun twice; beside a step that is at work, another with a Job of that name is refused."""
    job = a_job("echo begun", go)
    step = runner(steps, held, job, small_nodes[0])
    before = {one["metadata"]["uid"] for one in running(steps.space)}
    other = runner(steps, held, job, small_nodes[1], "other")
    assert other.ended()["exitCode"] == 2
    assert "'train' is run by step run-on-gang now: give the Job of each step a name of its own" in other.log()
    step.kill()
    assert step.ended()["exitCode"] == 137
    again = runner(steps, held, job, small_nodes[0], "again")
    again.says("runs already, begun by an earlier try of this step")
    (go / "on").touch()
    again.succeeded()
    assert again.log().count("] begun") == 2
    ran = steps.space.api.items(f"/api/v1/namespaces/{steps.space.name}/pods", labelSelector=f"{RESERVATION}={held.id}")
    assert {one["metadata"]["uid"] for one in ran} == before


def test_the_job_of_a_step_that_was_killed_ends_with_the_lease(steps: Steps, small_nodes: list[Node], go: Path) -> None:
    """Nobody is there to stop it: its own time limit is the lease's."""
    held = submitted(steps, timedelta(seconds=12))
    step = runner(steps, held, a_job("true", go), small_nodes[0])
    running(steps.space)
    step.kill()
    until(lambda: not pods_of(steps.space), LONG_S)
    (job,) = steps.space.api.items(jobs(steps.space.name))
    assert "DeadlineExceeded" in {one.get("reason") for one in job["status"]["conditions"]}
    assert free_of(steps.space.ledger(), KEY)


def test_a_job_that_fails_fails_its_step(steps: Steps, held: Reservation, small_nodes: list[Node]) -> None:
    """With the pods' exit codes and where they were; the next try begins anew."""
    step = runner(steps, held, a_job("exit 7"), small_nodes[0])
    assert step.ended()["exitCode"] == 1
    assert re.search(r"error: job train: failed: .*train-\d-\w+ on 127\S+ exited with 7 \(Error\)", step.log())
    again = runner(steps, held, a_job("echo better"), small_nodes[0], "again")
    again.succeeded()
    assert "job train: one of an earlier try is deleted" in again.log()
