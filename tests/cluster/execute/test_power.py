"""Power caps on a real control plane: the plan's labels, and the agent with its printed rights and a double of NVML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from gangplan.clock import floor_hour
from gangplan.config import Settings, write_fleet
from gangplan.errors import ForbiddenError
from gangplan.execute import Targets
from gangplan.execute.carrying import Carried
from gangplan.execute.green import power_manifests
from gangplan.execute.green.settings import PowerSettings
from gangplan.kube.api import Api, connect
from gangplan.plan import log_plan, mark
from gangplan.tables import PLAN_CAPS, PLAN_NODES
from gangplan.testing import a_forecast
from gangplan.tracking import Store
from gangplan.types import Fleet, Observation, Plan, Pool
from gangplan.workflows.execution.carrying_out import Pass
from gangplan.workflows.execution.followers import Followers
from gangplan.workflows.power import bring_caps
from tests.cluster.conftest import Space, until
from tests.cluster.execute.conftest import Field
from tests.command import caller
from tests.execute.green.driver import Machine, compiled, ended
from tests.feedback.builders import a_plan

CAP = "gangplan.io/power-cap-watts"


def planned(space: Space, pool: Pool, setting: int) -> Plan:
    """A plan that caps throughput work on a pool in this hour and the next."""
    hour = floor_hour(space.clock())
    row = {"pool": pool.name, "workload_class": "throughput", "knob": "cap_watts", "setting": setting}
    hours = [hour, hour + timedelta(hours=1)]  # a full hour may come meanwhile
    caps = pl.DataFrame(
        [{"hour": at, **row, "gpus": 8.0, "speed": 0.8, "watts": 390.0} for at in hours], schema=PLAN_CAPS
    )
    nodes = pl.DataFrame(
        [{"hour": hour + timedelta(hours=place), "pool": pool.name, "nodes": 2} for place in range(3)],
        schema=PLAN_NODES,
    )
    return replace(a_plan(), nodes=nodes, caps=caps)


def a_pass(plan: Plan, power: PowerSettings) -> Pass:
    """What a pass that found nothing to do hands on."""
    seen = Observation()
    carried = Carried(done=(), left=(), refused=(), unreachable={}, before=seen, observed=seen, goals=())
    targets = Targets(pools={}, power=power)
    return Pass(carried=carried, plan=plan, targets=targets, grants=(), at=plan.issued_at)


def brought(space: Space, plan: Plan, pool: Pool, *, dry_run: bool = False) -> list[str]:
    """Bring the labels to the plan; returns the nodes whose label was changed."""
    fleet = Fleet(pools=(pool,))
    return [step.node for step in bring_caps(replace(plan, fleet=fleet), space.api, space.clock(), dry_run=dry_run)]


def label(space: Space, node: str) -> str:
    """A node's label as it stands."""
    return str(space.api.get(f"/api/v1/nodes/{node}")["metadata"]["labels"].get(CAP, ""))


@pytest.fixture
def least(space: Space, tmp_path: Path) -> Path:
    """A kubeconfig with the rights that `gangplan power manifests` prints for the agent, and no others."""
    for item in power_manifests(space.name):
        if item["kind"] == "DaemonSet":  # checked by the API server; it would run nothing here
            path = f"/apis/apps/v1/namespaces/{space.name}/daemonsets/{item['metadata']['name']}"
            space.api.apply(path, item, dryRun="All")
    space.give(power_manifests(space.name))
    return space.log_in("gangplan-power", tmp_path / "kubeconfig")


@pytest.fixture
def machine(least: Path, tmp_path: Path) -> Iterator[Machine]:
    """The machine of a node."""
    made = Machine(library=compiled(tmp_path), memory=tmp_path / "gpus", kubeconfig=least)
    yield made
    made.end()


