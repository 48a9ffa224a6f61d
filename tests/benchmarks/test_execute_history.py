"""What the benchmark of plans carried out reads from a cluster's history: granted too much, nodes lost, none found."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from benchmarks.parts.execute.history import (
    NODE,
    POD,
    WORKLOAD,
    Change,
    Node,
    Pod,
    State,
    Workload,
    findings,
    open_nodes,
    workload_from,
)
from tests.cluster.servers.fleet import GPU

GPUS = {"h100": 8}
OPEN = Node(pool="h100", initialized=True, open=True)
GRANTED = Workload(granted=(("h100", 8),))
RUNS = Pod(gang="g", node="n1", phase="Running", refused=False)


def history(*changes: tuple[str, str, State | None]) -> list[Change]:
    """Changes a second apart, in the order in which they were stored."""
    versions = count(1)
    return [
        Change(version=version, seen_at=float(version), kind=kind, name=name, state=state)
        for version, (kind, name, state) in zip(versions, changes, strict=False)
    ]


def test_more_granted_than_open_nodes_have_is_found_wherever_it_was_heard() -> None:
    """Watches tell in their own order; the versions say which came first."""
    fine = history(
        (NODE, "n1", OPEN), (WORKLOAD, "w1", GRANTED), (WORKLOAD, "w1", Workload(granted=())), (NODE, "n1", None)
    )
    assert findings(reversed(fine), GPUS).over == 0
    cordoned = Node(pool="h100", initialized=True, open=False)
    wrong = history((NODE, "n1", OPEN), (WORKLOAD, "w1", GRANTED), (NODE, "n1", cordoned), (WORKLOAD, "w1", None))
    found = findings(wrong, GPUS)
    assert (found.over, found.worst, found.over_s) == (1, 8, 1.0)
    assert "h100 8 granted of 0" in found.notes[-1]


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ([(NODE, "n1", OPEN), (POD, "p", RUNS), (NODE, "n1", None)], {"g"}),
        ([(POD, "p", RUNS), (POD, "p", None)], {"g"}),
        ([(POD, "p", RUNS), (POD, "p", Pod(gang="g", node="n1", phase="Failed", refused=False))], {"g"}),
        (
            [
                (POD, "p", RUNS),
                (POD, "p", Pod(gang="g", node="n1", phase="Succeeded", refused=False)),
                (POD, "p", None),
            ],
            set(),
        ),
        ([(NODE, "n2", OPEN), (POD, "p", RUNS), (NODE, "n2", None)], set()),
    ],
)
def test_a_gang_loses_a_node_or_a_pod(changes: list[tuple[str, str, State | None]], lost: set[str]) -> None:
    """Under pods that had not ended; what a list after a gap no longer has may have ended unseen."""
    assert findings(history(*changes), GPUS).lost == lost


def test_a_pod_without_a_node_counts_until_it_has_one() -> None:
    """The gang met missing nodes for as long as the scheduler had none for it."""
    waits = Pod(gang="g", node="", phase="Pending", refused=True)
    found = findings(history((POD, "p", waits), (NODE, "n1", OPEN), (POD, "p", RUNS)), GPUS)
    assert found.refused == {"g": 2.0}


def test_open_nodes_are_counted_at_a_moment() -> None:
    """As they were then, and not as they are."""
    changes = history((NODE, "n1", OPEN), (NODE, "n2", OPEN), (NODE, "n1", None))
    assert open_nodes(changes, [0.5, 1.5, 2.5, 3.5]) == [{}, {"h100": 1}, {"h100": 2}, {"h100": 1}]


def test_pods_that_ended_hold_nothing() -> None:
    """Kueue gives their GPUs on before the gang is finished."""
    share = {"name": "main", "count": 3, "flavors": {GPU: "h100"}, "resourceUsage": {GPU: "24"}}
    status: dict[str, Any] = {
        "conditions": [{"type": "QuotaReserved", "status": "True"}],
        "admission": {"podSetAssignments": [share]},
    }
    assert workload_from({"status": status}).granted == (("h100", 24),)
    status["reclaimablePods"] = [{"name": "main", "count": 1}]
    assert workload_from({"status": status}).granted == (("h100", 16),)
    status["conditions"].append({"type": "Finished", "status": "True"})
    assert workload_from({"status": status}).granted == ()
