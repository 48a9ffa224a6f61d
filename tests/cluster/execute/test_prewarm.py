"""Serving ahead of demand on a real control plane: HPAs by their controller, gangs over placeholders by the scheduler.

KEDA, KServe and what makes nodes for a CapacityBuffer do not run here: their kinds do.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml

from gangplan import plan
from gangplan.config import write_fleet
from gangplan.errors import ConflictError, ForbiddenError, RejectedError
from gangplan.execute import Carrying, Engine
from gangplan.execute.kubernetes import FixedNodes, open_cluster
from gangplan.execute.prewarm import (
    Buffer,
    Hpa,
    Keda,
    KServe,
    Replicas,
    Serving,
    ServingTarget,
    minimums,
)
from gangplan.kube.access import executor_manifests
from gangplan.kube.api import Api, connect
from gangplan.testing import NOW, a_pool
from gangplan.tracking import Store
from gangplan.types import Fleet, Forecast, Plan, Step
from tests.cluster.conftest import RIGHTS, Space, until
from tests.cluster.execute import kinds
from tests.cluster.objects import a_job
from tests.cluster.servers import fleet
from tests.command import caller
from tests.execute.prewarm import guide
from tests.execute.prewarm.builders import CHAT, POOL, asked, planned

Object = dict[str, Any]

KEDA = "/apis/keda.sh/v1alpha1/namespaces/{0}/scaledobjects"
KSERVE = "/apis/serving.kserve.io/v1beta1/namespaces/{0}/inferenceservices"
HPAS = "/apis/autoscaling/v2/namespaces/{0}/horizontalpodautoscalers"
BUFFERS = "/apis/autoscaling.x-k8s.io/v1beta1/namespaces/{0}/capacitybuffers"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{0}/deployments"
PODS = "/api/v1/namespaces/{0}/pods"
PAUSED = "autoscaling.keda.sh/paused-replicas"
TAINT = {"key": "gangplan.io/own-test", "value": "yes", "effect": "NoSchedule"}
NODES = 3


@pytest.fixture(scope="module")
def served(api: Api) -> None:
    """The kinds of KEDA, KServe and CapacityBuffer."""
    if os.environ.get("KUBECONFIG") and not kinds.served(api):
        pytest.skip("the cluster of KUBECONFIG lacks KEDA, KServe or CapacityBuffer")
    kinds.serve(api)
    until(lambda: kinds.served(api))


def one(space: Space, where: Any, *, api: Api | None = None, **changes: Any) -> ServingTarget:
    """Return a target of one entry."""
    size = {} if isinstance(where, Buffer) else {"gpus_per_replica": 2}
    entry = Serving(where=where, accelerator="h100", **size, **changes)
    pools = [POOL] if not isinstance(where, Buffer) else [a_pool(where.pool, accelerator="h100", gpus_per_node=8)]
    return ServingTarget([entry], Fleet(pools=tuple(pools)), api or space.api)


def seen(target: ServingTarget) -> Replicas:
    """Return what the only entry has."""
    return target.look()[0]


def steps(target: ServingTarget, gpus: float, nodes: int = 8) -> tuple[Step, ...]:
    """Return the steps to a plan that keeps so many GPUs for the only entry."""
    entry = next(iter(target.serving.values()))
    forecast = asked({CHAT: [gpus]})
    pools = (
        entry.pools_in(Fleet(pools=(POOL,)))
        if not isinstance(entry.where, Buffer)
        else [a_pool(entry.where.pool, accelerator="h100", gpus_per_node=8)]
    )
    made = planned({pools[0].name: [nodes]}, forecast, pools=pools)
    return minimums(made, forecast, list(target.serving.values()), target.look(), NOW)


def carry_out(target: ServingTarget, gpus: float, nodes: int = 8) -> Step:
    """Take the only step, after the API server has checked it; then nothing is left to do."""
    (step,) = steps(target, gpus, nodes)
    assert step.waits_for == ""
    before = seen(target)
    target.apply(step, dry_run=True)
    assert seen(target) == before
    target.apply(step)
    assert steps(target, gpus, nodes) == ()
    target.apply(step)  # a step that was taken changes nothing
    return step


# ---------------------------------------------------------------- HorizontalPodAutoscaler


def an_hpa(space: Space, name: str = "chat", *, by: str = "", **spec: Any) -> str:
    """Make an HPA that says no minimum, as a GitOps tool applies it; return its path."""
    path = f"{HPAS.format(space.name)}/{name}"
    body = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": space.name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "maxReplicas": 10,
            **spec,
        },
    }
    space.api.apply(path, body, fieldManager=by or "gitops", force="true")
    return path


def a_deployment(space: Space, name: str = "chat") -> str:
    """Make a Deployment of one replica without GPUs; return its path."""
    body = {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "tolerations": [fleet.TOLERATION],
                    "containers": [{"name": "main", "image": "busybox", "resources": {"requests": {"cpu": "1m"}}}],
                },
            },
        },
    }
    space.api.create(DEPLOYMENTS.format(space.name), body)
    return f"{DEPLOYMENTS.format(space.name)}/{name}"


def test_a_raised_minimum_brings_replicas_without_metrics(space: Space) -> None:
    """The real controller scales the Deployment; we never write to that."""
    deployment, path = a_deployment(space), an_hpa(space)
    target = one(space, Hpa(namespace=space.name, name="chat"))
    step = carry_out(target, 8)
    assert (step.before, step.after) == (1, 4)
    until(lambda: space.api.get(deployment)["spec"]["replicas"] == 4, 60)
    managers = {mark["manager"] for mark in space.api.get(deployment)["metadata"]["managedFields"]}
    assert "gangplan-execute" not in managers
    target.observe()
    (back,) = target.steps_back([step], "what was there before")
    target.apply(back)
    assert space.api.get(path)["spec"]["minReplicas"] == 1


def test_0_is_written_as_1_where_nothing_would_wake_it(space: Space) -> None:
    """Without an Object or External metric, and on a cluster without the feature gate, each is said."""
    an_hpa(space)
    target = one(space, Hpa(namespace=space.name, name="chat"))
    carry_out(target, 8)
    step = carry_out(target, 0)
    assert step.after == 1
    assert "no metric of type Object or External" in step.why
    external = {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "1"}}
    an_hpa(space, metrics=[{"type": "External", "external": external}])
    carry_out(target, 8)
    assert "feature gate HPAScaleToZero" in carry_out(target, 0).why


def test_a_minimum_stays_within_its_own_maximum(space: Space) -> None:
    """More would be refused; it is said, and the check names it."""
    an_hpa(space)
    target = one(space, Hpa(namespace=space.name, name="chat"), most=20)
    step = carry_out(target, 60)
    assert step.after == 10
    assert "its own maximum of 10 is below the 20 that the plan keeps: raise that" in step.why
    assert [said.partition(".")[2] for said in target.check()] == [
        "most: 20 is more than its own maximum of 10: raise that"
    ]


def test_a_minimum_of_somebody_else_is_never_forced(space: Space) -> None:
    """It is shown with its owner, refused on the server's word, and taken over only where that is told."""
    path = an_hpa(space, by="argocd", minReplicas=2)
    where = Hpa(namespace=space.name, name="chat")
    target = one(space, where)
    (step,) = steps(target, 8)
    assert f".spec.minReplicas of hpa {space.name}/chat belongs to argocd: leave it out" in step.waits_for
    assert target.check() == (f"serving[{space.name}/chat]: {step.waits_for}",)
    with pytest.raises(RejectedError, match="belongs to argocd"):
        target.apply(step)
    assert space.api.get(path)["spec"]["minReplicas"] == 2
    carry_out(one(space, replace(where, take_over=True)), 8)
    assert space.api.get(path)["spec"] | {} == space.api.get(path)["spec"] | {"minReplicas": 4, "maxReplicas": 10}


