"""What `run_on_gang` runs on a gang's slots, with exactly the rights that are printed for it; the pods are played."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from gangplan.kube import RESERVATION, manifests
from gangplan.testing import a_request
from gangplan.types import PodSet, Reservation, ReservationState
from tests.cluster.conftest import Object, Space, until
from tests.cluster.environments import Program, program
from tests.cluster.objects import a_job, a_jobset, pod_spec
from tests.cluster.servers import build

STEP = """
import json, sys
from gangplan_kfp.support import one_line_errors, run_job
with one_line_errors():
    print(run_job(json.loads(sys.argv[1]), "", node_label="", ledger="", home="").page())
"""
LONG_S = 90.0
JOBSETS = "/apis/jobset.x-k8s.io/v1alpha2/namespaces/{}/jobsets"
TRAIN_JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{}/trainjobs"


@pytest.fixture
def held(space: Space) -> Reservation:
    """Two pods of 8 GPUs in a queue where Kueue chooses the nodes."""
    space.queue({space.flavor(topology="gangplan"): 16})
    asked = a_request("kfp/run-1/gang", pod_sets=(PodSet(count=2, gpus_per_pod=8),))
    granted = space.ledger().submit(asked)
    assert granted.state is ReservationState.GRANTED, granted.reason
    return granted


@contextmanager
def step(
    space: Space, held: Reservation, job: Object, home: Path, *, rights: bool = True, **environment: str
) -> Iterator[Program]:
    """Run a step that holds a reservation beside the block, with the printed rights."""
    space.give(manifests(space.name, jobs=rights))
    account = space.log_in("gangplan", home / "kubeconfig")
    told = {"GANGPLAN_RESERVATION": held.id, "GANGPLAN_TOKEN": str(held.token), "KUBECONFIG": str(account)}
    told |= environment
    with program("kfp", STEP, json.dumps(job), space=space, home=home, **told) as begun:
        yield begun


def nodes_of(space: Space, held: Reservation) -> list[str]:
    """Return the nodes of the pods that carry a reservation's label."""
    found = space.api.items(f"/api/v1/namespaces/{space.name}/pods", labelSelector=f"{RESERVATION}={held.id}")
    return sorted(one["spec"]["nodeName"] for one in found if one["spec"].get("nodeName"))


def slots_of(held: Reservation) -> list[str]:
    """Return the nodes of a reservation's slots."""
    return sorted(place.node for place in held.placements)


def test_a_jobset_runs_on_the_slots(space: Space, held: Reservation, tmp_path: Path) -> None:
    """Its workers on the slots' nodes, its driver where it may; its Jobs' time limits follow the lease."""
    with step(space, held, a_jobset(space.name, "set", workers=2, gpus=8), tmp_path) as begun:
        written = begun.end()
    assert nodes_of(space, held) == slots_of(held)
    assert "# JobSet set: completed" in written
    assert "| workers 0 | set-workers-0-0-" in written


def test_a_train_job_runs_on_the_slots(space: Space, held: Reservation, tmp_path: Path) -> None:
    """Its override keeps its pods there; the Trainer is played, whose own kind the API server knows."""
    space.api.apply(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trainjobs.trainer.kubeflow.org",
        yaml.safe_load(build.manifest("control-plane", "trainjobs")),
    )
    job: Object = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": "torch"},
        "spec": {"runtimeRef": {"name": "torch-distributed"}, "trainer": {"image": "train:1"}},
    }
    with step(space, held, job, tmp_path) as begun:
        play_the_trainer(space, begun)
        written = begun.end()
    assert nodes_of(space, held) == slots_of(held)
    assert "# TrainJob torch: completed" in written


def play_the_trainer(space: Space, begun: Program) -> None:
    """Make a TrainJob's JobSet as the Trainer does, with its override, and say that it is complete when that is."""

    def made() -> list[Object]:
        begun.look()
        return list(space.api.items(TRAIN_JOBS.format(space.name)))

    def completed() -> bool:
        begun.look()
        found = space.api.get(f"{JOBSETS.format(space.name)}/torch").get("status", {}).get("conditions", [])
        return any(one["type"] == "Completed" and one["status"] == "True" for one in found)

    (job,) = until(made, LONG_S)
    (override,), trainer = job["spec"]["podTemplateOverrides"], job["spec"]["trainer"]
    assert [one["name"] for one in override["targetJobs"]] == ["node"]
    body = a_job(space.name, "", pods=trainer["numNodes"], gpus=8, runs_for="2s")["spec"]
    spec = pod_spec(8) | override["spec"]
    spec["containers"][0] |= {"env": trainer["env"], "resources": trainer["resourcesPerNode"]}
    body["template"]["metadata"]["annotations"] |= override["metadata"]["annotations"]
    body["template"] |= {
        "metadata": body["template"]["metadata"] | {"labels": override["metadata"]["labels"]},
        "spec": spec,
    }
    jobset = a_jobset(space.name, "torch", workers=2, gpus=8)
    jobset["spec"]["replicatedJobs"] = [{"name": "node", "replicas": 1, "template": {"spec": body}}]
    space.api.create(JOBSETS.format(space.name), jobset)
    until(completed, LONG_S)
    done = {"type": "Complete", "status": "True", "reason": "JobsCompleted", "message": "all is done"}
    when = {"lastTransitionTime": job["metadata"]["creationTimestamp"]}
    path = f"{TRAIN_JOBS.format(space.name)}/torch/status"
    space.api.merge(path, {"status": {"conditions": [done | when]}})


def test_a_job_leaves_its_slots_on_a_notice(space: Space, held: Reservation, tmp_path: Path) -> None:
    """It is deleted with its pods, and the step ends with 75, to be tried again."""
    notice = tmp_path / "notice.json"
    job = a_job(space.name, "train", pods=2, gpus=8, how="hangs")
    with step(space, held, job, tmp_path, GANGPLAN_NOTICE=str(notice)) as begun:
        until(lambda: begun.says("runs on"), LONG_S)
        notice.write_text("{}")
        assert begun.process.wait(LONG_S) == 75, begun.written
        assert "its slots are to be left" in begun.written
    assert list(space.api.items(f"/apis/batch/v1/namespaces/{space.name}/jobs")) == []
    assert nodes_of(space, held) == []


def test_without_the_rights_nothing_is_begun(space: Space, held: Reservation, tmp_path: Path) -> None:
    """The first one that is missing is named, with the command that gives it."""
    with step(space, held, a_job(space.name, "train", pods=2, gpus=8), tmp_path, rights=False) as begun:
        assert begun.process.wait(LONG_S) == 3
        assert "may not list jobs in namespace" in begun.written, begun.written
        assert f"gangplan kube manifests --jobs --namespace {space.name} | kubectl apply -f -" in begun.written
    assert list(space.api.items(f"/apis/batch/v1/namespaces/{space.name}/jobs")) == []
