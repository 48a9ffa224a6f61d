"""Steps of a compiled pipeline as real pods on real nodes, on the ledger of a Kueue queue, with the printed rights."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gangplan.kube import RESERVATION, Api, manifests
from gangplan.reserve.kueue.objects import names
from gangplan.testing import a_request
from gangplan.types import PodSet, Reservation, ReservationState
from tests.cluster.conftest import ROOT, Object, Space, until
from tests.cluster.objects import jobs
from tests.cluster.real.kfp_steps import KFP, LONG_S, Gang, Step, Steps, free_of, missing
from tests.cluster.servers import fleet
from tests.cluster.servers.node.images import SHELL
from tests.cluster.servers.node.node import Node
from tests.kfp.pod_specs import Compiled

KEY = "kfp/run-1/gang"
FOREVER = "while true; do sleep 0.1; done"
PIPELINE = """
import sys
from kfp import dsl
from kfp.compiler import Compiler
from gangplan_kfp import reserved_gang, run_on_gang

@dsl.container_component
def work(script: str):
    return dsl.ContainerSpec(image="localhost/shell:1", command=["sh", "-c"], args=[script])

@dsl.pipeline(name="real")
def real(job: dict = {}, script: str = "true"):
    wish = {"tenant": "vision", "accelerators": ["h100"], "pods": 2, "gpus_per_pod": 4, "duration": "10m"}
    with reserved_gang(**wish, preemptible=True):
        run_on_gang(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, job=job)
        work(script=script)

Compiler().compile(real, sys.argv[1])
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A pipeline that reserves, runs a Job on the slots, works on them itself, and releases."""
    if why := missing():
        pytest.skip(why)
    file = tmp_path_factory.mktemp("compiled") / "real.yaml"
    code = f"{ROOT / 'optimizer'}:{ROOT / 'kfp_components'}"
    command = [str(KFP / "bin" / "python3"), "-c", PIPELINE, str(file)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": code})
    return Compiled.read(file)


@pytest.fixture(scope="module")
def small_nodes(real_nodes: list[Node], api: Api) -> Iterator[list[Node]]:
    """The two nodes with 4 GPUs each, so that a gang of two pods needs both."""

    def count(gpus: int) -> None:
        for one in real_nodes:
            has = {fleet.GPU: str(gpus)}
            api.merge(f"/api/v1/nodes/{one.name}/status", {"status": {"capacity": has, "allocatable": has}})

    count(4)
    yield real_nodes
    count(fleet.REAL.gpus_per_node)


@pytest.fixture
def steps(space: Space, small_nodes: list[Node], compiled: Compiled, tmp_path: Path) -> Steps:
    """Steps of the pipeline in a namespace with a queue of the 8 GPUs."""
    space.queue({space.flavor(pool=fleet.REAL.name, topology="gangplan"): 8}, preempts=True)
    space.give(manifests(space.name, jobs=True))
    return Steps(space=space, folder=tmp_path, compiled=compiled)


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The folder in which a file `on` lets a waiting Job's pods end."""
    folder = tmp_path / "go"
    folder.mkdir()
    return folder


