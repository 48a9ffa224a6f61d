"""Jobs on reserved slots, run to their end on played nodes that the real scheduler chose."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from gangplan.client import attempts
from gangplan.client.lease import hold
from gangplan.errors import InputError, StaleTokenError
from gangplan.reserve.kueue.jobs import adopt
from gangplan.reserve.kueue.jobs.job_beside import run_beside
from gangplan.reserve.kueue.ledger import KueueLedger
from gangplan.reserve.kueue.objects import names
from gangplan.testing import a_request
from gangplan.types import Level, PodSet, Reservation, ReservationState, Token, Topology
from tests.cluster.conftest import Object, Space, until
from tests.cluster.objects import a_job, a_jobset, a_pod, condition, jobs

GRANTED = ReservationState.GRANTED


def pods_of(space: Space, job: str) -> list[Object]:
    """Return the pods of a Job."""
    path = f"/api/v1/namespaces/{space.name}/pods"
    return list(space.api.items(path, labelSelector=f"batch.kubernetes.io/job-name={job}"))


def nodes_of(space: Space, job: str) -> list[str]:
    """Return the nodes that a Job's pods are bound to."""
    return [node for one in pods_of(space, job) if (node := one["spec"].get("nodeName"))]


def test_a_job_runs_where_its_reservation_said(space: Space) -> None:
    """On the nodes in the placements, one pod of 8 GPUs on each; history outlives the Job, its Workload does not."""
    space.queue({space.flavor(topology="gangplan"): 64})
    ledger = space.ledger()
    job = a_job(space.name, "step", pods=3, gpus=8, runs_for="2s")
    wish = Topology(level=Level.RACK)
    held = adopt.reserve_for(ledger, a_request("step", topology=wish), job)
    assert held.state is GRANTED, held
    assert held.request.pod_sets == (PodSet(count=3, gpus_per_pod=8),)
    adopt.start(ledger, held.id, job)
    until(lambda: len(nodes_of(space, "step")) == 3)
    bound = nodes_of(space, "step")
    assert sorted(bound) == sorted(place.node for place in held.placements)
    until(lambda: condition(space.api.get(f"{jobs(space.name)}/step"), "Complete") == "True")
    until(lambda: ledger.get(held.id).state is ReservationState.RELEASED)
    ended = ledger.get(held.id)
    space.api.delete(f"{jobs(space.name)}/step", propagationPolicy="Background")
    until(lambda: held.id not in {one["metadata"]["name"] for one in space.api.items(names.workloads(space.name))})
    assert (ledger.get(held.id).state, ledger.get(held.id).ended_at) == (ended.state, ended.ended_at)
    assert [one.id for one in ledger.history()] == [held.id]


def test_a_hanging_job_is_ended_at_its_walltime(space: Space, queue: str) -> None:
    """Kueue stops it after the time limit that stands in both; its slots are the next one's."""
    ledger = space.ledger()
    job = a_job(space.name, "hangs", pods=1, gpus=8, how="hangs")
    held = adopt.reserve_for(ledger, a_request("hangs", duration=timedelta(seconds=4)), job)
    adopt.start(ledger, held.id, job)
    until(lambda: pods_of(space, "hangs"))
    waiting = ledger.submit(a_request("next"))
    assert ledger.wait(waiting.id, timeout=timedelta(seconds=20)).state is GRANTED
    assert ledger.get(held.id).state is ReservationState.EXPIRED
    # Kueue frees the quota by what it last read of the Job; the stop of one that it has only just started comes after.
    until(lambda: space.api.get(f"{jobs(space.name)}/hangs")["spec"]["suspend"] is True)


def test_a_failing_job_gives_its_slots_back(space: Space, queue: str) -> None:
    """Its Workload is finished as failed; whoever waited is granted."""
    ledger = space.ledger()
    job = a_job(space.name, "fails", pods=1, gpus=8, how="fails", runs_for="1s")
    held = adopt.reserve_for(ledger, a_request("fails"), job)
    waiting = ledger.submit(a_request("next"))
    adopt.start(ledger, held.id, job)
    assert ledger.wait(waiting.id, timeout=timedelta(seconds=20)).state is GRANTED
    assert ledger.get(held.id).state is ReservationState.RELEASED
    assert space.condition(held.id, "Finished") == "True Failed"


