"""Jobs that are to run on a gang's slots: what is refused before anything is made, and where their pods go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.testing import a_request
from gangplan.types import PodSet, Reservation
from gangplan_kfp.support.manifests import OWN_DEADLINE, limited, placed, read_job

GPU = "nvidia.com/gpu"
LABEL = "kubernetes.io/hostname"
Object = dict[str, Any]


def template(gpus: int = 4, **spec: Any) -> Object:
    """Return a pod template of one container; without GPUs it asks for none."""
    limits = {"limits": {GPU: gpus}} if gpus else {}
    return {"spec": {"containers": [{"name": "train", "image": "train:1", "resources": limits}], **spec}}


def a_job(pods: int = 2, gpus: int = 4, **spec: Any) -> Object:
    """Return a Job of so many pods."""
    body = {"parallelism": pods, "completions": pods, "template": template(gpus), **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train"}, "spec": body}


def a_jobset(*jobs: tuple[str, int, int]) -> Object:
    """Return a JobSet of Jobs by name, pods and GPUs of each pod."""
    parts = [{"name": name, "template": {"spec": a_job(pods, gpus)["spec"]}} for name, pods, gpus in jobs]
    version = "jobset.x-k8s.io/v1alpha2"
    return {"apiVersion": version, "kind": "JobSet", "metadata": {"name": "set"}, "spec": {"replicatedJobs": parts}}


def a_train_job(**trainer: Any) -> Object:
    """Return a TrainJob."""
    spec = {"runtimeRef": {"name": "torch-distributed"}, "trainer": trainer}
    version = "trainer.kubeflow.org/v1alpha1"
    return {"apiVersion": version, "kind": "TrainJob", "metadata": {"name": "torch"}, "spec": spec}


@pytest.fixture
def gang(ledger: Callable[[], Ledger]) -> Reservation:
    """Two pods of 4 GPUs on the lab's two nodes."""
    with ledger() as book:
        asked = a_request("kfp/run-1/gang", accelerators=("h100-lab",), pod_sets=(PodSet(count=2, gpus_per_pod=4),))
        return book.submit(asked)


@pytest.fixture
def put(gang: Reservation, ledger: Callable[[], Ledger]) -> Callable[[Object], Object]:
    """Puts a manifest onto the gang."""

    def put_on_gang(job: Object) -> Object:
        with ledger() as book:
            return placed(read_job(job, ""), book, gang, LABEL)

    return put_on_gang


@pytest.mark.parametrize(
    ("job", "text", "says"),
    [
        ({}, "", "job: '' is missing"),
        (a_job(), "kind: Job", "job: 'both job and job_yaml' are given: give one of them"),
        ({"kind": "PyTorchJob"}, "", "job.kind: 'PyTorchJob' cannot run on a gang: use Job, JobSet, TrainJob"),
        ({"kind": "Job", "apiVersion": "v1"}, "", "job.apiVersion: 'v1' is another version: use batch/v1"),
        ({"kind": "Job", "apiVersion": "batch/v1"}, "", "job.metadata: '' is missing"),
        ({**a_job(), "metadata": {}}, "", "job.metadata.name: '' is missing"),
        ({**a_job(), "spec": {}}, "", "job.spec.template: '' is missing"),
        (a_job(template={"spec": {}}), "", "job.spec.template.spec.containers: '' is missing"),
        (a_jobset(), "", "job.spec.replicatedJobs: '' is missing"),
        ({}, "- a", "job_yaml: '- a' is no manifest: give one Job, JobSet or TrainJob"),
        ({}, "kind: [", "job_yaml: 'kind: [' is no YAML of one object"),
        ({}, "kind: Pod", "job_yaml.kind: 'Pod' cannot run on a gang"),
    ],
)
def test_what_is_no_job_is_refused_by_its_field(job: Object, text: str, says: str) -> None:
    """With the value and what to give."""
    with pytest.raises(InputError) as refused:
        read_job(job, text)
    assert says in str(refused.value)


def test_whole_numbers_that_kfp_makes_floats_are_whole_again() -> None:
    """Kubernetes takes no 2.0; what is no whole number stays."""
    read = read_job({**a_job(), "spec": {**a_job()["spec"], "parallelism": 2.0, "share": 0.5}}, "")
    assert (read["spec"]["parallelism"], type(read["spec"]["parallelism"]), read["spec"]["share"]) == (2, int, 0.5)


