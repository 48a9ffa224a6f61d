"""The pods of Kubernetes operators go to the slots of their gang, and what they ask for themselves is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gangplan.client import pod_place
from gangplan.errors import InputError
from gangplan.testing import NOW, FakeClock, a_calendar, a_request, memory_ledger
from gangplan.types import PodSet
from gangplan_airflow.gangs.pods import put_on

k8s = pytest.importorskip("kubernetes.client")
pods = pytest.importorskip("airflow.providers.cncf.kubernetes.operators.pod")
jobs = pytest.importorskip("airflow.providers.cncf.kubernetes.operators.job")
spark = pytest.importorskip("airflow.providers.cncf.kubernetes.operators.spark_kubernetes")

NODES = ["h100-owned-0", "h100-owned-1"]
ON_NODES = {"key": "kubernetes.io/hostname", "operator": "In", "values": NODES}


def place(**changes: Any) -> Any:
    """Where a gang of two pods of four GPUs stands, one on each node."""
    ledger = memory_ledger(FakeClock(NOW), a_calendar(hours=[2] * 24))
    return pod_place(ledger, ledger.submit(a_request(**changes)))


def put(operator: Any, **changes: Any) -> Any:
    """Put an operator onto the gang's slots for an hour."""
    put_on(operator, place(**changes), NOW + timedelta(hours=1), NOW)
    return operator


def plain(model: Any) -> Any:
    """A model as JSON."""
    return k8s.ApiClient().sanitize_for_serialization(model)


def a_pod(**given: Any) -> Any:
    """A KubernetesPodOperator in a namespace, so that it asks no cluster for one."""
    return pods.KubernetesPodOperator(task_id="pod", namespace="vision", image="busybox", **given)


def test_a_pod_goes_to_its_slots() -> None:
    """Node affinity, tolerations, limits, environment, deadline, and one pod on each of the two nodes."""
    operator = put(a_pod())
    body = plain(operator.build_pod_request_obj(dry_run=True))
    spec = body["spec"]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required == {"nodeSelectorTerms": [{"matchExpressions": [ON_NODES]}]}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    [base] = spec["containers"]
    assert base["resources"] == {"limits": {"nvidia.com/gpu": "4"}}
    variables = {one["name"]: one["value"] for one in base["env"]}
    assert variables["GANGPLAN_NODES"] == ",".join(NODES)
    assert variables["GANGPLAN_GPUS"] == "8"
    assert spec["activeDeadlineSeconds"] == 3600
    [spread] = spec["topologySpreadConstraints"]
    assert (spread["maxSkew"], spread["topologyKey"]) == (1, "kubernetes.io/hostname")
    assert spread["labelSelector"]["matchLabels"].items() <= body["metadata"]["labels"].items()


def test_what_a_pod_asks_for_itself_is_kept() -> None:
    """Its own affinity, selector, tolerations, variables, limits, deadline and base pod; but no queue's name."""
    term = {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    operator = put(
        a_pod(
            affinity=affinity,
            node_selector={"zone": "a"},
            tolerations=[k8s.V1Toleration(key="mine", operator="Exists")],
            env_vars={"GANGPLAN_GPUS": "mine", "A": "b"},
            container_resources=k8s.V1ResourceRequirements(limits={"nvidia.com/gpu": "2", "cpu": "1"}),
            active_deadline_seconds=60,
            labels={"team": "vision", "kueue.x-k8s.io/queue-name": "queue"},
            full_pod_spec=k8s.V1Pod(spec=k8s.V1PodSpec(containers=[], host_network=True)),
        )
    )
    body = plain(operator.build_pod_request_obj(dry_run=True))
    spec, [base] = body["spec"], body["spec"]["containers"]
    [required] = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert required["matchExpressions"] == [*term["matchExpressions"], ON_NODES]
    assert spec["nodeSelector"] == {"zone": "a"}
    assert [one["key"] for one in spec["tolerations"]] == ["mine", "nvidia.com/gpu"]
    variables = {one["name"]: one["value"] for one in base["env"]}
    assert (variables["GANGPLAN_GPUS"], variables["A"]) == ("mine", "b")
    assert base["resources"] == {"limits": {"nvidia.com/gpu": "2", "cpu": "1"}}
    assert spec["activeDeadlineSeconds"] == 60
    assert spec["hostNetwork"] is True
    assert body["metadata"]["labels"]["team"] == "vision"
    assert "kueue.x-k8s.io/queue-name" not in body["metadata"]["labels"]


def test_a_job_goes_to_its_slots() -> None:
    """The pods of the Job are placed as one pod is, and the Job ends in time."""
    operator = put(
        jobs.KubernetesJobOperator(task_id="job", namespace="vision", image="busybox", parallelism=2, completions=2)
    )
    operator.hook = type("Hook", (), {"is_in_cluster": False})()
    job = plain(operator.build_job_request_obj())
    spec = job["spec"]["template"]["spec"]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchExpressions"] == [ON_NODES]
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    assert spec["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "DoNotSchedule"
    assert (job["spec"]["activeDeadlineSeconds"], job["spec"]["parallelism"]) == (3600, 2)


def test_spark_s_executors_use_the_slots() -> None:
    """The executors are placed, the driver only knows of the slots; a body without `spark` is one, too."""
    spec = {"executor": {"instances": 2, "env": [{"name": "A", "value": "b"}]}, "driver": {"cores": 1}}
    body = {"apiVersion": "sparkoperator.k8s.io/v1beta2", "kind": "SparkApplication", "spec": spec}
    operator = put(spark.SparkKubernetesOperator(task_id="spark", namespace="vision", template_spec=body))
    placed = operator.template_body["spark"]["spec"]
    required = placed["executor"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchExpressions"] == [ON_NODES]
    assert placed["executor"]["gpu"] == {"name": "nvidia.com/gpu", "quantity": 4}
    assert placed["executor"]["env"][-1] == {"name": "A", "value": "b"}
    assert "affinity" not in placed["driver"]
    assert {"name": "GANGPLAN_GPUS", "value": "8"} in placed["driver"]["env"]
    assert spec["executor"]["env"] == [{"name": "A", "value": "b"}]  # the DAG's own dictionary is as it was


def test_unlike_numbers_by_node_cannot_be_spread() -> None:
    """Three pods on two nodes: they are kept to the nodes, and Kubernetes decides how many go where."""
    uneven = place(pod_sets=(PodSet(count=3, gpus_per_pod=2),))
    assert uneven.spread == ()
    assert uneven.node_affinity


def test_what_starts_no_pods_is_refused() -> None:
    """Another operator is named, with those that work."""
    from airflow.providers.standard.operators.bash import BashOperator

    with pytest.raises(InputError, match="pod_kwargs: 'BashOperator' starts no pods"):
        put(BashOperator(task_id="bash", bash_command="true"))