def a_job(says: str, waits: Path | None = None) -> Object:
    """Return a Job of two pods of 4 GPUs that say who they are, and wait for the file `on` where there is a folder."""
    loop = "while [ ! -e /go/on ]; do sleep 0.1; done; " if waits else ""
    container: Object = {
        "name": "train",
        "image": SHELL,
        "command": ["sh", "-c", f"trap 'exit 9' TERM; {says}; {loop}echo rank $NODE_RANK of $NNODES is done"],
        "resources": {"limits": {fleet.GPU: "4"}},
    }
    spec: Object = {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 5}
    if waits:
        container["volumeMounts"] = [{"name": "go", "mountPath": "/go"}]
        spec["volumes"] = [{"name": "go", "hostPath": {"path": str(waits)}}]
    body = {"parallelism": 2, "completions": 2, "backoffLimit": 0, "template": {"spec": spec}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": body}


def runner(steps: Steps, gang: Gang, job: Object, node: Node, name: str = "run-on-gang") -> Step:
    """Start run_on_gang for a Job."""
    return steps.start("run-on-gang", {"job": job}, gang=gang.outputs, name=name, node=node.name)


def pods_of(space: Space) -> list[Object]:
    """Return the Job's pods that have not ended."""
    path = f"/api/v1/namespaces/{space.name}/pods"
    found = space.api.items(path, labelSelector="batch.kubernetes.io/job-name=train")
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


def asked(steps: Steps, key: str, *sets: PodSet, priority: int = 100) -> Reservation:
    """Let another gang ask for slots."""
    wanted = sets or (PodSet(count=2, gpus_per_pod=4),)
    return steps.space.ledger().submit(a_request(key, pod_sets=wanted, priority=priority, preemptible=True))


def gets_them(steps: Steps, other: Reservation) -> bool:
    """Wait until another gang has the slots."""
    then = steps.space.ledger().wait(other.id, timeout=timedelta(seconds=LONG_S))
    return then.state is ReservationState.GRANTED


def test_a_gang_is_reserved_trained_on_by_a_job_and_given_back(steps: Steps, small_nodes: list[Node]) -> None:
    """Two pods of 4 GPUs on two nodes, none of which Kueue counts twice; the step's log is theirs."""
    space, (first, second) = steps.space, small_nodes
    gang = steps.start("reserve-gang", node=first.name).succeeded()
    job = a_job("echo gang $GANGPLAN_PODS")
    step = steps.start("run-on-gang", {"job": job}, gang=gang, node=second.name)
    assert step.succeeded()["name"] == "train"
    log = step.log()
    for rank in "01":
        assert re.search(rf"^\[{rank} train-{rank}-\w+\] gang 2$", log, re.MULTILINE), log
        assert re.search(rf"^\[{rank} train-{rank}-\w+\] rank {rank} of 2 is done$", log, re.MULTILINE), log
    ran = space.api.items(f"/api/v1/namespaces/{space.name}/pods", labelSelector="batch.kubernetes.io/job-name=train")
    assert {one["spec"]["nodeName"] for one in ran} == {first.name, second.name}
    assert len(list(space.api.items(names.workloads(space.name)))) == 1
    assert steps.start("release-gang", node=first.name).succeeded()["Output"] == "released"
    assert free_of(space.ledger(), KEY)


def test_a_step_works_on_its_slots_and_its_gpus_are_counted_once(steps: Steps) -> None:
    """The scheduler sends it to them; all other GPUs are another gang's, also those beside it; SIGTERM goes to it."""
    gang = Gang.reserved(steps, pods=1, gpus_per_pod=2)
    script = f"env; trap 'echo saved; exit 3' TERM; echo works; {FOREVER}"
    step = steps.start("work", {"script": script}, gang=gang.outputs)
    assert step.runs()["spec"]["nodeName"] in gang.nodes
    assert f"GANGPLAN_RESERVATION={gang.id}" in step.says("works")
    beside = asked(steps, "beside", PodSet(count=1, gpus_per_pod=2), PodSet(count=1, gpus_per_pod=4))
    assert gets_them(steps, beside)
    step.signal()
    assert step.ended()["exitCode"] == 3
    assert "saved" in step.log()


def test_the_slots_of_a_step_that_ran_out_of_memory_are_the_next_one_s(steps: Steps) -> None:
    """Nobody releases them: the lease ends after the handover."""
    gang = Gang.reserved(steps, handover_s=6)
    step = steps.start("work", {"script": "tail /dev/zero"}, gang=gang.outputs, memory="256Mi")
    waits = asked(steps, "next")
    assert step.ended()["reason"] == "OOMKilled", step.log()
    assert gets_them(steps, waits)


def test_a_step_whose_slots_are_taken_ends_with_75(steps: Steps) -> None:
    """Kueue preempts without notice: the command is told to end, and the entitled gang has the slots."""
    gang = Gang.reserved(steps, handover_s=6)
    step = steps.start("work", {"script": f"trap 'echo told; exit 0' TERM; echo works; {FOREVER}"}, gang=gang.outputs)
    step.says("works")
    urgent = asked(steps, "urgent", priority=900)
    assert step.ended()["exitCode"] == 75, step.log()
    assert "told" in step.log()
    assert gets_them(steps, urgent)


def test_a_job_ends_when_its_slots_are_taken(steps: Steps, small_nodes: list[Node], go: Path) -> None:
    """Its pods are told to end, their last words are shown, and its step ends with 75."""
    gang = Gang.reserved(steps, handover_s=20)
    step = runner(steps, gang, a_job("trap 'echo saved; exit 0' TERM", go), small_nodes[0])
    running(steps.space)
    urgent = asked(steps, "urgent", priority=900)
    assert step.ended()["exitCode"] == 75, step.log()
    assert step.log().count("] saved") == 2, step.log()
    assert is_gone(steps.space)
    assert gets_them(steps, urgent)


def test_a_step_that_was_killed_finds_its_job_when_it_is_tried_again(
    steps: Steps, small_nodes: list[Node], go: Path
) -> None:
    """Nothing is begun twice, nor by two steps; a step that is told to end, as by Terminate, ends its Job first."""
    gang, job = Gang.reserved(steps), a_job("echo begun", go)
    step = runner(steps, gang, job, small_nodes[0])
    before = {one["metadata"]["uid"] for one in running(steps.space)}
    other = runner(steps, gang, job, small_nodes[1], "other")
    assert other.ended()["exitCode"] == 2, other.log()
    assert "'train' is run by step run-on-gang now: give the Job of each step a name of its own" in other.log()
    step.kill()
    assert step.ended()["exitCode"] == 137
    again = runner(steps, gang, job, small_nodes[0], "again")
    again.says("runs already, begun by an earlier try of this step")
    ran = steps.space.api.items(f"/api/v1/namespaces/{steps.space.name}/pods", labelSelector=f"{RESERVATION}={gang.id}")
    assert {one["metadata"]["uid"] for one in ran} == before
    again.signal()
    assert again.ended()["exitCode"] == 143, again.log()
    assert again.log().count("] begun") == 2
    assert is_gone(steps.space)


def test_the_job_of_a_step_that_was_killed_ends_with_the_lease(steps: Steps, small_nodes: list[Node], go: Path) -> None:
    """Nobody is there to stop it: its own time limit is the lease's."""
    gang = Gang.reserved(steps, handover_s=8)
    step = runner(steps, gang, a_job("true", go), small_nodes[0])
    running(steps.space)
    step.kill()
    until(lambda: not pods_of(steps.space), LONG_S)
    (job,) = steps.space.api.items(jobs(steps.space.name))
    assert "DeadlineExceeded" in {one.get("reason") for one in job["status"]["conditions"]}
    until(lambda: free_of(steps.space.ledger(), KEY))


def test_a_job_that_fails_fails_its_step(steps: Steps, small_nodes: list[Node]) -> None:
    """With the pods' exit codes and where they were."""
    step = runner(steps, Gang.reserved(steps), a_job("exit 7"), small_nodes[0])
    assert step.ended()["exitCode"] == 1
    assert re.search(r"error: job train: failed: .*train-\d-\w+ on 127\S+ exited with 7 \(Error\)", step.log())
