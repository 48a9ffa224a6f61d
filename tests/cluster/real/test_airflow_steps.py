"""Steps of Airflow's own Kubernetes operators on the slots of their gang: real pods on real nodes.

The DAGs are run by real Airflow (`dag.test()`) in its own environment, on the ledger of a Kueue queue.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gangplan.reserve.kueue.objects import names
from gangplan.testing import a_request
from gangplan.types import PodSet, Reservation, ReservationState
from tests.cluster.conftest import Object, Space, until
from tests.cluster.environments import Program, a_dag
from tests.cluster.servers import fleet
from tests.cluster.servers.node.images import SHELL
from tests.cluster.servers.node.node import Node

DAGS = Path(__file__).parent / "dags" / "steps_on_slots.py"
LONG_S = 90.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home of Airflow for all: its database is made once."""
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The file at which the pods of a step go on to their end."""
    folder = tmp_path / "go"
    folder.mkdir()
    return folder / "on"


@pytest.fixture
def real_queue(space: Space, real_nodes: list[Node]) -> str:
    """A queue with the GPUs of both real nodes, where Kueue chooses the nodes."""
    gpus = len(real_nodes) * fleet.REAL.gpus_per_node
    return space.queue({space.flavor(pool=fleet.REAL.name, topology="gangplan"): gpus})


def step(dag: str, space: Space, home: Path, go: Path) -> AbstractContextManager[Program]:
    """Run a DAG beside the block; its pods wait for the file."""
    told = {"STEP_NAMESPACE": space.name, "STEP_IMAGE": SHELL, "STEP_GOES_ON": str(go.parent)}
    return a_dag(DAGS, dag, space=space, home=home, **told)


def pods(space: Space) -> list[Object]:
    """Return the pods of the test's namespace."""
    return list(space.api.items(f"/api/v1/namespaces/{space.name}/pods"))


def running(space: Space, begun: Program, count: int = 1, but: str = "") -> list[Object]:
    """Wait until so many pods of a step run, one aside, and return them."""

    def all_run() -> list[Object]:
        begun.look()
        found = [one for one in pods(space) if one["status"]["phase"] == "Running" and one["metadata"]["name"] != but]
        return found if len(found) == count else []

    return until(all_run, LONG_S)


def granted(space: Space) -> Reservation:
    """Return the one reservation that holds slots."""
    (held,) = space.ledger().list(ReservationState.GRANTED)
    return held


def test_a_pod_runs_on_the_node_of_its_slots_and_again_when_it_was_deleted(
    space: Space, real_queue: str, home: Path, go: Path
) -> None:
    """It knows its slots by its environment, its log is the task's; the slots outlive it, and go back at the end."""
    with step("a_pod", space, home, go) as begun:
        (first,) = running(space, begun)
        until(lambda: begun.says("[base] GANGPLAN_NODES"), LONG_S)
        held = granted(space)
        space.api.delete(f"/api/v1/namespaces/{space.name}/pods/{first['metadata']['name']}")
        (second,) = running(space, begun, but=first["metadata"]["name"])
        assert granted(space).id == held.id
        go.touch()
        written = begun.end()
    (node,) = (place.node for place in held.placements)
    assert [one["spec"]["nodeName"] for one in (first, second)] == [node, node]
    for line in (f"GANGPLAN_RESERVATION={held.id}", f"GANGPLAN_NODES={node}", "done on"):
        assert line in written
    assert space.ledger().get(held.id).state is ReservationState.RELEASED


@pytest.mark.parametrize(("dag", "adopted"), [("a_job", False), ("a_job_adopts", True)])
def test_a_job_runs_on_one_reservation_s_quota(
    space: Space, real_queue: str, home: Path, go: Path, dag: str, adopted: bool
) -> None:
    """Its pods are counted once: all other GPUs are another gang's at once, also those beside it on its node."""
    with step(dag, space, home, go) as begun:
        found = running(space, begun, 2)
        held = granted(space)
        assert {one["spec"]["nodeName"] for one in found} == {place.node for place in held.placements}
        assert bool(space.ledger().claim(held.id).owner) is adopted
        assert len(list(space.api.items(names.workloads(space.name)))) == 1
        rest = 2 * fleet.REAL.gpus_per_node - held.request.gpus
        other = space.ledger().submit(a_request("beside", pod_sets=(PodSet(count=rest // 4, gpus_per_pod=4),)))
        assert other.state is ReservationState.GRANTED, other.reason
        go.touch()
        written = begun.end()
    assert len(set(re.findall(r"done on (\S+)", written))) == 2  # the operator may read the end of a log twice
    assert f"GANGPLAN_RESERVATION={held.id}" in written
    assert space.ledger().get(held.id).state is ReservationState.RELEASED


def test_a_step_whose_node_is_lost_goes_on_where_its_slots_were_moved(
    space: Space, real_queue: str, real_nodes: list[Node], home: Path, go: Path
) -> None:
    """The node loses its power and its cloud removes it: Kueue moves the slots, and the next try's pod follows them."""
    with step("a_pod", space, home, go) as begun:
        (first,) = running(space, begun)
        until(lambda: begun.says("[base] GANGPLAN_NODES"), LONG_S)
        held = granted(space)
        (lost,) = (one for one in real_nodes if one.name == first["spec"]["nodeName"])
        lost.stop()
        try:
            space.api.delete(f"/api/v1/nodes/{lost.name}")
            (second,) = running(space, begun, but=first["metadata"]["name"])
            now = granted(space)
            go.touch()
            written = begun.end()
        finally:
            lost.start()
    assert (now.id, now.token) == (held.id, held.token)
    assert now.placements[0].node == second["spec"]["nodeName"] != lost.name
    assert f"GANGPLAN_NODES={second['spec']['nodeName']}" in written
    assert space.ledger().get(held.id).state is ReservationState.RELEASED
