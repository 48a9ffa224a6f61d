"""Serving as a whole: the guide's list, the command, the least rights, and what is refused."""

from __future__ import annotations

import re
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from gangplan import plan
from gangplan.config import Settings, write_fleet
from gangplan.errors import ForbiddenError
from gangplan.execute.prewarm import (
    Buffer,
    Hpa,
    Keda,
    KServe,
    Serving,
    ServingTarget,
)
from gangplan.kube.access import executor_manifests
from gangplan.kube.api import Api, connect
from gangplan.tracking import Store
from gangplan.types import Fleet
from gangplan.workflows.execution.carrying_out import CarryingOut
from tests.cluster.conftest import Space, until
from tests.cluster.execute.serving.servers import (
    DEPLOYMENTS,
    HPAS,
    a_deployment,
    a_scaled_object,
    a_service,
    an_hpa,
    carry_out,
    carrying,
    one,
)
from tests.command import caller
from tests.execute.prewarm import guide
from tests.execute.prewarm.builders import CHAT, POOL, asked, planned


@pytest.mark.usefixtures("served")
def test_the_list_of_the_guide_is_carried_out(space: Space) -> None:
    """Each entry as the page says: by tenant, by level, within bounds, with what is left kept free."""
    text = re.sub("namespace: (web|search)", f"namespace: {space.name}", guide.listed())
    text = text.replace("name: answers", "name: chat").replace(
        "kind: buffer,", f"kind: placeholders, namespace: {space.name},"
    )
    text = text.replace("filled_in: web", f"filled_in: {space.name}")
    deployment = a_deployment(space)
    an_hpa(space, maxReplicas=20), a_scaled_object(space)
    until(lambda: space.api.get(deployment)["status"].get("replicas") == 1)
    target = ServingTarget(guide.read(text, Fleet(pools=(POOL,))), Fleet(pools=(POOL,)), space.api)
    forecast = asked({CHAT: [20], ("search", "latency", "h100"): [20]})
    made = planned({"h100-owned": [12]}, forecast)
    found = carrying(target, made, forecast)
    assert len(found.once(dry_run=True).done) == 3
    done = found.once()
    # 20 GPUs are 10 replicas of 2, the 95 % quantile of 25 is 4 replicas of 8; of 8 nodes for 60 GPUs 5 have room.
    assert ([step.after for step in done.done], done.reached) == ([10, 4, 5], True)
    assert found.once().done == ()
    found.more = lambda _: target.steps_back(done.done, "what was there before")
    assert [step.after for step in found.once().done] == [1, 0, 0]


def test_the_command_shows_carries_out_and_takes_back(
    space: Space,
    tmp_path: Path,
    mlflow_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`gangplan apply --to serving`, as the guide has it, beside pools whose nodes stand in the fleet file."""
    path = an_hpa(space)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    forecast = asked({CHAT: [8, 8, 8]}, now)
    made = planned({"h100-owned": [2, 2, 2]}, forecast)
    write_fleet(tmp_path / "fleet.yaml", made.fleet)
    where = {"kind": "hpa", "namespace": space.name, "name": "chat"}
    entry = {"accelerator": "h100", "gpus_per_replica": 2, "where": where}
    targets = {"pools": {"h100-owned": {"nodes": {"kind": "file"}}}, "serving": [entry]}
    (tmp_path / "targets.yaml").write_text(yaml.safe_dump(targets))
    plan.mark(mlflow_store, plan.log_plan(made, forecast, mlflow_store), "published", "")
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(space.kubeconfig))
    call = caller(monkeypatch, capsys)
    shown = call("apply", "--to", "serving", "--dry-run", "--json").json
    assert [(step["pool"], step["before"], step["after"]) for step in shown["done"]] == [
        (f"hpa {space.name}/chat", 1, 4)
    ]
    assert call("apply", "--to", "serving", "--yes").code == 0
    assert space.api.get(path)["spec"]["minReplicas"] == 4
    assert call("apply", "--to", "serving", "--yes", "--json").json["reached"]
    assert call("apply", "--to", "serving", "--undo", "--yes").code == 0
    assert space.api.get(path)["spec"]["minReplicas"] == 1
    assert call("apply", "--check").code == 0
    out = CarryingOut(settings=Settings(), grants=tuple, step=nullcontext, may_write=lambda: None, heard=lambda: None)
    try:
        assert out.once().carried.reached  # as the controller does it, pass after pass
    finally:
        out.close()
    assert space.api.get(path)["spec"]["minReplicas"] == 4


@pytest.fixture
def least(space: Space, tmp_path: Path) -> Api:
    """The cluster as our service account sees it: with the rights of the ledger, the reader and serving."""
    space.give_printed_rights()
    space.give(executor_manifests(space.name))
    return connect(kubeconfig=str(space.log_in("gangplan", tmp_path / "kubeconfig")))


@pytest.mark.usefixtures("served")
def test_the_least_rights_suffice_for_every_kind(space: Space, least: Api) -> None:
    """And give nothing else: no pod, no Deployment elsewhere."""
    an_hpa(space), a_scaled_object(space), a_service(space)
    names = {"namespace": space.name, "name": "chat"}
    room = {"namespace": space.name, "pool": "h100-owned", "filled_by": "app=chat"}
    for where in (
        Hpa(**names), Keda(**names), KServe(namespace=space.name, name="llm", take_over=True),
        Buffer(name="nodes", kind="capacity_buffer", **room), Buffer(name="room", kind="placeholders", **room),
    ):  # fmt: skip
        target = one(space, where, api=least)
        carry_out(target, 8)
        assert all("no autoscaler has taken" in said for said in target.check())
    for verb, path in (("DELETE", f"{HPAS.format(space.name)}/chat"), ("GET", DEPLOYMENTS.format("default"))):
        with pytest.raises(ForbiddenError):
            least.call(verb, path)


@pytest.mark.usefixtures("served")
def test_what_is_refused_holds_up_no_other(space: Space, least: Api) -> None:
    """A missing right, object or namespace is said with the step, and the other minimums are written."""
    path = an_hpa(space)
    names = {"namespace": space.name, "name": "chat"}
    lost = Buffer(kind="placeholders", name="lost", namespace=f"{space.name}-gone", pool="h100-owned")
    serving = [Serving(where=where, accelerator="h100", gpus_per_replica=2) for where in (Hpa(**names), Keda(**names))]
    fleet = Fleet(pools=(POOL,))
    forecast = asked({CHAT: [8]})
    made = planned({POOL.name: [8]}, forecast)
    both = ServingTarget([*serving, Serving(where=lost, accelerator="h100")], fleet, space.api)
    done = carrying(both, made, forecast).once()
    assert [(step.pool, step.after) for step in done.done] == [(f"hpa {space.name}/chat", 4)]
    assert [taken.words.partition(": ")[2].split()[0] for taken in done.refused] == ["namespaces"]
    assert "there is no ScaledObject" in done.left[0].waits_for
    role = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gangplan-executor-serving"
    space.api.delete(f"{role}-{space.name}")
    blind = ServingTarget(serving[:1], fleet, least)

    def forbidden() -> bool:
        """Whether the rights are gone by now."""
        (step,) = carrying(blind, made, forecast).once().left or (None,)
        return step is not None and "gangplan kube manifests --executor" in step.waits_for

    until(forbidden)
    assert "is not allowed" in blind.check()[0]
    assert space.api.get(path)["spec"]["minReplicas"] == 4
