"""The controller on a real API server: who leads, what it gives back, and how it ends; with its printed rights only."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from gangplan import plan
from gangplan.clock import floor_hour
from gangplan.config import Settings, write_fleet
from gangplan.errors import ConflictError, NotFoundError
from gangplan.kube import KUEUE, Api
from gangplan.reserve.kueue.ledger import KueueLedger
from gangplan.testing import a_forecast, a_plan, a_request
from gangplan.tracking import Store
from gangplan.types import Fleet, ObjectOwner, PipelineOwner, PlanId, PodSet, Pool, Reservation, ReservationState
from gangplan.workflows import last_pass, leader as who_leads
from tests.cluster.conftest import Space, until
from tests.cluster.execute.conftest import Field
from tests.cluster.execute.controller.processes import LEASE_S, Running, account, running
from tests.cluster.objects import a_job, a_pod, jobs

ONE = (PodSet(count=1, gpus_per_pod=1),)
WORKFLOWS = "/apis/argoproj.io/v1alpha1/namespaces/{0}/workflows"
Object = dict[str, Any]


@pytest.fixture(scope="session")
def workflows(api: Api) -> str:
    """Let the cluster know the Workflows of Kubeflow Pipelines."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Workflow", "plural": "workflows", "singular": "workflow", "listKind": "WorkflowList"}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    spec = {"group": "argoproj.io", "scope": "Namespaced", "names": names, "versions": [version]}
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
    with suppress(ConflictError):
        api.create(path, {**body, "metadata": {"name": "workflows.argoproj.io"}})
    until(lambda: _served(api, "/apis/argoproj.io/v1alpha1/workflows"))
    return WORKFLOWS


def _served(api: Api, path: str) -> bool:
    try:
        api.get(path)
    except NotFoundError:
        return False
    return True


@pytest.fixture
def kubeconfig_of_account(space: Space, queue: str, tmp_path: Path) -> Path:
    """The cluster as the manifests' account sees it."""
    return account(space, tmp_path)


@pytest.fixture
def two(space: Space, kubeconfig_of_account: Path, workflows: str, tmp_path: Path) -> Iterator[list[Running]]:
    """Two controllers that have listed all they watch, of which one leads."""
    with running(space, kubeconfig_of_account, tmp_path, 2) as both:
        until(lambda: all(one.ready for one in both), 60)
        until(lambda: sum(one.leads for one in both) == 1)
        yield both


def leader_of(both: list[Running]) -> tuple[Running, Running]:
    """Return who leads, and the other."""
    first, second = both
    return (first, second) if first.leads else (second, first)


def lease(space: Space) -> Object:
    """Return the Lease as it stands."""
    return space.api.get(leases(space))["spec"]


def leases(space: Space) -> str:
    """Return the path of the Lease."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{space.name}/leases/gangplan-controller"


def owned_by_pod(space: Space, ledger: KueueLedger, name: str) -> Reservation:
    """Reserve one GPU for a pod that runs."""
    pod = space.api.create(f"/api/v1/namespaces/{space.name}/pods", a_pod(name, gpus=0, how="hangs"))
    owner = ObjectOwner(namespace=space.name, kind="Pod", name=name, uid=pod["metadata"]["uid"])
    return ledger.submit(a_request(name, pod_sets=ONE), f"{owner}/1")


def ended(space: Space, reservation: Reservation) -> bool:
    """Tell whether a reservation has ended."""
    return space.ledger().get(reservation.id).state is ReservationState.CANCELLED


def test_what_ended_owners_hold_is_given_back_and_nothing_else(
    space: Space, ledger: KueueLedger, kubeconfig_of_account: Path, workflows: str, tmp_path: Path
) -> None:
    """A pod, a Job with its pods, a pipeline's run; not those that run, nor one that nobody has seen."""
    pods, path = f"/api/v1/namespaces/{space.name}/pods", workflows.format(space.name)
    job = space.api.create(jobs(space.name), a_job(space.name, "job", pods=1, gpus=0, how="hangs"))
    of_job = ObjectOwner(namespace=space.name, kind="Job", name="job", uid=job["metadata"]["uid"])
    meta = {"name": "flow", "labels": {"pipeline/runid": f"run-{space.name}"}}
    flow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "status": {"phase": "Running"}}
    space.api.create(path, {**flow, "metadata": meta})
    unseen = ObjectOwner(namespace=space.name, kind="Pod", name="unseen", uid="0000")
    held = {
        "pod": owned_by_pod(space, ledger, "pod"),
        "job": ledger.submit(a_request("job", pod_sets=ONE), f"{of_job}/1"),
        "run": ledger.submit(a_request("run", pod_sets=ONE), f"{PipelineOwner(run=f'run-{space.name}')}/gang/1"),
    }
    stays = {
        "runs": owned_by_pod(space, ledger, "runs"),
        "unseen": ledger.submit(a_request("unseen", pod_sets=ONE), f"{unseen}/1"),
        "nobody": ledger.submit(a_request("nobody", pod_sets=ONE)),
    }
    user = owned_by_pod(space, ledger, "left")
    beside = a_pod("beside", gpus=0, how="hangs")
    beside["metadata"]["labels"] = {"gangplan.io/reservation": str(user.id)}
    space.api.create(pods, beside)
    with running(space, kubeconfig_of_account, tmp_path, 1) as (one,):
        until(lambda: one.ready and one.leads, 60)
        for name in ("pod", "left"):
            space.api.delete(f"{pods}/{name}", gracePeriodSeconds=0)
        space.api.delete(f"{jobs(space.name)}/job", propagationPolicy="Background")
        space.api.merge(f"{path}/flow", {"status": {"phase": "Succeeded"}})
        began = time.monotonic()
        until(lambda: all(ended(space, each) for each in held.values()))
        print(f"given back within {time.monotonic() - began:.1f} s")
        assert not ended(space, user)  # a pod still runs on its slots
        space.api.delete(f"{pods}/beside", gracePeriodSeconds=0)
        until(lambda: ended(space, user))
        assert not any(ended(space, each) for each in stays.values())
        assert one.figure('gangplan_given_back_total{owner="Pod"}') == 2
        assert one.figure('gangplan_given_back_total{owner="Job"}') == 1
        assert one.figure('gangplan_given_back_total{owner="pipeline run"}') == 1
        lines = {line["reservation"]: line for line in one.said("given back")}
        assert set(lines) == {each.id for each in (*held.values(), user)}
        assert lines[held["job"].id]["why"] == f"Job {space.name}/job was deleted"
        assert lines[held["run"].id]["before"] == "granted"


