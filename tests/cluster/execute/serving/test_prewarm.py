"""Minimums of servers on a real control plane: an HPA scales by its controller, KEDA's and KServe's kinds are served.

KEDA and KServe themselves do not run here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from gangplan.errors import ConflictError, RejectedError
from gangplan.execute.prewarm import (
    Hpa,
    Keda,
    KServe,
)
from tests.cluster.conftest import Space, until
from tests.cluster.execute.serving.servers import (
    PAUSED,
    a_deployment,
    a_scaled_object,
    a_service,
    an_hpa,
    carry_out,
    one,
    steps,
)


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