def test_what_is_handed_out_names_the_flavor_and_the_workload(space: Space, queue: str) -> None:
    """Labels for the Job, selector and tolerations for pods beside it, the exact templates by pod set."""
    ledger = space.ledger()
    held = ledger.submit(a_request("a"))
    handout = adopt.hand_out(ledger, held.id)
    assert handout.labels == {names.QUEUE_NAME: "queue", names.PREBUILT: held.id, names.MAX_EXEC: "3600"}
    assert handout.node_selector == {"gangplan.io/pool": "h100-owned", "nvidia.com/gpu.product": "NVIDIA-H100"}
    assert [one["key"] for one in handout.tolerations] == ["nvidia.com/gpu"]
    assert set(handout.pod_sets) == {"pods-0"}


def test_a_pipelines_step_is_safe_to_retry_and_gives_everything_back(ledger: KueueLedger, space: Space) -> None:
    """What the Airflow operator and the KFP component do: the same reservation on a retry, a new one on a new run."""
    until_then = space.clock() + timedelta(minutes=10)
    first = attempts.submit(ledger, a_request("step"), until_then)
    assert attempts.submit(ledger, a_request("step"), until_then).id == first.id
    with hold(ledger, first.id, first.token or Token(0), clock=space.clock) as held:
        held.check()
    assert [one.state for one in attempts.give_back(ledger, "step")] == [ReservationState.RELEASED]
    assert attempts.give_back(ledger, "step") == []
    again = attempts.submit(ledger, a_request("step"), until_then)
    assert again.request.request_key == "step#2"
    assert again.state is GRANTED


def test_a_holder_whose_slots_were_taken_is_told(space: Space) -> None:
    """The block that holds the lease hears at its next renewal that another gang has the slots."""
    space.queue({space.flavor(): 8}, preempts=True)
    ledger = space.ledger()
    low = ledger.submit(a_request("low", priority=1, preemptible=True))
    with pytest.raises(StaleTokenError, match="the lease was lost"):
        take_its_slots(ledger, low, space)


def take_its_slots(ledger: KueueLedger, low: Reservation, space: Space) -> None:
    """Hold a lease while another gang preempts it."""
    with hold(ledger, low.id, low.token or Token(0), ttl=timedelta(seconds=2), clock=space.clock) as held:
        high = ledger.submit(a_request("high", priority=9, preemptible=True))
        assert ledger.wait(high.id, timeout=timedelta(seconds=10)).state is GRANTED
        until(held.lost.is_set)


def test_a_job_beside_a_reservation_ends_when_its_slots_were_taken(space: Space) -> None:
    """The step hears that another gang has them, and its Job goes with its pods; Kueue counted these once."""
    space.queue({space.flavor(topology="gangplan"): 8}, preempts=True)
    ledger = space.ledger()
    low = ledger.submit(a_request("low", priority=1, preemptible=True))
    job = a_job(space.name, "step", pods=1, gpus=8, how="hangs")
    with pytest.raises(StaleTokenError, match="the lease was lost"):
        lose_its_slots(ledger, low, job, space)
    until(lambda: not list(space.api.items(jobs(space.name))) and not pods_of(space, "step"))


def lose_its_slots(ledger: KueueLedger, low: Reservation, job: Object, space: Space) -> None:
    """Run a Job beside a reservation until another gang preempts that."""
    with (
        ThreadPoolExecutor(1) as pool,
        hold(ledger, low.id, low.token or Token(0), ttl=timedelta(seconds=2), clock=space.clock) as held,
    ):
        running = pool.submit(run_beside, ledger, low.id, job, check=held.check, clock=space.clock)
        until(lambda: nodes_of(space, "step"))
        (pod,) = pods_of(space, "step")
        assert "kueue.x-k8s.io/podset-unconstrained-topology" in pod["metadata"]["annotations"]
        ledger.submit(a_request("high", priority=9, preemptible=True))
        running.result(timeout=30)


def test_a_group_of_plain_pods_adopts_its_reservation_and_completes(space: Space, queue: str) -> None:
    """Two kinds of pods, reserved as Kueue will see them; one that is gated for want of the rest starts with them."""
    ledger = space.ledger()
    pods = [a_pod(name, gpus=gpus, how="completes") for name, gpus in (("driver", 2), ("one", 3), ("two", 3))]
    group = {"kind": "List", "items": pods}
    held = adopt.reserve_for(ledger, a_request("group"), group)
    assert held.state is ReservationState.GRANTED, held
    assert sorted(one.gpus_per_pod * one.count for one in held.request.pod_sets) == [2, 6]
    adopt.start(ledger, held.id, group)
    path = f"/api/v1/namespaces/{space.name}/pods"
    until(lambda: [one["status"]["phase"] for one in space.api.items(path)] == ["Succeeded"] * 3, 40)
    until(lambda: space.condition(held.id, "Finished") == "True Succeeded")
    assert ledger.get(held.id).state is ReservationState.RELEASED