def test_a_number_that_changed_meanwhile_is_not_overwritten(space: Space) -> None:
    """Compare and swap: two controllers, or a person, and us."""
    path = an_hpa(space)
    target = one(space, Hpa(namespace=space.name, name="chat", take_over=True))
    (step,) = steps(target, 8)
    space.api.merge(path, {"spec": {"minReplicas": 3}}, fieldManager="kubectl-edit")
    with pytest.raises(ConflictError, match="has a minimum of 3, not of 1: look again"):
        target.apply(step)
    assert space.api.get(path)["spec"]["minReplicas"] == 3


def test_what_is_not_there_is_said(space: Space) -> None:
    """And keeps nobody else from being served."""
    target = one(space, Hpa(namespace=space.name, name="chat"))
    (step,) = steps(target, 8)
    assert step.waits_for == f"there is no HorizontalPodAutoscaler {space.name}/chat: make it"
    with pytest.raises(RejectedError, match="make it"):
        target.apply(step)


def test_what_else_is_written_to_an_object_holds_nothing_up(space: Space) -> None:
    """Its status and its labels change all the time; only its minimum matters."""
    path = an_hpa(space)
    target = one(space, Hpa(namespace=space.name, name="chat"))
    done = Event()

    def write() -> None:
        """Write labels until told to stop."""
        number = 0
        while not done.wait(0.01):
            number += 1
            space.api.merge(path, {"metadata": {"labels": {"number": str(number)}}}, fieldManager="others")

    with ThreadPoolExecutor(1) as threads:
        others = threads.submit(write)
        try:
            for gpus in (8, 4) * 5:
                carry_out(target, gpus)
        finally:
            done.set()
        others.result()


