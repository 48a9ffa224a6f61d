"""The controller without a cluster: the newest published plan is carried out into the fleet file, pass after pass."""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gangplan import plan
from gangplan.clock import floor_hour
from gangplan.config import Settings, present, read_fleet, write_fleet
from gangplan.errors import ConflictError, InputError
from gangplan.testing import a_forecast, a_plan, a_pool
from gangplan.tracking import Store
from gangplan.types import Fleet, PlanId
from gangplan.workflows import Controller, ControllerOptions, last_pass

pytestmark = pytest.mark.present("a controller's leases and pauses are those of the machine's clock")
POOLS = (a_pool("a", max_nodes=6), a_pool("b", max_nodes=6))
OPTIONS = ControllerOptions(every_s=0.1, listen="127.0.0.1:0")


@pytest.fixture
def settings(tmp_path: Path, mlflow_store: Store) -> Settings:
    """A home with a fleet of two pools, of which one has a node."""
    made = Settings(home=tmp_path, mlflow=mlflow_store.uri)
    write_fleet(made.fleet_file, Fleet(pools=POOLS, nodes={"a": 1, "b": 0}))
    return made


def publish(store: Store, name: str, **nodes: int) -> None:
    """Keep and publish a plan of so many nodes by pool, for some hours from now."""
    start = floor_hour(present())
    made = a_plan(start, {pool: [count] * 6 for pool, count in nodes.items()}, POOLS)
    kept = plan.log_plan(
        replace(made, plan_id=PlanId(name)),
        a_forecast({("vision", "throughput", "h100"): [1.0] * 6}, start=start),
        store,
    )
    plan.mark(store, kept, "published", "")


def until(good: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + 60
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def running(settings: Settings) -> Iterator[Controller]:
    """A controller that runs beside the test and then ends well."""
    made, stop, ended = Controller(settings, OPTIONS), threading.Event(), list[bool]()
    thread = threading.Thread(target=lambda: ended.append(made.run(stop)))
    thread.start()
    yield made
    stop.set()
    thread.join(30)
    assert ended == [True]


def test_the_newest_published_plan_is_carried_out(
    settings: Settings, mlflow_store: Store, request: pytest.FixtureRequest
) -> None:
    """A new one when it is published; what was done stands in the figures and, in short, beside the lock."""
    publish(mlflow_store, "plan-1", a=2, b=3)
    made: Controller = request.getfixturevalue("running")
    until(lambda: read_fleet(settings.fleet_file).nodes == {"a": 2, "b": 3})
    publish(mlflow_store, "plan-2", a=4, b=3)
    until(lambda: read_fleet(settings.fleet_file).nodes["a"] == 4)
    until(lambda: made.metrics.get("gangplan_ordered_nodes", "a") == 4)
    assert made.metrics.get("gangplan_planned_nodes", "b") == 3
    assert made.metrics.get("gangplan_leader") == 1
    assert made.metrics.get("gangplan_steps_total", "order", "done") == 3
    said = last_pass(settings)
    assert (said["plan"], said["reached"], said["refused"]) == ("plan-2", True, 0)


def test_a_wrong_file_or_no_plan_stops_nothing_for_good(
    settings: Settings, mlflow_store: Store, running: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is named in the log, and when it is mended the work goes on."""
    caplog.set_level(logging.WARNING, "gangplan")
    until(lambda: "no finished run" in caplog.text)
    settings.home.joinpath("targets.yaml").write_text("pools: {a: {nodes: {kind: wrong}}}\n")
    publish(mlflow_store, "plan-1", a=2, b=3)
    until(lambda: "is no kind that there is" in caplog.text)
    settings.home.joinpath("targets.yaml").write_text("pools: {a: {nodes: {kind: file}}}\n")
    until(lambda: read_fleet(settings.fleet_file).nodes["a"] == 2)
    assert read_fleet(settings.fleet_file).nodes["b"] == 0  # it is in no target
    assert running.metrics.get("gangplan_failed_rounds_total", "carry out") >= 2


def test_all_the_work_once(settings: Settings, mlflow_store: Store) -> None:
    """As a CronJob does it; where another one leads, that is said and nothing is done."""
    publish(mlflow_store, "plan-1", a=2, b=3)
    Controller(settings, OPTIONS).once()
    assert read_fleet(settings.fleet_file).nodes == {"a": 2, "b": 3}
    write_fleet(settings.fleet_file, Fleet(pools=POOLS, nodes={"a": 0, "b": 0}))
    with settings.home.joinpath("controller.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="another one leads"):
            Controller(settings, replace(OPTIONS, lease_s=-4)).once()
    assert read_fleet(settings.fleet_file).nodes == {"a": 0, "b": 0}


def test_a_wrong_address_is_named_before_anything_is_done(settings: Settings) -> None:
    """The port is somebody else's."""
    with pytest.raises(InputError, match="--listen"):
        Controller(settings, replace(OPTIONS, listen="nowhere")).run(threading.Event())
    assert not settings.home.joinpath("controller.lock").exists()