def test_a_group_that_hangs_gives_its_slots_back_when_it_is_released(space: Space, queue: str) -> None:
    """Kueue deletes its pods, and the next one is granted."""
    ledger = space.ledger()
    pod = a_pod("alone", gpus=8, how="hangs")
    held = adopt.reserve_for(ledger, a_request("alone"), pod)
    adopt.start(ledger, held.id, pod)
    path = f"/api/v1/namespaces/{space.name}/pods"
    until(lambda: [one["status"]["phase"] for one in space.api.items(path)] == ["Running"])
    now = ledger.get(held.id)
    assert now.token is not None
    assert ledger.release(held.id, now.token).state is ReservationState.RELEASED
    until(lambda: list(space.api.items(path)) == [])
    later = ledger.submit(a_request("later"))
    assert ledger.wait(later.id, timeout=timedelta(seconds=10)).state is ReservationState.GRANTED


def test_a_list_of_other_things_than_pods_is_refused(space: Space, queue: str) -> None:
    """The kind is named, and what to give."""
    mixed = {"kind": "List", "items": [a_pod("one", gpus=1), a_job(space.name, "two", pods=1, gpus=1)]}
    with pytest.raises(InputError, match=r"manifest.items: 'Job' make up no gang: give a List of Pods alone"):
        adopt.reserve_for(space.ledger(), a_request("mixed"), mixed)


@pytest.mark.parametrize("of", ["job", "jobset", "pods"])
def test_a_start_that_is_tried_again_finds_what_it_had_created(space: Space, queue: str, of: str) -> None:
    """Of a group half; the same reservation, no second Job, and it completes."""
    ledger = space.ledger()
    pods = [a_pod(f"pod-{index}", gpus=4, how="completes") for index in range(2)]
    manifest = {
        "job": a_job(space.name, "step", pods=2, gpus=4, runs_for="1s"),
        "jobset": a_jobset(space.name, "step", workers=2, gpus=4),
        "pods": {"kind": "List", "items": pods},
    }[of]
    held = adopt.reserve_for(ledger, a_request("again"), manifest)
    if of == "pods":
        name_taken_from_the_second_pod(space, ledger, held, pods)
    else:
        adopt.start(ledger, held.id, manifest)
    assert adopt.reserve_for(ledger, a_request("again"), manifest).id == held.id
    first, second = (adopt.start(ledger, held.id, manifest) for _ in range(2))
    assert uids(first) == uids(second)
    until(lambda: space.condition(held.id, "Finished") == "True Succeeded", 40)


def name_taken_from_the_second_pod(space: Space, ledger: KueueLedger, held: Reservation, pods: list[Object]) -> None:
    """Let a start of a group break off after its first pod, and clear what was in the way."""
    stranger = a_pod("pod-1", gpus=0, how="hangs")
    path = f"/api/v1/namespaces/{space.name}/pods"
    space.api.create(path, stranger)
    with pytest.raises(InputError, match=r"manifest.metadata.name: 'pod-1' is another's, not of reservation r-"):
        adopt.start(ledger, held.id, {"kind": "List", "items": pods})
    assert {one["metadata"]["name"] for one in space.api.items(path)} == {"pod-0", "pod-1"}
    space.api.delete(f"{path}/pod-1", gracePeriodSeconds=0)


def uids(started: Object) -> list[str]:
    """Return what identifies what was created."""
    return [one["metadata"]["uid"] for one in started.get("items", [started])]


def test_a_manifest_without_a_name_is_one_job_though_started_twice(space: Space, queue: str) -> None:
    """`generateName` would make up another name on a retry."""
    ledger = space.ledger()
    job = a_job(space.name, "", pods=1, gpus=8, how="hangs")
    job["metadata"] = {"generateName": "train-"}
    held = adopt.reserve_for(ledger, a_request("unnamed"), job)
    first, second = (adopt.start(ledger, held.id, job) for _ in range(2))
    assert first["metadata"]["name"].startswith("train-r-")
    assert uids(first) == uids(second)