# ---------------------------------------------------------------- KEDA


def a_scaled_object(space: Space, kind: str = "prometheus", **spec: Any) -> str:
    """Make a ScaledObject with one trigger; return its path."""
    path = f"{KEDA.format(space.name)}/chat"
    body = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "chat", "namespace": space.name},
        "spec": {
            "scaleTargetRef": {"name": "chat"},
            "triggers": [{"type": kind, "metadata": {"threshold": "5"}}],
            **spec,
        },
    }
    space.api.apply(path, body, fieldManager="gitops")
    return path


@pytest.mark.usefixtures("served")
def test_keda_gets_its_own_minimum_and_may_be_held(space: Space) -> None:
    """Not the minimum of the HPA that it makes; a hold is ended by us alone, and never that of a person."""
    path = a_scaled_object(space)
    where = Keda(namespace=space.name, name="chat")
    target, held = one(space, where), one(space, replace(where, hold=True))
    assert carry_out(target, 8).before == 0
    assert carry_out(target, 0).after == 0
    step = carry_out(held, 8)
    assert (step.before, step.after) == (0, 4)
    item = space.api.get(path)
    assert (item["metadata"]["annotations"][PAUSED], item["spec"]["minReplicaCount"]) == ("4", 4)
    carry_out(target, 8)  # no longer held
    assert PAUSED not in space.api.get(path)["metadata"].get("annotations", {})
    space.api.merge(path, {"metadata": {"annotations": {PAUSED: "0"}}}, fieldManager="kubectl-edit")
    carry_out(target, 4)
    assert space.api.get(path)["metadata"]["annotations"][PAUSED] == "0"
    (step,) = steps(held, 8)
    assert f"{PAUSED} of keda {space.name}/chat belongs to kubectl-edit" in step.waits_for


@pytest.mark.usefixtures("served")
def test_keda_takes_no_0_that_would_wake_nobody(space: Space) -> None:
    """0 replicas use no CPU, and the number for idle times is lower than the minimum. Its HPA is not ours to write."""
    path = a_scaled_object(space, "cpu")
    target = one(space, Keda(namespace=space.name, name="chat"))
    step = carry_out(target, 0)
    assert (step.after, "no trigger but CPU and memory" in step.why) == (1, True)
    a_scaled_object(space, idleReplicaCount=0)
    carry_out(target, 8)
    step = carry_out(target, 0)
    assert (step.after, "above its idleReplicaCount of 0" in step.why) == (1, True)
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "chat", "controller": True}
    made = an_hpa(space, "keda-hpa-chat")
    space.api.merge(made, {"metadata": {"ownerReferences": [{**owner, "uid": space.api.get(path)["metadata"]["uid"]}]}})
    (step,) = steps(one(space, Hpa(namespace=space.name, name="keda-hpa-chat")), 8)
    assert step.waits_for == "it is made by ScaledObject chat, which takes changes back: name that"


# ---------------------------------------------------------------- KServe