def a_run(space: Space, ledger: KueueLedger, path: str, name: str, part: str = "") -> Reservation:
    """Reserve one GPU for a run of a pipeline, whose step works in a pod.

    Its node is none that is played: a pod that is told to end takes its time until the test says that it has ended.
    """
    run = f"{name}-{space.name}"
    labels = {"pipeline/runid": run, "workflows.argoproj.io/workflow": name}
    flow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "status": {"phase": "Running"}}
    space.api.create(path, {**flow, "metadata": {"name": name, "labels": labels}})
    pod, pods = a_pod(name, gpus=0), f"/api/v1/namespaces/{space.name}/pods"
    pod["metadata"]["labels"], pod["spec"]["nodeName"] = labels, "elsewhere"
    space.api.create(pods, pod)
    space.api.merge(f"{pods}/{name}/status", {"status": {"phase": "Running"}})
    path_of = "/".join(filter(None, ("gang", part)))
    return ledger.submit(a_request(f"kfp/{run}/{path_of}", pod_sets=ONE), f"{PipelineOwner(run=run)}/{path_of}/1")


def test_a_dead_run_gives_back_but_not_what_a_pod_still_works_on(
    space: Space, ledger: KueueLedger, kubeconfig_of_account: Path, workflows: str, tmp_path: Path
) -> None:
    """Terminated, deleted, archived; one whose pod is given time to end, or is left behind, keeps its slots so long."""
    pods, path = f"/api/v1/namespaces/{space.name}/pods", workflows.format(space.name)
    terminated = a_run(space, ledger, path, "terminated", "shard-1")
    deleted, archived = (a_run(space, ledger, path, name) for name in ("deleted", "archived"))
    works = a_run(space, ledger, path, "works", "shard-2")
    with running(space, kubeconfig_of_account, tmp_path, 1) as (one,):
        until(lambda: one.ready and one.leads, 60)
        space.api.merge(f"{path}/terminated", {"spec": {"activeDeadlineSeconds": 0}, "status": {"phase": "Failed"}})
        space.api.delete(f"{pods}/terminated")
        space.api.delete(f"{path}/deleted")
        space.api.delete(f"{pods}/archived", gracePeriodSeconds=0)
        space.api.delete(f"{path}/archived")
        until(lambda: ended(space, archived))
        assert not ended(space, terminated)
        assert not ended(space, deleted)
        for name in ("terminated", "deleted"):
            space.api.delete(f"{pods}/{name}", gracePeriodSeconds=0)
        began = time.monotonic()
        until(lambda: ended(space, terminated) and ended(space, deleted))
        print(f"given back within {time.monotonic() - began:.1f} s")
        assert not ended(space, works)
        why = {line["reservation"]: line["why"] for line in one.said("given back")}
    assert why[terminated.id] == f"pipeline run terminated-{space.name} has ended"
    assert why[deleted.id] == f"pipeline run deleted-{space.name} was deleted"


