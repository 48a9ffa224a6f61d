"""What was done to carry plans out, in MLflow."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from gangplan.clock import floor_hour
from gangplan.errors import NotFoundError, RejectedError
from gangplan.execute import Carrying, Engine, Journal, Outcome, carried_hours, goals, last_run
from gangplan.execute.journal import PoolBefore
from gangplan.testing import a_plan
from gangplan.tracking import APPLY, Store
from gangplan.types import Step, StepKind
from tests.execute.world import SLOTS, Place, PoolWorld, WorldTarget, pool


class Killed(BaseException):
    """The process dies."""


@pytest.fixture
def world(now: datetime) -> WorldTarget:
    """Two pools, one node each, that start at once."""
    places = {"q": Place(group="q", slots=SLOTS)}
    pools = {
        name: PoolWorld(name=name, places=dict(places) if name == "a" else {}, delay=timedelta(), ordered=1)
        for name in ("a", "b")
    }
    for each in pools.values():
        each.grow(now)
    return WorldTarget(pools, lambda: now)


def carrying(world: WorldTarget, store: Store, now: datetime, **nodes: int) -> Carrying:
    """Carry out a plan of so many nodes, with a journal."""
    planned = a_plan(floor_hour(now), {name: [count] for name, count in nodes.items()}, [pool("a"), pool("b")])
    return Carrying(
        engines=(Engine(target=world),),
        wanted=lambda at: goals(planned, at),
        clock=lambda: now,
        journal=Journal(store=store, plan_id=planned.plan_id),
    )


def test_each_step_is_kept_with_what_became_of_it(world: WorldTarget, mlflow_store: Store, now: datetime) -> None:
    """Done and refused steps, in order; what the pools had before is enough to go back."""
    world.before_call = lambda step: RejectedError("too many") if step and step.pool == "b" else None
    made = carrying(world, mlflow_store, now, a=2, b=2)
    assert made.once().refused
    assert made.journal is not None
    made.journal.close(now)
    run = last_run(mlflow_store)
    assert (run.plan_id, run.begun, run.ended) == ("plan-1", now, now)
    assert [(each.step.kind.value, each.step.pool, each.outcome.value, each.words) for each in run.steps] == [
        ("order", "a", "done", ""),
        ("order", "b", "refused", "too many"),
        ("raise quota", "a", "done", ""),
    ]
    assert run.before == (
        PoolBefore(pool="a", ordered=1, quota=SLOTS, places={"q": SLOTS}),
        PoolBefore(pool="b", ordered=1),
    )


def test_a_killed_run_shows_what_it_was_about_to_do(world: WorldTarget, mlflow_store: Store, now: datetime) -> None:
    """The step stands as begun, since nobody knows whether it was taken; the run has no end."""

    def dies(step: Step | None) -> None:
        if step is not None and step.kind is StepKind.ORDER:
            raise Killed

    world.before_call = dies
    with pytest.raises(Killed):
        carrying(world, mlflow_store, now, a=3, b=1).once()
    run = last_run(mlflow_store)
    assert run.ended is None
    assert [each.outcome for each in run.steps] == [Outcome.BEGUN]


def test_nothing_to_do_leaves_no_run_and_a_dry_run_neither(
    world: WorldTarget, mlflow_store: Store, now: datetime
) -> None:
    """A controller looks every few seconds: only what it does is kept."""
    assert carrying(world, mlflow_store, now, a=1, b=1).once().reached
    assert carrying(world, mlflow_store, now, a=2, b=1).once(dry_run=True).done
    with pytest.raises(NotFoundError, match="gangplan apply"):
        last_run(mlflow_store)


def test_hours_are_kept_once_each_across_processes(world: WorldTarget, mlflow_store: Store, now: datetime) -> None:
    """What was planned, ordered, usable and granted, by pool, as the last process to look first saw it."""
    world.pools["a"].admit("q", SLOTS)
    for at in (now, now + timedelta(minutes=5)):
        carrying(world, mlflow_store, at, a=1, b=1).once()
    hours = carried_hours(mlflow_store)
    assert hours.rows() == [(now, "a", 1, 1, 1, 1.0), (now, "b", 1, 1, 1, 0.0)]


def test_hours_that_were_torn_stop_nobody(world: WorldTarget, mlflow_store: Store, now: datetime) -> None:
    """A process died between the table and its checksum: that day begins anew, and the plan is carried out."""
    carrying(world, mlflow_store, now, a=1, b=1).once()
    (run,) = mlflow_store.runs(APPLY, {"kind": "hours"})
    mlflow_store.client.set_tag(run.info.run_id, "sha256.carried", "of another table")
    assert carried_hours(mlflow_store).is_empty()
    assert carrying(world, mlflow_store, now + timedelta(hours=1), a=1, b=1).once().reached
    assert carried_hours(mlflow_store)["hour"].unique().to_list() == [now + timedelta(hours=1)]
