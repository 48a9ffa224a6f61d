"""Kueue's hazards, by their numbers in docs/kubernetes.md: each first shown on the real controller, then lived with."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gangplan.client.lease import hold
from gangplan.errors import InputError, NotFoundError, RejectedError, StaleTokenError
from gangplan.kube import claim_from
from gangplan.reserve.kueue.jobs import adopt
from gangplan.reserve.kueue.objects import names
from gangplan.testing import a_request
from gangplan.types import Level, Limit, PodSet, ReservationState, Token, Topology
from tests.cluster.conftest import Object, Space, until
from tests.cluster.objects import a_job, a_jobset, bare, condition, jobs, set_conditions
from tests.cluster.servers import fleet

HOUR = timedelta(hours=1)
GRANTED, WAITING = ReservationState.GRANTED, ReservationState.WAITING
ONE = (PodSet(count=1, gpus_per_pod=8),)


def admitted(space: Space, name: str) -> bool:
    """Tell whether a Workload says that it is admitted."""
    return space.condition(name, "Admitted").startswith("True")


def gone(space: Space, name: str) -> bool:
    """Tell whether there is no such Workload any more."""
    try:
        space.workload(name)
    except NotFoundError:
        return True
    return False


def message(space: Space, name: str, kind: str) -> str:
    """Return what a Workload's condition says."""
    found = space.workload(name).get("status", {}).get("conditions", ())
    return next((one["message"] for one in found if one["type"] == kind), "")


def bare_workload(space: Space, name: str, gpus: int, **spec: Any) -> str:
    """Create a Workload that nothing of ours knows."""
    space.api.create(names.workloads(space.name), bare(space.name, name, gpus, **spec))
    return name


# ---------------------------------------------------------------- 1: evictions that nobody completes


def test_1_shown_a_victim_without_an_owner_keeps_the_preemptor_waiting(space: Space) -> None:
    """Kueue marks it Evicted, and it stays reserved; the preemptor is let in once somebody deletes it."""
    space.queue({space.flavor(): 8}, preempts=True)
    bare_workload(space, "low", 8, priority=1)
    until(lambda: admitted(space, "low"))
    bare_workload(space, "high", 8, priority=9)
    until(lambda: space.condition("low", "Evicted") == "True Preempted")
    assert space.condition("low", "QuotaReserved").startswith("True")
    assert not admitted(space, "high")
    space.api.delete(f"{names.workloads(space.name)}/low")
    until(lambda: admitted(space, "high"))


def test_1_lived_with_an_eviction_is_completed_within_two_seconds(space: Space) -> None:
    """The victim is over, as preempted, and whoever took its place holds the slots two seconds after it asked."""
    space.queue({space.flavor(): 8}, preempts=True)
    ledger = space.ledger()
    low = ledger.submit(a_request("low", priority=1, preemptible=True))
    assert low.state is GRANTED
    high = ledger.submit(a_request("high", priority=9, preemptible=True))
    now = ledger.wait(high.id, timeout=timedelta(seconds=2))
    assert now.state is GRANTED
    assert ledger.get(low.id).state is ReservationState.PREEMPTED
    with pytest.raises(StaleTokenError):
        ledger.renew(low.id, low.token or 0)


def test_1_a_promise_against_preemption_is_refused_where_kueue_preempts(space: Space) -> None:
    """What the queue may take away is only given to those who say that they can lose it."""
    space.queue({space.flavor(): 8}, preempts=True)
    with pytest.raises(InputError, match=r"preemptible: False cannot be promised here"):
        space.ledger().submit(a_request("a"))


def test_1_a_stopped_queue_interrupts_and_the_gang_comes_back_with_a_greater_token(space: Space) -> None:
    """An eviction that makes room for nobody is completed too; the gang waits again, and its old token is no good."""
    name = space.queue({space.flavor(): 8})
    ledger = space.ledger()
    first = ledger.submit(a_request("a"))
    path = f"{names.API}/clusterqueues/{name}"
    space.api.merge(path, {"spec": {"stopPolicy": "HoldAndDrain"}})
    until(lambda: ledger.get(first.id).state is ReservationState.INTERRUPTED)
    until(lambda: space.condition(first.id, "QuotaReserved").startswith("False"))
    space.api.merge(path, {"spec": {"stopPolicy": "None"}})
    again = until(lambda: (now := ledger.get(first.id)).state is GRANTED and now)
    assert (again.token or 0) > (first.token or 0)
    assert again.interruptions == 1
    with pytest.raises(StaleTokenError):
        ledger.release(first.id, first.token or 0)


