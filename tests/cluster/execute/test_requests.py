"""Kueue asks for nodes, and the plan answers: a time first, the nodes when they are there, each to one gang alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gangplan.execute.requests import Answer, Said, answer_all, queue_check, read_requests
from gangplan.kube import Api
from gangplan.reserve.kueue.objects import names
from gangplan.types import Plan
from tests.cluster.conftest import ROOT, Space, until
from tests.cluster.execute.planned import bring_nodes, look, plan_of, with_rights
from tests.cluster.objects import bare, set_conditions

_PLURALS = {"AdmissionCheck": "admissionchecks", "ProvisioningRequestConfig": "provisioningrequestconfigs"}
_LOOP = """
import sys
from tests.cluster.execute.test_requests import answer_once
from tests.cluster.execute.planned import plan_of
from gangplan.kube import connect
api = connect(kubeconfig=sys.argv[1])
print("ready", flush=True)
while True:
    answer_once(api, sys.argv[2], plan_of(sys.argv[2], [2, 2, 4]))
"""


def answer_once(api: Api, name: str, plan: Plan, *, by: Api | None = None) -> tuple[Answer, ...]:
    """Look at the cluster and answer, as the controller does."""
    seen = look(api, name)
    given = answer_all(by or api, plan, seen, (), datetime.now(UTC))
    return tuple(one for one in given if one.request.namespace == name)


@pytest.fixture
def asking(space: Space) -> Space:
    """A queue with quota for 8 nodes of the test's own pool, of which there are none yet; it asks for nodes."""
    for one in queue_check(space.name):
        space.make(f"{names.API}/{_PLURALS[one['kind']]}", one)
    flavor = space.flavor(pool=space.name)
    queue = space.queue({flavor: 64})
    path = f"{names.API}/clusterqueues/{queue}"
    space.api.merge(path, {"spec": {"admissionChecksStrategy": {"admissionChecks": [{"name": space.name}]}}})
    until(lambda: "Active" in set_conditions(space.api.get(path)), why="the queue is not active")
    return space


def ask(space: Space, name: str, nodes: int, **spec: object) -> None:
    """Make a Workload of so many whole nodes."""
    body = bare(space.name, name, 8, **spec)
    body["spec"]["podSets"][0]["count"] = nodes
    space.api.create(names.workloads(space.name), body)


def asked(space: Space, count: int) -> None:
    """Wait until Kueue has made so many requests, with their templates."""
    fleet = plan_of(space.name, [0]).fleet
    until(lambda: sum(one.namespace == space.name for one in read_requests(space.api, fleet)) >= count)


def waits_with(space: Space, name: str) -> str:
    """What Kueue shows of why a Workload waits."""
    checks = space.workload(name).get("status", {}).get("admissionChecks", ())
    return next((one["message"] for one in checks if one["name"] == space.name), "")


def admitted(space: Space) -> list[str]:
    """The Workloads that run."""
    items = space.api.items(names.workloads(space.name))
    return sorted(one["metadata"]["name"] for one in items if "Admitted" in set_conditions(one))


def test_a_time_then_the_nodes(asking: Space, tmp_path: Path) -> None:
    """A Workload shows from when the plan has its nodes and how many are there; with the last one it is admitted.

    The answers are written with the rights of executor-requests.yaml, and no others.
    """
    least = with_rights(asking, "executor-requests", tmp_path)
    plan = plan_of(asking.name, [0, 0, 2])
    ask(asking, "gang", 2)
    asked(asking, 1)
    answer_once(asking.api, asking.name, plan, by=least)
    at = f"{plan.issued_at + timedelta(hours=2):%Y-%m-%d %H:%M} UTC"
    told = f"Planned nodes of pool {asking.name} from {at}, 0 of 2 there."
    until(lambda: waits_with(asking, "gang") == told, why=waits_with(asking, "gang"))
    path = f"/apis/autoscaling.x-k8s.io/v1/namespaces/{asking.name}/provisioningrequests/gang-{asking.name}-1"
    version = asking.api.get(path)["metadata"]["resourceVersion"]
    answer_once(asking.api, asking.name, plan, by=least)
    assert asking.api.get(path)["metadata"]["resourceVersion"] == version, "what stands there is not written again"
    bring_nodes(asking, 2)

    def is_admitted() -> bool:
        answer_once(asking.api, asking.name, plan, by=least)
        return admitted(asking) == ["gang"]

    until(is_admitted)


def test_killed_at_any_moment(asking: Space) -> None:
    """Two gangs, nodes for one: however often the process that answers is killed, one is admitted, never both."""
    bring_nodes(asking, 2)
    until(lambda: sum(one.usable for one in look(asking.api, asking.name).nodes[0].nodes) == 2)
    for name in ("first", "second"):
        ask(asking, name, 2)
    asked(asking, 2)
    dice = random.Random(7)
    command = [sys.executable, "-c", _LOOP, str(asking.kubeconfig), asking.name]
    for _ in range(3):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            until_killed = time.monotonic() + dice.uniform(0, 0.3)
            while time.monotonic() < until_killed:
                assert len(admitted(asking)) <= 1
            process.kill()
        assert len(admitted(asking)) <= 1

    def one_is_admitted() -> bool:
        answer_once(asking.api, asking.name, plan_of(asking.name, [2, 2, 4]))
        return len(admitted(asking)) == 1

    until(one_is_admitted)
    (winner,) = admitted(asking)
    loser = {"first": "second", "second": "first"}[winner]
    until(lambda: "0 of 2 there" in waits_with(asking, loser), why=waits_with(asking, loser))
    asking.api.delete(f"{names.workloads(asking.name)}/{winner}")

    def the_other_is_admitted() -> bool:
        answer_once(asking.api, asking.name, plan_of(asking.name, [2, 2, 4]))
        return admitted(asking) == [loser]

    until(the_other_is_admitted)


def test_a_promise_ends_with_the_quota(asking: Space) -> None:
    """An evicted Workload that is queued again is answered anew: Kueue itself would take the old answer."""
    bring_nodes(asking, 1)
    ask(asking, "gang", 1)
    asked(asking, 1)
    plan = plan_of(asking.name, [1])

    def is_admitted() -> bool:
        answer_once(asking.api, asking.name, plan)
        return admitted(asking) == ["gang"]

    until(is_admitted)
    queue = f"{names.API}/clusterqueues/{asking.name}-queue"
    asking.api.merge(queue, {"spec": {"stopPolicy": "HoldAndDrain"}})
    until(lambda: asking.condition("gang", "Evicted").startswith("True"))
    asking.api.merge(  # what the owner of a Workload does when its pods are gone; this one has no owner
        f"{names.workloads(asking.name)}/gang/status",
        {
            "status": {
                "admission": None,
                "conditions": [
                    {
                        "type": kind,
                        "status": "False",
                        "reason": "Pending",
                        "message": "",
                        "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                    }
                    for kind in ("QuotaReserved", "Admitted")
                ],
            }
        },
    )
    until(lambda: [one.said for one in answer_once(asking.api, asking.name, plan)] == [Said.STALE])
    until(lambda: not any(one.namespace == asking.name for one in read_requests(asking.api, plan.fleet)))
