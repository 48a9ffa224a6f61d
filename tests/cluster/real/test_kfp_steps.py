"""Components of Kubeflow Pipelines as real pods on real nodes, on a Kueue queue's ledger, with the printed rights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gangplan.kube import manifests
from tests.cluster.conftest import ROOT, Object, Space
from tests.cluster.real.kfp_steps import Steps, missing
from tests.cluster.servers import fleet
from tests.cluster.servers.node.images import SHELL
from tests.cluster.servers.node.node import Node
from tests.kfp.pod_specs import Compiled, pods

COMPILED = ROOT / "kfp_components" / "compiled"
RUN = "run-1"
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


def a_job(name: str, says: str, folder: Path | None = None) -> Object:
    """Return a Job of two pods of 4 GPUs that say who they are, and wait for the file `on` where there is a folder."""
    waits = "while [ ! -e /go/on ]; do sleep 0.1; done; " if folder else ""
    container: Object = {
        "name": "train",
        "image": SHELL,
        "command": ["sh", "-c", f"{says}; {waits}echo rank $NODE_RANK of $NNODES is done"],
        "resources": {"limits": {fleet.GPU: "4"}},
    }
    spec: Object = {"restartPolicy": "Never", "containers": [container], "hostNetwork": True}
    if folder:
        container["volumeMounts"] = [{"name": "go", "mountPath": "/go"}]
        spec["volumes"] = [{"name": "go", "hostPath": {"path": str(folder)}}]
    body = {"parallelism": 2, "completions": 2, "backoffLimit": 0, "template": {"spec": spec}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body}


def test_a_gang_is_reserved_trained_on_by_a_job_and_given_back(steps: Steps, small_nodes: list[Node]) -> None:
    """Two pods of 4 GPUs on two nodes, none of which Kueue counts twice; the step's log is theirs."""
    first, _ = small_nodes
    gang = steps.start(component("reserve_gang", **WISH), node=first.name).succeeded()
    held = {"GANGPLAN_RESERVATION": gang["reservation_id"], "GANGPLAN_TOKEN": str(gang["token"])}
    job = a_job("train", "echo reservation $GANGPLAN_RESERVATION")
    step = steps.start(component("run_on_gang", job=job), node=first.name, **held)
    assert step.succeeded()["name"] == "train", step.log()
    log = step.log()
    print(log)