# ---------------------------------------------------------------- 2: waitForPodsReady


def test_2_shown_and_lived_with_a_reservation_says_that_its_pods_are_ready(own_space: Space) -> None:
    """With waitForPodsReady on, a bare Workload is evicted after its time; ours holds."""
    own_space.queue({own_space.flavor(): 16})
    bare_workload(own_space, "bare", 8)
    ours = own_space.ledger().submit(a_request("ours"))
    until(lambda: own_space.condition("bare", "Evicted") == "True PodsReadyTimeout", 30)
    assert own_space.condition(ours.id, "PodsReady").startswith("True")
    assert own_space.ledgers[0].get(ours.id).token == ours.token


# ---------------------------------------------------------------- 3: active is never toggled


def test_3_shown_active_false_and_true_again_allocates_twice(space: Space) -> None:
    """Two gangs of 8 GPUs hold what there are 8 of."""
    space.queue({space.flavor(): 8})
    bare_workload(space, "first", 8)
    until(lambda: admitted(space, "first"))
    path = f"{names.workloads(space.name)}/first"
    space.api.merge(path, {"spec": {"active": False}})
    bare_workload(space, "second", 8)
    until(lambda: admitted(space, "second"))
    space.api.merge(path, {"spec": {"active": True}})
    assert admitted(space, "first")
    assert admitted(space, "second")


def test_3_lived_with_no_call_of_ours_touches_active_of_what_has_no_owner(space: Space, queue: str) -> None:
    """Granted, renewed, released, cancelled, expired: `active` is never written."""
    ledger = space.ledger()
    for key, end in (("a", "release"), ("b", "cancel"), ("c", "expire")):
        held = ledger.submit(a_request(key))
        held = ledger.wait(held.id, timeout=timedelta(seconds=10))
        ledger.renew(held.id, held.token or 0)
        written = space.workload(held.id)
        assert written["spec"].get("active", True) is True
        applied = [one for one in written["metadata"]["managedFields"] if one["operation"] == "Apply"]
        assert "f:active" not in str(applied)
        if end == "release":
            ledger.release(held.id, held.token or 0)
        elif end == "cancel":
            ledger.cancel(held.id)
        else:
            space.clock.advance(HOUR)
            ledger.tick()
        assert ledger.get(held.id).state.final
        assert gone(space, held.id)


# ---------------------------------------------------------------- 4: out of sync


def test_4_shown_a_job_with_another_container_loses_the_reservation(space: Space, queue: str) -> None:
    """The Workload is finished as out of sync, and the Job waits for ever."""
    bare_workload(space, "held", 8)
    until(lambda: admitted(space, "held"))
    job = a_job(space.name, "step", pods=1, gpus=8)
    job["metadata"]["labels"] = {names.QUEUE_NAME: "queue", names.PREBUILT: "held"}
    job["spec"]["suspend"] = True
    space.api.create(jobs(space.name), job)
    until(lambda: space.condition("held", "Finished") == "True OutOfSync")
    assert space.api.get(f"{jobs(space.name)}/step")["spec"]["suspend"] is True


def test_4_lived_with_what_is_reserved_is_the_job_itself(space: Space, queue: str) -> None:
    """The pods reserved are the Job's as the API server completes them, so that it adopts, runs and ends."""
    ledger = space.ledger()
    job = a_job(space.name, "step", pods=2, gpus=4)
    held = adopt.reserve_for(ledger, a_request("step"), job)
    assert held.state is GRANTED
    adopt.start(ledger, held.id, job)
    until(lambda: condition(space.api.get(f"{jobs(space.name)}/step"), "Complete") == "True")
    until(lambda: space.condition(held.id, "Finished") == "True Succeeded")
    assert ledger.get(held.id).state is ReservationState.RELEASED
    assert ledger.get(ledger.submit(a_request("next")).id).state is GRANTED


