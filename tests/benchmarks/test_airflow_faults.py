"""What becomes of tasks that the faults in Airflow have cleared."""

from __future__ import annotations

import pytest
from benchmarks.parts.airflow.client import Task
from benchmarks.parts.airflow.faults import MACHINES, OUTAGES, WEIGHTS, Cleared

TASK = Task(
    dag_id="bench_plain",
    run_id="r00001",
    task_id="reserve",
    map_index=-1,
    state="deferred",
    try_number=1,
    pid=None,
    trigger_id=3,
)


@pytest.mark.parametrize(
    ("state", "tried", "well", "failed"),
    [
        ("failed", 1, 0, 0),
        (None, 1, 0, 0),
        ("deferred", 2, 0, 0),
        ("success", 2, 1, 0),
        ("failed", 2, 0, 1),
        ("up_for_retry", 2, 0, 1),
    ],
)
def test_a_cleared_task_is_followed_to_the_end_of_its_next_try(
    state: str | None, tried: int, well: int, failed: int
) -> None:
    """Only a try after the clearing counts, and one that failed is told, though it may be tried again."""
    cleared = Cleared()
    cleared.note(TASK)
    cleared.look({TASK.key: (state, tried)})
    assert (cleared.ended_well, len(cleared.failed)) == (well, failed)


def test_what_was_marked_is_not_judged() -> None:
    """A task of whose run something was marked after it was cleared may fail."""
    cleared = Cleared()
    cleared.note(TASK)
    cleared.forget("r00001")
    cleared.look({TASK.key: ("failed", 2)})
    assert not cleared.failed


@pytest.mark.parametrize(("state", "failed"), [("running", 0), ("deferred", 1)])
def test_who_waits_survives_an_outage(state: str, failed: int) -> None:
    """A task that ran when a process or the ledger went away may fail, one that waited in the triggerer may not."""
    cleared = Cleared()
    cleared.note(TASK)
    cleared.look({TASK.key: (state, 2)})
    cleared.outage()
    cleared.look({TASK.key: ("failed", 2)})
    assert len(cleared.failed) == failed


def test_outages_are_faults_of_machines() -> None:
    """What excuses a task is among the faults, and is shown beside what was found."""
    assert set(OUTAGES) <= set(MACHINES) < set(WEIGHTS)
