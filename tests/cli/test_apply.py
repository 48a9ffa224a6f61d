"""`gangplan apply`: the published plan carried out, shown first, kept, and taken back."""

from __future__ import annotations

import fcntl
from datetime import datetime
from pathlib import Path

import pytest
from tests.command import Call, caller, widen
from tests.plan.builders import pool_of, wave

from gangplan import plan
from gangplan.config import read_fleet, write_fleet
from gangplan.testing import a_forecast, a_plan
from gangplan.tracking import Store
from gangplan.types import Fleet

POOLS = (pool_of("a", "h100", max_nodes=4, price_per_node_hour=10), pool_of("b", "h100", max_nodes=4))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a fleet of one node of pool a, and three of pool b."""
    write_fleet(tmp_path / "fleet.yaml", Fleet(pools=POOLS, nodes={"a": 1, "b": 3}))
    return tmp_path


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command as a shell would, in this process."""
    monkeypatch.setenv("GANGPLAN_HOME", str(home))
    widen(monkeypatch, 160)
    return caller(monkeypatch, capsys)


def publish(store: Store, now: datetime, a: int, b: int) -> None:
    """Publish a plan of so many nodes."""
    ahead = a_forecast({("vision", "throughput", "h100"): wave(12, 0.5, 24)}, now)
    kept = plan.log_plan(a_plan(now, {"a": [a] * 24, "b": [b] * 24}, POOLS), ahead, store)
    plan.mark(store, kept, "published", "by a test")


def test_the_fleet_file_is_brought_to_the_plan_without_a_question(
    call: Call, home: Path, mlflow_store: Store, now: datetime
) -> None:
    """A dry run shows the steps and what nodes cost; then they are taken, once; the run is kept, and taken back."""
    publish(mlflow_store, now, a=3, b=2)
    shown = call("apply", "--dry-run", "--json").json
    steps = [(step["kind"], step["pool"], step["before"], step["after"]) for step in shown["done"]]
    assert steps == [("order", "a", 1, 3), ("remove", "b", 3, 2)]
    price = POOLS[1].price_per_node_hour
    assert shown["cost_per_hour"] == {"before": 10 + 3 * price, "after": 30 + 2 * price}
    assert read_fleet(home / "fleet.yaml").nodes == {"a": 1, "b": 3}
    assert call("apply", "--status").code == 3

    done = call("apply")
    assert (done.code, done.err) == (0, "")
    assert "2 done, 0 wait, 0 refused" in done.out
    assert read_fleet(home / "fleet.yaml").nodes == {"a": 3, "b": 2}
    assert "nothing to change" in call("apply").out
    kept = call("apply", "--status", "--json").json
    assert [(step["pool"], step["outcome"]) for step in kept["steps"]] == [("a", "done"), ("b", "done")]
    assert kept["ended"]

    assert "what was there before 2026-03-02T09:00:00Z has 1 node" in call("apply", "--undo", "--dry-run").out
    assert call("apply", "--undo").code == 0
    assert read_fleet(home / "fleet.yaml").nodes == {"a": 1, "b": 3}
    assert "what was there before" in call("apply", "--status").out


def test_a_refused_step_is_named_and_the_command_fails(
    call: Call, home: Path, mlflow_store: Store, now: datetime
) -> None:
    """The fleet allows less than the plan has; the other pool is brought to the plan."""
    publish(mlflow_store, now, a=4, b=2)
    smaller = tuple(pool_of(each.name, "h100", max_nodes=3) for each in POOLS)
    write_fleet(home / "fleet.yaml", Fleet(pools=smaller, nodes={"a": 1, "b": 3}))
    refused = call("apply", "--json")
    assert refused.code == 1
    assert [(step["pool"], step["engine"]) for step in refused.json["refused"]] == [("a", "file")]
    assert "max_nodes of 3" in refused.json["refused"][0]["said"]
    assert read_fleet(home / "fleet.yaml").nodes == {"a": 1, "b": 2}


def test_only_named_pools_are_touched_and_what_is_in_the_way_is_said(
    call: Call, home: Path, mlflow_store: Store, now: datetime
) -> None:
    """A targets file beside the fleet file is used by itself; an engine that is none, and a wrong file are refused."""
    publish(mlflow_store, now, a=3, b=2)
    (home / "targets.yaml").write_text("pools:\n  a: {nodes: {kind: file}}\n")
    assert call("apply", "--to", "kueue", "--dry-run", "--json").json["done"] == []
    assert call("apply", "--check").out.strip() == "nothing is in the way"
    assert call("apply", "--to", "file", "--wait").code == 0
    assert read_fleet(home / "fleet.yaml").nodes == {"a": 3, "b": 3}
    assert "use one of file, kueue, cluster, ec2, gce, serving" in call("apply", "--to", "slurm").err
    wrong = home / "others.yaml"
    wrong.write_text("pools:\n  z: {nodes: {kind: file}}\n")
    assert "others.yaml line 2" in call("apply", "--targets", str(wrong)).err


def test_a_controller_that_leads_is_named(call: Call, home: Path, mlflow_store: Store, now: datetime) -> None:
    """Both may write; whoever applies by hand knows of it, in words and in JSON."""
    publish(mlflow_store, now, a=3, b=2)
    with (home / "controller.lock").open("w") as lock:
        assert call("apply", "--dry-run", "--json").json["controller"] == ""
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "a controller leads: the holder of" in call("apply", "--dry-run").out
        assert call("apply", "--json").json["controller"].endswith("controller.lock")
        assert "nothing to change" in call("apply").out
    assert "a controller leads" not in call("apply").out


def test_engines_that_cost_money_are_asked_for_first(
    call: Call, home: Path, mlflow_store: Store, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal `--yes` must say it, and nothing was written; a person may say no, or yes."""
    from gangplan.workflows import Execution

    publish(mlflow_store, now, a=3, b=3)
    monkeypatch.setattr(Execution, "asks", True)  # as if an engine of a cloud were among them
    refused = call("apply")
    assert refused.code == 2
    assert "--yes: '' is missing, and there is no terminal to ask at" in refused.err
    assert read_fleet(home / "fleet.yaml").nodes == {"a": 1, "b": 3}
    assert call("apply", "--yes").code == 0
    assert read_fleet(home / "fleet.yaml").nodes == {"a": 3, "b": 3}
