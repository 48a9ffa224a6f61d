"""Servers of a test's own on a cluster, a target of one entry, and the steps that bring it to a plan."""

from __future__ import annotations

from typing import Any

from gangplan.execute import Carrying, Engine
from gangplan.execute.prewarm import (
    Buffer,
    Replicas,
    Serving,
    ServingTarget,
    minimums,
)
from gangplan.kube.api import Api
from gangplan.testing import NOW, a_pool
from gangplan.types import Fleet, Forecast, Plan, Step
from tests.cluster.conftest import Space
from tests.cluster.servers import fleet
from tests.execute.prewarm.builders import CHAT, POOL, asked, planned

Object = dict[str, Any]

KEDA = "/apis/keda.sh/v1alpha1/namespaces/{0}/scaledobjects"
KSERVE = "/apis/serving.kserve.io/v1beta1/namespaces/{0}/inferenceservices"
HPAS = "/apis/autoscaling/v2/namespaces/{0}/horizontalpodautoscalers"
BUFFERS = "/apis/autoscaling.x-k8s.io/v1beta1/namespaces/{0}/capacitybuffers"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{0}/deployments"
PODS = "/api/v1/namespaces/{0}/pods"
PAUSED = "autoscaling.keda.sh/paused-replicas"


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


def carrying(target: ServingTarget, made: Plan, forecast: Forecast) -> Carrying:
    """Return what carries a plan out on servers alone."""
    return Carrying(
        engines=[Engine(target=target)],
        wanted=lambda _: (),
        clock=lambda: NOW,
        more=lambda now: target.steps(made, forecast, now),
    )
