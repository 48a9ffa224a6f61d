"""The fleet file as an engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from gangplan.config import read_fleet, write_fleet
from gangplan.errors import ConflictError, InputError, RejectedError
from gangplan.execute import Carried, Carrying, Engine, goals
from gangplan.execute.fleet_file import FleetFileTarget
from gangplan.testing import a_plan
from gangplan.types import Fleet, Step, StepKind
from tests.execute.world import pool

FLEET = Fleet(pools=(pool("a"), pool("b"), pool("c")), nodes={"a": 1, "b": 2})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The fleet's file."""
    path = tmp_path / "fleet.yaml"
    write_fleet(path, FLEET)
    return path


def order(name: str, before: int, after: int) -> Step:
    """The step to more nodes."""
    return Step(kind=StepKind.ORDER, pool=name, before=before, after=after, why="the plan")


def carry(file: Path, now: datetime, nodes: dict[str, list[int]]) -> Carried:
    """Carry a plan out on the file."""
    planned = a_plan(now, nodes, FLEET.pools)
    engines = (Engine(target=FleetFileTarget(file)),)
    return Carrying(engines=engines, wanted=lambda at: goals(planned, at), clock=lambda: now).once()


def test_the_present_hours_nodes_are_written_and_nothing_twice(now: datetime, file: Path) -> None:
    """Pools go up and down to the plan's numbers, a missing count is zero; the second pass does not touch the file."""
    done = carry(file, now, {"a": [4, 9], "b": [1, 9], "c": [1, 9]}).done
    steps = [(step.kind.value, step.pool, step.before, step.after) for step in done]
    assert steps == [("order", "a", 1, 4), ("order", "c", 0, 1), ("remove", "b", 2, 1)]
    after = read_fleet(file)
    assert after == replace(FLEET, nodes={"a": 4, "b": 1, "c": 1})
    before = file.stat()
    again = carry(file, now, {"a": [4], "b": [1], "c": [1]})
    assert (again.done, again.reached) == ((), True)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_step_from_another_number_is_a_conflict_and_a_taken_one_is_not(file: Path) -> None:
    """Somebody else wrote the file: look again. The same step twice changes nothing more."""
    target = FleetFileTarget(file)
    target.apply(order("a", 1, 3))
    target.apply(order("a", 1, 3))
    with pytest.raises(ConflictError, match="pool a has 3 nodes, not 2"):
        target.apply(order("a", 2, 4))
    assert read_fleet(file).nodes == {"a": 3, "b": 2}


def test_what_the_fleet_does_not_allow_is_refused_before_anything_is_written(now: datetime, file: Path) -> None:
    """More nodes than a pool may have, and a pool that is not there."""
    target = FleetFileTarget(file)
    with pytest.raises(RejectedError, match="more than its max_nodes of 6: plan again"):
        target.apply(order("a", 1, 7))
    with pytest.raises(InputError, match="'x' is not in the fleet"):
        target.apply(order("x", 0, 1))
    with pytest.raises(InputError, match="'x' is not in the fleet"):
        carry(file, now, {"x": [1]})
    assert read_fleet(file) == FLEET


def test_a_dry_run_checks_and_writes_nothing(file: Path) -> None:
    """The same refusals, and the file stays as it is."""
    target = FleetFileTarget(file)
    target.apply(order("a", 1, 3), dry_run=True)
    with pytest.raises(RejectedError, match="max_nodes"):
        target.apply(order("a", 1, 7), dry_run=True)
    assert read_fleet(file) == FLEET


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """Nothing is made up where there is no fleet."""
    target = FleetFileTarget(tmp_path / "none.yaml")
    for refused in (target.observe, lambda: target.apply(order("a", 1, 4))):
        with pytest.raises(InputError, match="gangplan init"):
            refused()
    assert list(tmp_path.iterdir()) == []