# ---------------------------------------------------------------- 5: adoption is one-shot


def test_5_shown_and_lived_with_a_second_job_stays_suspended(space: Space, queue: str) -> None:
    """A finished Workload still says QuotaReserved, and a second Job of it never runs; we hand out nothing for it."""
    ledger = space.ledger()
    job = a_job(space.name, "first", pods=1, gpus=8)
    held = adopt.reserve_for(ledger, a_request("a"), job)
    adopt.start(ledger, held.id, job)
    until(lambda: space.condition(held.id, "Finished").startswith("True"))
    assert space.condition(held.id, "QuotaReserved").startswith("True")
    second = a_job(space.name, "second", pods=1, gpus=8)
    second["metadata"]["labels"] = adopt.labels_of(a_request("a"), "queue", ledger.place.ahead)
    second["spec"]["suspend"] = True
    space.api.create(jobs(space.name), second)
    with pytest.raises(StaleTokenError, match="nothing may start"):
        adopt.start(ledger, held.id, a_job(space.name, "third", pods=1, gpus=8))
    later = ledger.submit(a_request("later"))
    assert later.state is GRANTED
    assert space.api.get(f"{jobs(space.name)}/second")["spec"]["suspend"] is True


# ---------------------------------------------------------------- 6: no reason is final


def test_6_shown_and_lived_with_what_exceeds_the_quota_is_granted_when_it_grows(space: Space) -> None:
    """Kueue says of both that they exceed the maximum; ours stays in the line, too, and both fit later."""
    flavor = space.flavor()
    name = space.queue({flavor: 4})
    bare_workload(space, "bare", 8)
    ledger = space.ledger()
    big = ledger.submit(a_request("big", pod_sets=ONE))
    until(lambda: "maximum capacity" in message(space, "bare", "QuotaReserved"))
    assert big.state is WAITING
    assert big.reason is not None
    assert big.reason.limit is Limit.QUOTA
    grown = fleet.cluster_queue(name, {flavor: 16})["spec"]["resourceGroups"]
    space.api.merge(f"{names.API}/clusterqueues/{name}", {"spec": {"resourceGroups": grown}})
    assert ledger.wait(big.id, timeout=timedelta(seconds=10)).state is GRANTED
    until(lambda: admitted(space, "bare"))


# ---------------------------------------------------------------- 7: the hard walltime


def test_7_the_walltime_ends_what_no_client_ends(space: Space, queue: str) -> None:
    """Kueue frees the quota by itself, while its status says reserved; the reservation reads as expired."""
    ledger = space.ledger()
    held = ledger.submit(a_request("a", duration=timedelta(seconds=2)))
    assert space.workload(held.id)["spec"]["maximumExecutionTimeSeconds"] == 2
    ledger.close()
    bare_workload(space, "next", 8)
    until(lambda: admitted(space, "next"))
    looking = space.ledger()
    assert looking.get(held.id).state is ReservationState.EXPIRED


def test_7_lived_with_a_lease_that_nobody_renews_is_ended_by_kueue_itself(space: Space, queue: str) -> None:
    """No process of ours is there; whoever waits in the queue, though it is no reservation, has the quota soon."""
    ledger = space.ledger()
    held = ledger.submit(a_request("a"))
    assert held.token is not None
    kept = ledger.renew(held.id, held.token, timedelta(seconds=1))
    ledger.close()
    bare_workload(space, "next", 8)
    until(lambda: admitted(space, "next"))
    assert kept.expires_at is not None
    assert space.clock() >= kept.expires_at
    assert space.ledger().get(held.id).state is ReservationState.EXPIRED


def test_7_lived_with_each_renewal_moves_the_end_that_kueue_knows(space: Space, queue: str) -> None:
    """A short lease is renewed past the first end that Kueue knew; in full length that is the walltime again."""
    ledger = space.ledger()
    held = ledger.submit(a_request("a"))
    token, begun = held.token or Token(0), space.clock()
    with hold(ledger, held.id, token, ttl=timedelta(seconds=1), clock=space.clock) as kept:
        until(lambda: space.clock() > begun + timedelta(seconds=9))
        kept.check()
    assert admitted(space, held.id)
    ledger.renew(held.id, token)
    assert "accumulatedPastExecutionTimeSeconds" not in space.workload(held.id)["status"]