def test_the_plans_cap_reaches_the_gpus_of_the_gangs_node(ground: Field, machine: Machine) -> None:
    """Label, agent, GPU: through kill -9, a restart of the machine, another hour's cap, and the end of the gang."""
    space, pool = ground.space, ground.pool(nodes=2)
    first, second = f"{pool.name}-0", f"{pool.name}-1"
    agent = machine.agent(first)
    ground.pod("train", first, **{"gangplan.io/workload-class": "throughput"})
    ground.pod("serve", second, **{"gangplan.io/workload-class": "latency"})
    plan = planned(space, pool, 400)
    until(lambda: brought(space, plan, pool, dry_run=True) == [first])
    assert label(space, first) == ""
    assert brought(space, plan, pool) == [first]
    assert brought(space, plan, pool) == []
    until(lambda: machine.limits() == {400})
    agent.kill()
    agent.wait()
    assert machine.limits() == {400}
    machine.restart()
    agent = machine.agent(first)
    until(lambda: machine.limits() == {400}, 60, why="the next agent does not set the cap again")
    assert brought(space, planned(space, pool, 500), pool) == [first]
    until(lambda: machine.limits() == {500})
    space.api.call("DELETE", f"/api/v1/namespaces/{space.name}/pods/train", {"gracePeriodSeconds": 0})
    until(lambda: brought(space, plan, pool) == [first])
    assert (label(space, first), label(space, second)) == ("", "")
    until(lambda: machine.limits() == {700})
    assert ended(agent)[0] == 0


def test_the_agent_reads_its_node_and_has_no_other_right(least: Path, ground: Field) -> None:
    """It may not list nodes, write a label, or see pods."""
    api: Api = connect(kubeconfig=str(least))
    pool = ground.pool(nodes=1)
    node = f"/api/v1/nodes/{pool.name}-0"
    assert api.get(node)["metadata"]["name"] == f"{pool.name}-0"
    for verb, path, body in (
        ("GET", "/api/v1/nodes", None),
        ("GET", "/api/v1/pods", None),
        ("PATCH", node, {"metadata": {"labels": {CAP: "300"}}}),
    ):
        with pytest.raises(ForbiddenError):
            api.call(verb, path, body, kind="application/merge-patch+json")


def test_the_command_and_the_controllers_pass_bring_the_published_plans_caps(
    ground: Field,
    mlflow_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Shown first, then written for the pools that targets.yaml names; without `power` there a pass does nothing.

    A plan without caps leaves no label of an earlier one.
    """
    space, pool = ground.space, ground.pool(nodes=1)
    node = f"{pool.name}-0"
    ground.pod("train", node, **{"gangplan.io/workload-class": "throughput"})
    settings = Settings(home=tmp_path, mlflow=mlflow_store.uri)
    write_fleet(settings.fleet_file, Fleet(pools=(pool,), nodes={pool.name: 1}))
    made = replace(planned(space, pool, 400), fleet=Fleet(pools=(pool,)))
    kept = log_plan(made, a_forecast({("ann", "throughput", "h100"): [8.0] * 3}, start=made.issued_at), mlflow_store)
    mark(mlflow_store, kept, "published", "")
    for name, value in {"HOME": tmp_path, "MLFLOW": mlflow_store.uri}.items():
        monkeypatch.setenv(f"GANGPLAN_{name}", str(value))
    monkeypatch.setenv("KUBECONFIG", str(space.kubeconfig))
    call = caller(monkeypatch, capsys)
    said = until(lambda: found if (found := call("power", "caps", "--json").json)["steps"] else None)
    assert (said["written"], [step["node"] for step in said["steps"]], label(space, node)) == (False, [node], "")
    followers = Followers(settings=settings, api=space.api, may_begin=lambda: None, may_write=lambda: None)
    followers.cap(a_pass(kept, PowerSettings()))
    assert label(space, node) == ""
    followers.cap(a_pass(kept, PowerSettings(pools=(pool.name,))))
    assert label(space, node) == "400"
    assert "every node has the cap" in call("power", "caps", "--yes").out
    followers.cap(a_pass(replace(kept, caps=None), PowerSettings(pools=(pool.name,))))
    assert label(space, node) == ""
