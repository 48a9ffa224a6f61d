"""What a pod asks for, by the scheduler's own arithmetic; since when it is over; which nodes it may go to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies as st

from gangplan.kube.pods import may_go_to, pod_from, requests_of
from gangplan.testing import NOW
from tests.kube.conftest import a_pod, ago

GPU = "nvidia.com/gpu"
Container = dict[str, Any]


def containers(*, init: bool) -> st.SearchStrategy[list[Container]]:
    """Draw containers that ask for GPUs by request, by limit, by both alike or not at all; some are sidecars."""
    amounts = st.integers(0, 5)
    asks = st.one_of(
        amounts.map(lambda n: {"limits": {GPU: str(n)}}),
        amounts.map(lambda n: {"requests": {GPU: n, "cpu": "1"}, "limits": {GPU: n}}),
        amounts.map(lambda n: {"requests": {"cpu": "1"}, "limits": {GPU: str(n), "memory": "1Gi"}}),
        st.just({}),
        st.none(),
    )
    policies = st.sampled_from([None, "Always"] if init else [None])
    return st.lists(
        st.builds(lambda asks, policy: {"resources": asks, "restartPolicy": policy}, asks, policies), max_size=4
    )


def _gpus(container: Container) -> int:
    resources = container["resources"] or {}
    asked = resources.get("requests", {}).get(GPU)
    return int(resources.get("limits", {}).get(GPU, 0) if asked is None else asked)


def _oracle(main: list[Container], init: list[Container], overhead: int) -> int:
    """Play the pod's life step by step, and return the most GPUs that it holds at any moment."""
    moments: list[int] = []
    sidecars = 0
    for container in init:
        moments.append(sidecars + _gpus(container))  # it starts, beside the sidecars that run already
        if container["restartPolicy"] == "Always":
            sidecars += _gpus(container)  # and goes on
    moments.append(sidecars + sum(_gpus(container) for container in main))
    return max(moments) + overhead


@given(main=containers(init=False), init=containers(init=True), overhead=st.integers(0, 2))
def test_a_pod_asks_for_the_most_that_it_holds_at_any_moment(
    main: list[Container], init: list[Container], overhead: int
) -> None:
    """Init containers one by one, sidecars from their start on, then all containers together."""
    spec = {"containers": main, "initContainers": init, "overhead": {GPU: str(overhead), "cpu": "250m"}}
    assert requests_of(spec)[GPU] == _oracle(main, init, overhead)


def test_a_limit_is_the_request_even_beside_other_requests() -> None:
    """Requests of CPU alone do not hide a limit of GPUs."""
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "2", GPU: "4"}}
    assert requests_of({"containers": [{"resources": resources}]}) == {GPU: 4}


def _failed(**status: Any) -> dict[str, Any]:
    return {"phase": "Failed", "startTime": ago(hours=29), **status}


def _terminated(finished: str | None) -> dict[str, Any]:
    return {"name": "main", "state": {"terminated": {"exitCode": 137, "finishedAt": finished}}}


def _mark(kind: str, holds: str, hours: float) -> dict[str, str]:
    return {"type": kind, "status": holds, "lastTransitionTime": ago(hours=hours)}


LOST = {"deletionTimestamp": ago(hours=26)}


@pytest.mark.parametrize(
    ("status", "meta", "hours", "guessed"),
    [
        ({"phase": "Running", "startTime": ago(hours=29)}, {}, None, False),
        ({"phase": "Pending"}, {}, None, False),
        ({"phase": "Succeeded", "containerStatuses": [_terminated(ago(hours=20))]}, {}, 20, False),
        (_failed(containerStatuses=[_terminated(None), _terminated(ago(hours=21))]), {}, 21, False),
        (_failed(initContainerStatuses=[_terminated(ago(hours=28))]), {}, 28, False),
        (_failed(reason="Evicted"), {}, 29, True),
        (_failed(reason="Evicted", conditions=[_mark("Ready", "False", 25)]), {}, 25, True),
        (_failed(containerStatuses=[_terminated(None)]), {}, 29, True),
        (_failed(reason="Preempting", conditions=[_mark("DisruptionTarget", "True", 28)]), {}, 28, False),
        ({"phase": "Failed"}, {}, 30, True),
        ({"phase": "Running", "startTime": ago(hours=29)}, LOST, 26, False),
        ({"phase": "Pending"}, LOST, 26, False),
        (_failed(reason="NodeLost"), LOST, 26, False),
        ({"phase": "Unknown", "startTime": ago(hours=29), "conditions": [_mark("Ready", "Unknown", 27)]}, {}, 27, True),
        ({"phase": "Succeeded", "containerStatuses": [_terminated(ago(hours=40))]}, {}, 30, False),
    ],
)
def test_finished_evicted_lost_and_deleted_pods_are_over(
    status: dict[str, Any], meta: dict[str, str], hours: float | None, guessed: bool
) -> None:
    """Since when, as well as the cluster knows it; a guess is marked as one, and never before the pod was created."""
    pod = pod_from(a_pod("p", status=status, metadata=meta))
    assert pod is not None
    expected: datetime | None = None if hours is None else NOW - timedelta(hours=hours)
    assert (pod.ended, pod.guessed) == (expected, guessed)


@pytest.mark.parametrize(
    ("status", "refused"),
    [
        (_failed(reason="UnexpectedAdmissionError", message="Pod was rejected: Allocate failed"), True),
        (_failed(reason="UnexpectedAdmissionError", message="Pod Allocate failed"), True),
        (_failed(reason="OutOfnvidia.com/gpu"), True),
        (_failed(reason="NodeShutdown", message="Pod was rejected as the node is shutting down."), True),
        (_failed(reason="Evicted", message="The node was low on resource: memory."), False),
        (_failed(containerStatuses=[_terminated(ago(hours=1))]), False),
        ({"phase": "Running"}, False),
    ],
)
def test_a_pod_that_its_node_refused_never_ran(status: dict[str, Any], refused: bool) -> None:
    """The kubelet says so in the reason or the message."""
    pod = pod_from(a_pod("p", status=status))
    assert pod is not None
    assert pod.refused is refused


LABELS = {"zone": "a", "nvidia.com/gpu.product": "H100", "gen": "9"}


def _affinity(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    selector = {"nodeSelectorTerms": [{"matchExpressions": list(term)} for term in terms]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


def _rule(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("spec", "may"),
    [
        ({}, True),
        ({"nodeSelector": {"zone": "a"}}, True),
        ({"nodeSelector": {"zone": "b"}}, False),
        (_affinity([_rule("zone", "In", "b", "a")]), True),
        (_affinity([_rule("zone", "In", "b")], [_rule("gen", "Gt", "8")]), True),
        (_affinity([_rule("zone", "In", "a"), _rule("gen", "Lt", "9")]), False),
        (_affinity([_rule("zone", "NotIn", "a")]), False),
        (_affinity([_rule("missing", "NotIn", "a")]), True),
        (_affinity([_rule("zone", "Exists")]), True),
        (_affinity([_rule("zone", "DoesNotExist")]), False),
        (_affinity([_rule("zone", "Gt", "8")]), False),
        (_affinity([]), False),  # an empty term matches no node
        ({**_affinity([_rule("zone", "In", "a")]), "nodeSelector": {"gen": "8"}}, False),
    ],
)
def test_selector_and_affinity_allow_nodes_as_the_scheduler_does(spec: dict[str, Any], may: bool) -> None:
    """Terms are alternatives, the rules of a term and the selector hold together."""
    assert may_go_to(spec, LABELS, "n1") is may
