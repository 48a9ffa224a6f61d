"""The pods of Airflow's Kubernetes operators, put onto the slots of a gang just before they are made.

Affinity and tolerations of these operators are no templates, so that they are set when the task runs: its arguments are
rendered then, and the slots are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from math import ceil
from typing import Any

from gangplan.client import PodPlace, joined_affinity
from gangplan.errors import InputError
from gangplan.kube import Object, gpus_of

_KUEUE = "kueue.x-k8s.io/"
"""Begins the labels by which a Job asks a queue itself: it would be counted twice."""


def put_on(operator: Any, place: PodPlace, until: datetime, now: datetime) -> None:
    """Put what an operator starts onto slots, until these end; what the operator asks for itself is kept.

    Raises InputError for what is none of Airflow's operators for pods, Jobs and Spark.
    """
    if hasattr(operator, "template_spec"):
        _put_spark_on(operator, place)
    elif hasattr(operator, "full_pod_spec"):
        _put_pod_on(operator, place, max(1, ceil((until - now).total_seconds())))
    else:
        known = "KubernetesPodOperator, KubernetesJobOperator or SparkKubernetesOperator"
        raise InputError("pod_kwargs", type(operator).__name__, f"starts no pods: give it to {known}")


def _put_pod_on(operator: Any, place: PodPlace, seconds: int) -> None:
    """Set the arguments of a KubernetesPodOperator, from which a KubernetesJobOperator makes its Job, too."""
    operator.labels = without_queue(operator.labels) | place.labels
    operator.annotations = {**(operator.annotations or {}), **place.annotations}
    operator.node_selector = {**(operator.node_selector or {}), **place.node_selector}
    added = _model(
        affinity=_affinity(as_plain(operator.affinity), place), tolerations=list(place.tolerations), containers=[]
    ).spec
    operator.affinity = added.affinity or {}
    operator.tolerations = [*(operator.tolerations or []), *added.tolerations]
    operator.container_resources = with_resources(operator.container_resources, place.resources)
    operator.env_vars = _environment(operator.env_vars or [], place.environment)
    operator.active_deadline_seconds = min(operator.active_deadline_seconds or seconds, seconds)
    if place.spread:
        base = as_plain(operator.full_pod_spec)
        spec: Object = {"containers": [], **(base.pop("spec", None) or {})}
        spec["topologySpreadConstraints"] = [*(spec.get("topologySpreadConstraints") or []), *place.spread]
        operator.full_pod_spec = _model(base, **spec)


def _affinity(own: Object, place: PodPlace) -> Object:
    """Return an affinity that also keeps pods to the slots' nodes."""
    nodes = joined_affinity(own.get("nodeAffinity") or {}, place.node_affinity)
    return {**own, "nodeAffinity": nodes} if nodes else own


def _environment(own: Any, added: dict[str, str]) -> list[Any]:
    """Return variables with ours before an operator's own, which win."""
    from kubernetes.client import V1EnvVar

    kept = [V1EnvVar(name=name, value=value) for name, value in own.items()] if isinstance(own, dict) else list(own)
    names = {one.name for one in kept}
    return [*(V1EnvVar(name=name, value=value) for name, value in added.items() if name not in names), *kept]


def with_resources(own: Any, added: Mapping[str, str]) -> Any:
    """Give a container the slots, where it asks for no accelerators itself."""
    plain = as_plain(own)
    if gpus_of({"spec": {"containers": [{"resources": plain}]}}):
        return own
    limits = {**(plain.get("limits") or {}), **added}
    pod = _model(containers=[{"name": "", "resources": {**plain, "limits": limits}}])
    return pod.spec.containers[0].resources


def without_queue(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return labels without those by which pods or Jobs ask a queue themselves."""
    return {name: value for name, value in (labels or {}).items() if not name.startswith(_KUEUE)}


def _put_spark_on(operator: Any, place: PodPlace) -> None:
    """Set the SparkApplication of a SparkKubernetesOperator: its executors use the slots, its driver none."""
    body: Object = deepcopy(operator.template_body)
    spec: Object = body["spark"].setdefault("spec", {})
    shared: Object | None = body.get("kubernetes")
    for name in ("driver", "executor"):
        part: Object = spec.setdefault(name, {})
        part["labels"] = {**(part.get("labels") or {}), **(place.labels if name == "executor" else {})}
        own: list[Object] = part.get("env") or []
        taken = {one["name"] for one in own}
        ours = [{"name": key, "value": value} for key, value in place.environment.items() if key not in taken]
        part["env"] = [*ours, *own]
    executor: Object = spec["executor"]
    executor["annotations"] = {**(executor.get("annotations") or {}), **place.annotations}
    _settle(executor, place, selector="nodeSelector")
    if shared:  # the operator copies these over both parts
        _settle(shared, place, selector="node_selector")
    if not executor.get("gpu") and not (executor.get("container_resources") or {}).get("gpu"):
        [(resource, count)] = place.resources.items()
        executor["gpu"] = {"name": resource, "quantity": int(count)}
    operator.template_spec, operator.application_file = body, None


def _settle(part: Object, place: PodPlace, *, selector: str) -> None:
    """Send the pods of a part to the slots' nodes."""
    part[selector] = {**(part.get(selector) or {}), **place.node_selector}
    part["affinity"] = _affinity(part.get("affinity") or {}, place)
    part["tolerations"] = [*(part.get("tolerations") or []), *place.tolerations]


def as_plain(model: Any) -> Object:
    """Return a model of the Kubernetes client as JSON values."""
    from kubernetes.client import ApiClient

    plain: Any = ApiClient().sanitize_for_serialization(model)
    return dict(plain or {})


def _model(pod: Object | None = None, **spec: Any) -> Any:
    """Return a pod as a model of the Kubernetes client, as the operators and their mutation hooks know it."""
    from airflow.providers.cncf.kubernetes.pod_generator import (  # pyright: ignore[reportMissingImports]
        PodGenerator,
    )

    return PodGenerator.deserialize_model_dict({"metadata": {}, **(pod or {}), "spec": spec})