def a_service(space: Space, **notes: str) -> str:
    """Make an InferenceService with a model; return its path."""
    path = f"{KSERVE.format(space.name)}/llm"
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://some/model"}
    body = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "llm", "namespace": space.name, "annotations": notes},
        "spec": {"predictor": {"model": model, "maxReplicas": 8}},
    }
    space.api.apply(path, body, fieldManager="gitops", force="true")
    return path


@pytest.mark.usefixtures("served")
def test_kserve_gets_its_minimum_and_keeps_its_model(space: Space) -> None:
    """Its smaller CRD holds `spec` as one value, so that whoever wrote the model owns the number."""
    path = a_service(space)
    where = KServe(namespace=space.name, name="llm")
    (step,) = steps(one(space, where), 8)
    assert "belongs to gitops" in step.waits_for
    target = one(space, replace(where, take_over=True))
    carry_out(target, 8)
    predictor = space.api.get(path)["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (4, 8)
    assert predictor["model"]["storageUri"] == "hf://some/model"


@pytest.mark.usefixtures("served")
def test_kserve_counts_0_as_1_without_knative(space: Space) -> None:
    """So 1 is written and said; with Knative it is 0."""
    path = a_service(space, **{"serving.kserve.io/deploymentMode": "RawDeployment"})
    target = one(space, KServe(namespace=space.name, name="llm", take_over=True))
    carry_out(target, 8)
    step = carry_out(target, 0)
    assert (step.after, "KServe counts 0 as 1" in step.why) == (1, True)
    space.api.merge(path, {"metadata": {"annotations": {"serving.kserve.io/deploymentMode": "Knative"}}})
    assert carry_out(target, 0).after == 0
    space.api.merge(path, {"metadata": {"annotations": {"serving.kserve.io/autoscalerClass": "external"}}})
    (step,) = steps(target, 8)
    assert "leaves its replicas to an autoscaler of yours" in step.waits_for


@pytest.mark.usefixtures("served")
def test_what_kserve_does_not_carry_on_is_found(space: Space) -> None:
    """Its controller does not run here, so the autoscaler that it would have made keeps its old minimum."""
    a_service(space)
    an_hpa(space, "llm-predictor")
    target = one(space, KServe(namespace=space.name, name="llm", take_over=True))
    assert target.check() == ()
    carry_out(target, 8)
    assert "has not given its minimum of 4 on to llm-predictor, which has 1" in target.check()[0]


# ---------------------------------------------------------------- buffers


@pytest.mark.usefixtures("served")
def test_a_capacity_buffer_where_it_is_served(space: Space) -> None:
    """With its PodTemplate of a whole node; it is lowered, and made anew in the shape of changed settings."""
    where = Buffer(namespace=space.name, name="room", pool="h100-owned")
    target = one(space, where)
    step = carry_out(target, 24)
    assert (step.before, step.after, seen(target).kind) == (0, 3, "capacity_buffer")
    buffer = space.api.get(f"{BUFFERS.format(space.name)}/room")
    assert buffer["spec"]["podTemplateRef"] == {"name": "room"}
    template = f"/api/v1/namespaces/{space.name}/podtemplates/room"
    assert space.api.get(template)["template"]["spec"]["containers"][0]["resources"]["limits"] == {fleet.GPU: "8"}
    assert carry_out(target, 8).after == 1
    tolerant = one(space, replace(where, tolerates=("dedicated",)))
    assert carry_out(tolerant, 8).why.endswith("its settings have changed")
    assert "no autoscaler has taken its CapacityBuffer up: turn" in target.check()[0]
    space.api.merge(f"{BUFFERS.format(space.name)}/room/status", {"status": {"replicas": 1}})
    assert target.check() == ()
    keys = [each["key"] for each in space.api.get(template)["template"]["spec"]["tolerations"]]
    assert keys == [fleet.GPU, "dedicated"]


def test_a_deployment_of_somebody_is_no_buffer(space: Space) -> None:
    """Whatever the name."""
    a_deployment(space)
    target = one(
        space, Buffer(kind="placeholders", namespace=space.name, name="chat", pool="h100-owned", take_over=True)
    )
    (step,) = steps(target, 8)
    assert step.waits_for == "Deployment chat is somebody else's: give the buffer another name"


@pytest.fixture
def own_nodes(space: Space) -> Iterator[str]:
    """Nodes of a pool of the test's own, that no other test's pods can come to."""
    pool = a_pool(f"{space.name}-h100", accelerator="h100", gpus_per_node=8, max_nodes=NODES)
    for index in range(NODES):
        node = fleet.node(pool, index)
        node["spec"]["taints"].append(TAINT)
        space.make("/api/v1/nodes", node)
    return pool.name


def bound(space: Space, label: str) -> dict[str, str]:
    """Return the running pods with a label and their nodes."""
    pods = space.api.items(PODS.format(space.name), labelSelector=label)
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in pods
        if pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
    }