def publish(store: Store, pool: Pool, *nodes: int) -> None:
    """Publish a plan of so many nodes of a pool, hour by hour."""
    start = floor_hour(datetime.now(UTC))
    made = replace(a_plan(start, {pool.name: list(nodes)}, [pool]), plan_id=PlanId(f"plan-{nodes[0]}"))
    kept = plan.log_plan(made, a_forecast({("vision", "throughput", "h100"): [1.0] * len(nodes)}, start), store)
    plan.mark(store, kept, "published", "")


def test_the_published_plan_is_carried_out_by_one_of_two(
    ground: Field,
    space: Space,
    kubeconfig_of_account: Path,
    mlflow_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The leader is killed, a new plan is published, and the other goes on: each quota is written once."""
    pool = ground.pool(nodes=3)
    cohort = ground.cohort("cohort", {ground.flavor(pool): 0})
    write_fleet(tmp_path / "fleet.yaml", Fleet(pools=(pool,)))
    places = {"nodes": {"kind": "fixed"}, "quota": {"kind": "kueue", "cohort": cohort}}
    (tmp_path / "targets.yaml").write_text(yaml.safe_dump({"pools": {pool.name: places}}))
    publish(mlflow_store, pool, 2, 2)

    def generation() -> int:
        return int(space.api.get(f"{KUEUE}/cohorts/{cohort}")["metadata"]["generation"])

    first = generation()
    with running(space, kubeconfig_of_account, tmp_path, 2) as both:
        until(lambda: 16 in ground.nominal("cohorts", cohort), 60)
        until(lambda: sum(one.leads for one in both) == 1)
        leader, other = leader_of(both)
        label = f'{{pool="{pool.name}"}}'
        until(lambda: leader.figure(f"gangplan_quota_slots{label}") == 16)
        assert leader.figure(f"gangplan_planned_nodes{label}") == 2
        assert leader.figure(f"gangplan_usable_nodes{label}") == 3
        (done,) = leader.said("done: raise quota")
        assert (done["pool"], done["before"], done["after"], done["place"]) == (pool.name, 0, 16, f"Cohort/{cohort}")
        leader.send(signal.SIGKILL)
        publish(mlflow_store, pool, 3, 3)
        until(lambda: other.leads and 24 in ground.nominal("cohorts", cohort), 60)
        until(lambda: other.figure(f"gangplan_quota_slots{label}") == 24)
        assert generation() == first + 2
        monkeypatch.setenv("KUBECONFIG", str(space.kubeconfig))
        settings = Settings(home=tmp_path, ledger=f"kueue://gangplan/{space.name}/queue")
        until(lambda: last_pass(settings).get("plan") == "plan-3")  # it is written with the next renewal
        said = last_pass(settings)
        assert (said["reached"], said["leader"]) == (True, lease(space)["holderIdentity"])
        assert who_leads(settings) == said["leader"]


def test_after_a_kill_the_other_leads_and_gives_back_once(
    two: list[Running], space: Space, ledger: KueueLedger
) -> None:
    """The leader is killed as the owner ends: what it had not done, the other does, and nobody does it again."""
    first, second = leader_of(two)
    gang = owned_by_pod(space, ledger, "pod")
    until(lambda: first.ready)
    first.send(signal.SIGKILL)
    space.api.delete(f"/api/v1/namespaces/{space.name}/pods/pod", gracePeriodSeconds=0)
    until(lambda: second.leads, 10 * LEASE_S)
    until(lambda: ended(space, gang))
    records = space.api.items(
        f"/api/v1/namespaces/{space.name}/configmaps", labelSelector=f"ended.gangplan.io/{gang.id}"
    )
    assert len(list(records)) == 1
    assert lease(space)["leaseTransitions"] == 1


def test_a_frozen_leader_finds_that_it_leads_no_more_and_one_that_stops_hands_over(
    two: list[Running], space: Space
) -> None:
    """SIGSTOP for longer than the lease, then SIGTERM to who leads by now: it empties the Lease and ends with 0."""
    first, second = leader_of(two)
    first.send(signal.SIGSTOP)
    until(lambda: second.leads, 10 * LEASE_S)
    holder = lease(space)["holderIdentity"]
    first.send(signal.SIGCONT)
    until(lambda: first.get("/metrics")[0] == 200 and not first.leads)
    assert second.leads
    assert lease(space)["holderIdentity"] == holder
    began = time.monotonic()
    second.send(signal.SIGTERM)
    until(lambda: first.leads)
    led = time.monotonic() - began
    assert second.process.wait(20) == 0
    print(f"the other led after {led:.1f} s, and it had ended after {time.monotonic() - began:.1f} s")
    assert second.said("stopped")
    assert lease(space)["leaseTransitions"] == 2
    assert first.get("/healthz") == (200, "ok\n")
    assert first.get("/readyz") == (200, "leads\n")
    assert first.get("/")[0] == 404
    assert "# TYPE gangplan_leader gauge" in first.get("/metrics")[1]