def test_7_lived_with_a_job_that_adopts_a_short_lease_keeps_its_whole_time(space: Space, queue: str) -> None:
    """From the next renewal on Kueue counts for it what it ran, and nothing of ours."""
    ledger, half = space.ledger(), timedelta(seconds=30)
    job = a_job(space.name, "adopts", pods=1, gpus=8, how="hangs")
    held = adopt.reserve_for(ledger, a_request("adopts"), job)
    token = held.token or Token(0)
    ledger.renew(held.id, token, half)
    assert space.workload(held.id)["status"]["accumulatedPastExecutionTimeSeconds"] > 3500
    adopt.start(ledger, held.id, job)
    until(lambda: ledger.claim(held.id).owner)
    ledger.renew(held.id, token, half)
    assert "accumulatedPastExecutionTimeSeconds" not in space.workload(held.id)["status"]


# ---------------------------------------------------------------- 8: what a Workload may have


def test_8_shown_and_lived_with_limits_are_said_before_anything_is_written(space: Space, queue: str) -> None:
    """Kueue takes up to 18 pod sets, and no class without a priority; ours are refused in words, or complete."""
    many = bare(space.name, "many", 1)
    many["spec"]["podSets"] = [{**many["spec"]["podSets"][0], "name": f"p{n}"} for n in range(19)]
    with pytest.raises(RejectedError, match="podSets"):
        space.api.create(names.workloads(space.name), many)
    ledger = space.ledger()
    pods = tuple(PodSet(count=1, gpus_per_pod=1) for _ in range(19))
    with pytest.raises(InputError, match="pod_sets: 19 are too many"):
        ledger.submit(a_request("many", pod_sets=pods))
    classless = bare(space.name, "classless", 1)
    reference = {"group": names.GROUP, "kind": "WorkloadPriorityClass", "name": "urgent"}
    classless["spec"]["priorityClassRef"] = reference
    with pytest.raises(RejectedError, match="priority should not be nil"):
        space.api.create(names.workloads(space.name), classless)
    assert ledger.submit(a_request("ours", priority=7)).state is GRANTED


# ---------------------------------------------------------------- 10: MultiKueue


def test_10_shown_a_queue_of_multikueue_rejects_what_has_no_owner(space: Space) -> None:
    """Even where the far cluster is there; that the doctor names such a queue, and what helps, is in test_rights.py."""
    far = f"{space.name}-far"
    secret: Object = {"metadata": {"name": far}, "stringData": {"kubeconfig": inlined(space.kubeconfig)}}
    space.make("/api/v1/namespaces/kueue-system/secrets", secret)
    cluster = {"clusterSource": {"kubeConfig": {"location": far, "locationType": "Secret"}}}
    for kind, spec in (("MultiKueueCluster", cluster), ("MultiKueueConfig", {"clusters": [far]})):
        body = {"apiVersion": names.VERSION, "kind": kind, "metadata": {"name": far}, "spec": spec}
        space.make(f"{names.API}/{kind.lower()}s", body)
    reference = {"apiGroup": names.GROUP, "kind": "MultiKueueConfig", "name": far}
    spec = {"controllerName": "kueue.x-k8s.io/multikueue", "parameters": reference}
    check = {"apiVersion": names.VERSION, "kind": "AdmissionCheck", "metadata": {"name": far}, "spec": spec}
    space.make(f"{names.API}/admissionchecks", check)
    until(lambda: condition(space.api.get(f"{names.API}/admissionchecks/{far}"), "Active") == "True")
    name = space.queue({space.flavor(): 8})
    checks = {"admissionChecksStrategy": {"admissionChecks": [{"name": far}]}}
    space.api.merge(f"{names.API}/clusterqueues/{name}", {"spec": checks})
    bare_workload(space, "bare", 8)
    until(lambda: space.condition("bare", "Evicted").startswith("True"))
    why = space.workload("bare")["status"]["schedulingStats"]["evictions"]  # the check's own words are soon gone
    assert [one["underlyingCause"] for one in why] == ["AdmissionCheck"]
    assert not admitted(space, "bare")