def test_a_job_s_pods_go_to_the_nodes_of_the_slots(put: Callable[[Object], Object], gang: Reservation) -> None:
    """One on each; they know their slots, have ranks, and ask no queue; what the author wrote stays."""
    job = a_job(suspend=True)
    job["metadata"]["labels"] = {"team": "a", "kueue.x-k8s.io/queue-name": "queue"}
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "NNODES", "value": "own"}]
    made = put(job)
    pod = made["spec"]["template"]["spec"]
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    nodes = sorted({place.node for place in gang.placements})
    assert len(nodes) == 2
    assert term == {"matchExpressions": [{"key": LABEL, "operator": "In", "values": nodes}]}
    assert [one["topologyKey"] for one in pod["topologySpreadConstraints"]] == [LABEL]
    assert made["metadata"]["labels"] == {"team": "a", "gangplan.io/reservation": gang.id}
    assert "suspend" not in made["spec"]
    environment = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
    assert environment["GANGPLAN_RESERVATION"] == gang.id
    assert environment["NNODES"] == "own"
    assert "NODE_RANK" in environment
    assert made["spec"]["completionMode"] == "Indexed"


def test_pods_that_ask_for_no_accelerators_get_their_slots(put: Callable[[Object], Object]) -> None:
    """In their first container."""
    pod = put(a_job(gpus=0))["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {"limits": {GPU: "4"}}


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (a_job(pods=3), r"job\.spec: '3 pods of 4 nvidia.com/gpu' do not fit into the gang's 2 x 4: reserve as many"),
        (a_job(gpus=8), r"'2 pods of 8 nvidia.com/gpu' do not fit into the gang's 2 x 4"),
        (a_job(pods=3, gpus=0), r"'3 pods of a slot' do not fit"),
        (a_jobset(("a", 1, 4), ("b", 2, 4)), r"job\.spec\.replicatedJobs\[1\]\.template\.spec: '2 pods of 4"),
        (a_jobset(("a", 1, 0), ("b", 1, 0)), r"job: 'JobSet' asks for no accelerators"),
        (a_train_job(numNodes=3), r"job\.spec\.trainer: '3 pods of a slot' do not fit"),
    ],
)
def test_more_than_the_gang_has_is_refused(put: Callable[[Object], Object], job: Object, says: str) -> None:
    """Before anything is made: what is asked for, and what there is."""
    with pytest.raises(InputError, match=says):
        put(job)


def test_of_a_jobset_the_jobs_with_accelerators_go_to_the_slots(put: Callable[[Object], Object]) -> None:
    """The driver stays where it may go; the workers meet at the first one's name in the JobSet's own domain."""
    driver, workers = put(a_jobset(("driver", 1, 0), ("workers", 2, 4)))["spec"]["replicatedJobs"]
    assert "affinity" not in driver["template"]["spec"]["template"]["spec"]
    pod = workers["template"]["spec"]["template"]["spec"]
    assert {"name": "MASTER_ADDR", "value": "set-workers-0-0.set"} in pod["containers"][0]["env"]
    assert "affinity" in pod


def test_a_train_job_gets_an_override_for_its_nodes(put: Callable[[Object], Object], gang: Reservation) -> None:
    """As many as the gang has pods; an author's own overrides come before."""
    job = a_train_job(env=[{"name": "EPOCHS", "value": "3"}])
    job["spec"]["podTemplateOverrides"] = [{"targetJobs": [{"name": "node"}], "spec": {"serviceAccountName": "own"}}]
    spec = put(job)["spec"]
    own, ours = spec["podTemplateOverrides"]
    assert own["spec"] == {"serviceAccountName": "own"}
    assert ours["metadata"]["labels"]["gangplan.io/reservation"] == gang.id
    assert set(ours["spec"]) == {"nodeSelector", "tolerations", "affinity"}
    assert (spec["trainer"]["numNodes"], spec["trainer"]["resourcesPerNode"]["limits"]) == (2, {GPU: "4"})
    assert spec["trainer"]["env"][-1] == {"name": "EPOCHS", "value": "3"}


def test_a_job_s_time_limit_is_the_lease_s(put: Callable[[Object], Object]) -> None:
    """A shorter one of its own stays, and is remembered, since the lease's is moved on; a JobSet's is in its Jobs."""
    plain, own = limited(put(a_job()), 50), limited(put(a_job(activeDeadlineSeconds=20)), 50)
    assert plain["spec"]["activeDeadlineSeconds"] == 50
    assert own["spec"]["activeDeadlineSeconds"] == 20
    assert own["metadata"]["annotations"][OWN_DEADLINE] == "20"
    (job,) = limited(put(a_jobset(("workers", 2, 4))), 50)["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["activeDeadlineSeconds"] == 50


def test_nodes_that_the_cluster_does_not_know_are_not_asked_for(
    gang: Reservation, ledger: Callable[[], Ledger]
) -> None:
    """Those of a ledger in a file are its own; accelerators are asked for all the same."""
    with ledger() as book:
        pod = placed(a_job(), book, gang)["spec"]["template"]["spec"]
    assert "affinity" not in pod
    assert "topologySpreadConstraints" not in pod
    assert pod["tolerations"][0]["key"] == GPU
