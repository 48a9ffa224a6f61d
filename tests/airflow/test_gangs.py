"""A gang in one line of a DAG: reserved when its work can begin, held while it runs, given back after."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow.utils.state import DagRunState, TaskInstanceState
from tests.airflow.versions import DagBag

from gangplan.clock import floor_hour
from gangplan.config import present
from gangplan.reserve import Ledger
from gangplan.testing import a_calendar, a_pool
from gangplan.types import Reservation, ReservationState

pytestmark = [
    pytest.mark.usefixtures("metadata"),
    pytest.mark.present("tasks wait beside Airflow's own clock"),
]
Dags = dict[str, DAG]
TakeAll = Callable[[timedelta], Reservation]


@pytest.fixture(scope="session")
def dags(metadata: None) -> Dags:
    """The DAGs of tests/airflow/dags/one_line.py, and the README's."""
    found: Dags = {}
    for name in ("one_line.py", "of_the_readme.py"):
        bag = DagBag(str(Path(__file__).parent / "dags" / name))
        assert bag.import_errors == {}
        assert bag.captured_warnings == {}
        found |= bag.dags
    return found


def run(dag: DAG) -> tuple[str, dict[str, str]]:
    """Run a DAG to its end; return its state and those of its tasks."""
    ended = dag.test()
    return ended.state, {
        row.task_id + ("" if row.map_index < 0 else f"[{row.map_index}]"): row.state
        for row in ended.get_task_instances()
    }


def states(ledger: Ledger) -> list[ReservationState]:
    """How all reservations stand."""
    return [row.state for row in ledger.list()]


def test_the_work_stands_between_reserve_and_release(dags: Dags) -> None:
    """No task of the block runs without the slots, and none is needed before they are asked for that is not done."""
    tasks = dags["one_line"].task_dict
    assert tasks["big.reserve"].upstream_task_ids == {"prepare"}
    assert tasks["big.held_nodes"].upstream_task_ids == {"big.reserve"}
    assert tasks["big.release"].upstream_task_ids == {"big.use", "big.count", "big.reserve"}
    assert tasks["report"].upstream_task_ids == {"big.count"}
    assert tasks["big.reserve"].is_setup
    assert tasks["big.release"].is_teardown


def test_one_line_reserves_holds_and_releases(ledger: Ledger, dags: Dags) -> None:
    """The tasks see their slots, hold them, and give them back."""
    state, tasks = run(dags["one_line"])
    assert (state, set(tasks.values())) == (DagRunState.SUCCESS, {TaskInstanceState.SUCCESS})
    assert states(ledger) == [ReservationState.RELEASED]


def test_work_that_breaks_gives_back(ledger: Ledger, dags: Dags) -> None:
    """The run fails, and the slots are free."""
    state, tasks = run(dags["one_line_breaks"])
    assert state == DagRunState.FAILED
    assert tasks["big.release"] == TaskInstanceState.SUCCESS
    assert states(ledger) == [ReservationState.RELEASED]


def test_each_of_a_mapped_group_has_its_gang(ledger: Ledger, dags: Dags) -> None:
    """A gang within a mapped group is another one for each instance, with its own arguments."""
    state, _ = run(dags["each_its_gang"])
    assert state == DagRunState.SUCCESS
    assert [row.request.gpus for row in ledger.list()] == [4, 4]
    assert set(states(ledger)) == {ReservationState.RELEASED}


def test_mapped_work_shares_its_gang(ledger: Ledger, dags: Dags) -> None:
    """The instances of a mapped task within a gang work on its slots together."""
    state, tasks = run(dags["many_on_one"])
    assert (state, len(tasks)) == (DagRunState.SUCCESS, 5)
    assert states(ledger) == [ReservationState.RELEASED]


def test_a_decorated_function_is_a_gang(ledger: Ledger, dags: Dags) -> None:
    """What comes before it comes before its gang is asked for; it gets its lease and its slots, also at a retry."""
    tasks = dags["decorated"].task_dict
    assert tasks["train.reserve"].upstream_task_ids == {"prepare"}
    assert tasks["report"].upstream_task_ids == {"train.train"}
    state, _ = run(dags["decorated"])
    assert state == DagRunState.SUCCESS
    assert states(ledger) == [ReservationState.RELEASED]


def test_each_instance_of_a_decorated_function_has_its_gang(ledger: Ledger, dags: Dags) -> None:
    """`expand` maps the whole group."""
    state, _ = run(dags["decorated_each"])
    assert state == DagRunState.SUCCESS
    assert [row.request.gpus for row in ledger.list()] == [4, 4]


def test_a_wait_in_vain_ends_as_was_said(ledger: Ledger, dags: Dags, take_all: TakeAll) -> None:
    """The work is skipped, or runs without slots; nothing is left in the line."""
    holder = take_all(timedelta(hours=1))
    _, tasks = run(dags["in_vain"])
    assert tasks["skipped.reserve"] == tasks["skipped.skips"] == TaskInstanceState.SKIPPED
    assert tasks["anyway.reserve"] == tasks["anyway.count"] == TaskInstanceState.SUCCESS
    assert [row.id for row in ledger.list() if not row.state.final] == [holder.id]


def test_the_readme_s_dag_runs(ledger: Ledger, dags: Dags) -> None:
    """What the README shows reserves, trains and gives back."""
    ledger.publish(a_calendar([a_pool(accelerator="h100-lab")], start=floor_hour(present()), hours=[2] * 48))
    state, tasks = run(dags["nightly_training"])
    assert (state, sorted(tasks)) == (DagRunState.SUCCESS, ["big.release", "big.reserve", "big.train"])
    assert states(ledger) == [ReservationState.RELEASED]