def inlined(kubeconfig: Path) -> str:
    """Return a kubeconfig with its certificates in it, as a secret needs them."""
    config = yaml.safe_load(kubeconfig.read_text())
    for part in (config["clusters"][0]["cluster"], config["users"][0]["user"]):
        for name in ("certificate-authority", "client-certificate", "client-key"):
            if file := part.pop(name, ""):
                part[f"{name}-data"] = base64.b64encode(Path(file).read_bytes()).decode()
    return str(yaml.safe_dump(config))


# ---------------------------------------------------------------- 11: pods that run beside a reservation


def test_11_shown_and_lived_with_pods_beside_a_reservation_carry_no_queue(space: Space, queue: str) -> None:
    """A pod with the queue's label is counted once more, and waits; one with what is handed out runs."""
    ledger = space.ledger()
    held = ledger.submit(a_request("a", pod_sets=ONE))
    handout = adopt.hand_out(ledger, held.id)
    pods = f"/api/v1/namespaces/{space.name}/pods"
    template = a_job(space.name, "x", pods=1, gpus=8)["spec"]["template"]["spec"]
    spec = {**template, "nodeSelector": handout.node_selector, "tolerations": list(handout.tolerations)}
    counted: Object = {"metadata": {"name": "counted", "labels": {names.QUEUE_NAME: "queue"}}, "spec": spec}
    beside: Object = {"metadata": {"name": "beside"}, "spec": spec}
    space.api.create(pods, counted)
    space.api.create(pods, beside)
    until(lambda: space.api.get(f"{pods}/beside")["status"]["phase"] == "Running")
    assert space.api.get(f"{pods}/counted")["spec"].get("schedulingGates")
    for name in ("counted", "beside"):
        space.api.delete(f"{pods}/{name}")


# ---------------------------------------------------------------- 12: topology


def test_12_shown_the_flavor_does_not_say_where_a_gang_is_the_assignment_does(space: Space) -> None:
    """Two pods in one rack: the flavor's labels fit eight nodes in two racks, the assignment names two of them."""
    flavor = space.flavor(topology="gangplan")
    space.queue({flavor: 64})
    body = bare(space.name, "bare", 8)
    body["spec"]["podSets"][0] |= {"count": 2, "topologyRequest": {"required": "gangplan.io/rack"}}
    space.api.create(names.workloads(space.name), body)
    until(lambda: admitted(space, "bare"))
    given = space.workload("bare")["status"]["admission"]["podSetAssignments"][0]
    assert given["flavors"][names.GPU] == flavor
    (share,) = claim_from(space.workload("bare")).shares
    assert given["topologyAssignment"]["levels"] == [names.HOST]
    assert [pods for _, pods in share.nodes] == [1, 1]


def test_12_lived_with_the_nodes_of_a_gang_are_known_and_stand_in_one_rack(space: Space) -> None:
    """Where Kueue knows the topology, the placements name the nodes; a rack that is required is kept."""
    space.queue({space.flavor(topology="gangplan"): 64})
    ledger = space.ledger()
    wish = Topology(level=Level.RACK)
    held = ledger.submit(a_request("a", pod_sets=(PodSet(count=2, gpus_per_pod=8),), topology=wish))
    assert held.state is GRANTED, held
    nodes = [place.node for place in held.placements]
    racks = {space.api.get(f"/api/v1/nodes/{node}")["metadata"]["labels"]["gangplan.io/rack"] for node in nodes}
    assert len(nodes) == 2
    assert len(racks) == 1
    wide = ledger.submit(a_request("wide", pod_sets=(PodSet(count=5, gpus_per_pod=8),), topology=wish))
    assert wide.state is WAITING
    assert wide.reason is not None
    assert wide.reason.limit is Limit.TOPOLOGY


def test_12_a_wish_that_kueue_cannot_see_is_refused(space: Space, queue: str) -> None:
    """Without a Topology on the flavor nothing is promised about racks."""
    with pytest.raises(InputError, match="topology: rack is unknown to flavor"):
        space.ledger().submit(a_request("a", topology=Topology(level=Level.RACK)))


# ---------------------------------------------------------------- found here: 13 and 14