def test_placeholders_give_way_to_a_gang(space: Space, own_nodes: str) -> None:
    """One for each node, with all its GPUs; Kueue places a gang there as if they were not, and it runs at once."""
    where = Buffer(
        kind="placeholders", namespace=space.name, name="room", pool=own_nodes, tolerates=(TAINT["key"],),
        filled_by="batch.kubernetes.io/job-name=gang",
    )  # fmt: skip
    target = one(space, where, most=NODES)
    carry_out(target, 8 * NODES)
    until(lambda: len(set(bound(space, "gangplan.io/placeholder").values())) == NODES)
    pool = a_pool(own_nodes, accelerator="h100", gpus_per_node=8)
    cluster = open_cluster({own_nodes: FixedNodes()}, {}, Fleet(pools=(pool,)), api=space.api, clock=space.clock)
    assert cluster.observe().grants == ()
    flavor = space.flavor(pool=own_nodes, topology="gangplan")
    space.queue({flavor: 8 * NODES})
    gang = a_job(space.name, "gang", pods=2, gpus=8, how="hangs")
    gang["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "queue"}
    gang["spec"]["suspend"] = True
    template = gang["spec"]["template"]
    template["metadata"]["annotations"]["kueue.x-k8s.io/podset-required-topology"] = fleet.RACK
    template["spec"]["tolerations"].append({"key": TAINT["key"], "operator": "Exists"})
    asked_at = time.monotonic()
    space.api.create(f"/apis/batch/v1/namespaces/{space.name}/jobs", gang)
    until(lambda: len(bound(space, "batch.kubernetes.io/job-name=gang")) == 2)
    print(f"a gang of {NODES - 1} nodes ran {time.monotonic() - asked_at:.2f} s after it was asked for")
    assert len(bound(space, "gangplan.io/placeholder")) == NODES - 2
    assert sum(grant.slots for grant in cluster.observe().grants) == 16
    cluster.close()
    step = carry_out(target, 8 * NODES)  # what the gang uses is not kept free a second time
    assert (step.before, step.after, seen(target).filled) == (NODES, NODES - 2, 16.0)
    waiting = f"{PODS.format(space.name)}"
    until(lambda: len(list(space.api.items(waiting, labelSelector="gangplan.io/placeholder"))) == NODES - 2)
    space.api.delete(f"/apis/batch/v1/namespaces/{space.name}/jobs/gang", propagationPolicy="Background")
    until(lambda: seen(target).filled == 0)
    carry_out(target, 8 * NODES)
    until(lambda: len(bound(space, "gangplan.io/placeholder")) == NODES)
    gone = ServingTarget([], Fleet(pools=(POOL,)), space.api)
    assert gone.check() == ()


# ---------------------------------------------------------------- guide and rights


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


def carrying(target: ServingTarget, made: Plan, forecast: Forecast) -> Carrying:
    """Return what carries a plan out on servers alone."""
    return Carrying(
        engines=[Engine(target=target)],
        wanted=lambda _: (),
        clock=lambda: NOW,
        more=lambda now: target.steps(made, forecast, now),
    )


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


@pytest.fixture
def least(space: Space, tmp_path: Path) -> Api:
    """The cluster as our service account sees it: with the rights of the ledger, the reader and serving."""
    space.give_printed_rights()
    for item in executor_manifests(space.name):
        path = f"{RIGHTS[item['kind']].format(space.name)}/{item['metadata']['name']}"
        space.api.apply(path, item)
        if space.name in item["metadata"]["name"]:
            space.made.append(path)
    token = space.api.create(
        f"/api/v1/namespaces/{space.name}/serviceaccounts/gangplan/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )["status"]["token"]
    config = yaml.safe_load(space.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    return connect(kubeconfig=str(tmp_path / "kubeconfig"))


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
