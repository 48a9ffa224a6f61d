"""Plans carried out: the store, targets.yaml, the ledger, the engines and the journal, joined."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.execute.prewarm.builders import CHAT, asked, planned
from tests.kube.conftest import Cluster, cluster  # noqa: F401 - the fixture

from gangplan import plan
from gangplan.config import Settings, read_fleet, write_fleet
from gangplan.errors import NotFoundError, RejectedError
from gangplan.reserve import open_ledger
from gangplan.testing import a_forecast, a_plan, a_pool
from gangplan.tracking import Store
from gangplan.types import CapacityCalendar, CapacityInterval, Fleet, GangRequest, PlanId, PodSet
from gangplan.workflows import open_execution

POOL = a_pool("h100-owned", max_nodes=4)
HPA = "/apis/autoscaling/v2/namespaces/web/horizontalpodautoscalers/chat"


def publish(store: Store, now: datetime, *nodes: int) -> None:
    """Publish a plan of the pool's nodes from now on."""
    ahead = a_forecast({("vision", "throughput", "h100"): [4.0] * 24}, now)
    hours = [*nodes, *[nodes[-1]] * (24 - len(nodes))]
    kept = plan.log_plan(a_plan(now, {POOL.name: hours}, [POOL]), ahead, store)
    plan.mark(store, kept, "published", "by a test")


@pytest.fixture
def settings(tmp_path: Path, mlflow_store: Store) -> Settings:
    """A home whose fleet has three nodes of the pool."""
    found = Settings(home=tmp_path)
    write_fleet(found.fleet_file, Fleet(pools=(POOL,), nodes={POOL.name: 3}))
    return found


def test_nodes_of_the_ledgers_gangs_stay(settings: Settings, mlflow_store: Store, now: datetime) -> None:
    """A gang on the pool's two nodes holds them above the plan, by its name; without it they go."""
    publish(mlflow_store, now, 0)
    offered = CapacityInterval(pool=POOL.name, start=now, end=now + timedelta(days=1), nodes=3)
    gang = GangRequest(
        request_key="nightly",
        tenant="vision",
        pod_sets=(PodSet(count=2, gpus_per_pod=4),),
        accelerators=(POOL.accelerator,),
        duration=timedelta(hours=1),
    )
    with open_ledger(settings.ledger_url, clock=settings.clock) as ledger:
        ledger.publish(CapacityCalendar(plan_id=PlanId("first"), pools=(POOL,), intervals=(offered,)))
        held = ledger.submit(gang)
        with open_execution(settings) as execution:
            carried = execution.once().carried
        assert read_fleet(settings.fleet_file).nodes == {POOL.name: 2}
        assert [step.held_by for step in carried.left] == [("nightly",)]
        assert held.token is not None
        ledger.release(held.id, held.token)
    with open_execution(settings) as execution:
        assert execution.once().reached
    assert read_fleet(settings.fleet_file).nodes == {POOL.name: 0}


def test_it_goes_on_until_the_hour_has_come(
    settings: Settings, mlflow_store: Store, now: datetime, move_clock: Callable[[datetime], None]
) -> None:
    """A later pass follows the plan's next hour, and a refusal ends the wait."""
    publish(mlflow_store, now, 1, 2, 4)
    for hour, nodes in enumerate((1, 2)):
        move_clock(now + timedelta(hours=hour))
        with open_execution(Settings(home=settings.home)) as execution:
            assert execution.until_reached(timeout=timedelta(), pause=lambda _: None, told=lambda _: None).reached
        assert read_fleet(settings.fleet_file).nodes == {POOL.name: nodes}
    write_fleet(settings.fleet_file, Fleet(pools=(a_pool(POOL.name, max_nodes=3),), nodes={POOL.name: 2}))
    move_clock(now + timedelta(hours=2))
    with open_execution(Settings(home=settings.home)) as execution:
        applied = execution.until_reached(timeout=timedelta(hours=1), pause=pytest.fail, told=lambda _: None)
    with pytest.raises(RejectedError, match=r"h100-owned: order 2 -> 4, refused by file: .* max_nodes of 3"):
        applied.require_taken()


def test_nothing_to_undo_is_said(settings: Settings, mlflow_store: Store, now: datetime) -> None:
    """Before anything was carried out there is no last run."""
    publish(mlflow_store, now, 1)
    with pytest.raises(NotFoundError, match="gangplan apply"), open_execution(settings, undo=True):
        pass


def test_servers_follow_after_the_pools(
    tmp_path: Path,
    mlflow_store: Store,
    cluster: Cluster,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `serving` of targets.yaml names is carried out in the same pass, and waits are told like those of pools."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    forecast = asked({CHAT: [8]})
    made = planned({"h100-owned": [2]}, forecast)
    settings = Settings(home=tmp_path)
    write_fleet(settings.fleet_file, made.fleet)
    plan.mark(mlflow_store, plan.log_plan(made, forecast, mlflow_store), "published", "")
    (tmp_path / "targets.yaml").write_text(
        "pools: {h100-owned: {nodes: {kind: file}}}\n"
        "serving:\n- {accelerator: h100, gpus_per_replica: 2, where: {kind: hpa, namespace: web, name: chat}}\n"
    )
    with open_execution(settings) as execution:
        assert execution.asks
        waits = execution.once()
        assert not waits.reached
        assert any("there is no HorizontalPodAutoscaler web/chat: make it" in line for line in waits.lines())
        cluster.objects[HPA] = {"metadata": {"name": "chat"}, "spec": {"minReplicas": 4, "maxReplicas": 9}}
        assert execution.once().reached