def test_13_shown_and_lived_with_what_its_time_limit_ended_still_says_reserved(space: Space) -> None:
    """Kueue counts a Workload that it ended no more, though it says that it is reserved; ours is recorded, and gone."""
    space.queue({space.flavor(): 16})
    bare_workload(space, "bare", 8, maximumExecutionTimeSeconds=2)
    ledger = space.ledger()
    held = ledger.submit(a_request("a", duration=timedelta(seconds=2)))
    until(lambda: space.workload("bare")["spec"].get("active") is False)
    until(lambda: gone(space, held.id), 15)
    both = ledger.submit(a_request("b", pod_sets=(PodSet(count=2, gpus_per_pod=8),)))
    assert ledger.wait(both.id, timeout=timedelta(seconds=10)).state is GRANTED
    assert admitted(space, "bare")
    assert space.condition("bare", "QuotaReserved").startswith("True")
    assert ledger.get(held.id).state is ReservationState.EXPIRED


def test_14_releasing_what_a_job_has_adopted_stops_the_job_first(space: Space, queue: str) -> None:
    """Finished under a running Job, a Workload would leave it running without quota: Kueue is told to stop it."""
    ledger = space.ledger()
    job = a_job(space.name, "long", pods=1, gpus=8, how="hangs")
    held = adopt.reserve_for(ledger, a_request("a"), job)
    adopt.start(ledger, held.id, job)
    until(lambda: space.api.get(f"{jobs(space.name)}/long")["status"].get("active"))
    now = until(lambda: (now := ledger.get(held.id)).state is GRANTED and now)
    assert ledger.release(held.id, now.token or 0).state is ReservationState.RELEASED
    until(lambda: space.api.get(f"{jobs(space.name)}/long")["spec"]["suspend"])
    later = ledger.submit(a_request("later"))
    assert ledger.wait(later.id, timeout=timedelta(seconds=10)).state is GRANTED
    assert ledger.get(held.id).state is ReservationState.RELEASED


def test_15_shown_and_lived_with_pods_on_chosen_nodes_need_the_topology_named(space: Space) -> None:
    """A Job that only names its Workload starts, and its pods stay gated; with what is handed out they run."""
    space.queue({space.flavor(topology="gangplan"): 64})
    ledger = space.ledger()
    silent, told = (a_job(space.name, name, pods=1, gpus=2, how="hangs") for name in ("silent", "told"))
    first = adopt.reserve_for(ledger, a_request("silent"), silent)
    second = adopt.reserve_for(ledger, a_request("told"), told)
    silent["metadata"]["labels"] = adopt.hand_out(ledger, first.id).labels
    silent["spec"]["suspend"] = True
    space.api.create(jobs(space.name), silent)
    adopt.start(ledger, second.id, told)
    until(lambda: phases(space, "told") == ["Running"])
    until(lambda: phases(space, "silent") == ["Pending"])
    pod = next(space.api.items(f"/api/v1/namespaces/{space.name}/pods", labelSelector="job-name=silent"))
    assert pod["spec"]["schedulingGates"] == [{"name": "kueue.x-k8s.io/topology"}]


def phases(space: Space, job: str) -> list[str]:
    """Return the phases of a Job's pods."""
    path = f"/api/v1/namespaces/{space.name}/pods"
    return [one["status"]["phase"] for one in space.api.items(path, labelSelector=f"job-name={job}")]


# ---------------------------------------------------------------- JobSet


def test_a_jobset_with_a_driver_adopts_its_reservation_and_completes(space: Space, queue: str) -> None:
    """A driver without GPUs and two workers with four each: one reservation of two pod sets."""
    ledger = space.ledger()
    jobset = a_jobset(space.name, "train", workers=2, gpus=4)
    held = adopt.reserve_for(ledger, a_request("train"), jobset)
    assert held.state is GRANTED, held
    assert held.request.pod_sets == (PodSet(count=2, gpus_per_pod=4),)
    adopt.start(ledger, held.id, jobset)
    path = f"/apis/jobset.x-k8s.io/v1alpha2/namespaces/{space.name}/jobsets/train"
    until(lambda: condition(space.api.get(path), "Completed") == "True", 40)
    until(lambda: ledger.get(held.id).state is ReservationState.RELEASED)
    assert set_conditions(space.workload(held.id)) >= {"Finished"}
