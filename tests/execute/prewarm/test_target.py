"""Which kind a buffer is, by what the cluster serves and what stands there already."""

from __future__ import annotations

import pytest
from tests.execute.prewarm.builders import POOL, chat
from tests.kube.conftest import Cluster, cluster  # noqa: F401 - the fixture

from gangplan.execute.prewarm import Buffer, ServingTarget
from gangplan.kube import PLACEHOLDER
from gangplan.types import Fleet

SERVED = {"resources": [{"name": "capacitybuffers"}, {"name": "capacitybuffers/status"}]}
OURS = {"metadata": {"name": "room", "labels": {PLACEHOLDER: "room"}}, "spec": {"replicas": 2}}
THEIRS = {"metadata": {"name": "room"}, "spec": {"replicas": 2}}


@pytest.mark.parametrize(
    ("served", "standing", "kind", "minimum"),
    [
        (False, None, "placeholders", None),
        (True, None, "capacity_buffer", None),
        (True, OURS, "placeholders", 2),
        (True, THEIRS, "capacity_buffer", None),
    ],
)
def test_a_buffer_is_what_the_cluster_can_have(
    cluster: Cluster,  # noqa: F811
    served: bool,
    standing: dict[str, object] | None,
    kind: str,
    minimum: int | None,
) -> None:
    """A CapacityBuffer where that kind is served, placeholders else; placeholders that stand already stay."""
    if served:
        cluster.objects["/apis/autoscaling.x-k8s.io/v1beta1"] = SERVED
    if standing:
        cluster.objects["/apis/apps/v1/namespaces/gangplan/deployments/room"] = standing
    entry = chat(gpus_per_replica=None, where=Buffer(name="room", pool="h100-owned"))
    (seen,) = ServingTarget([entry], Fleet(pools=(POOL,)), cluster.api).look()
    assert (seen.kind, seen.minimum) == (kind, minimum)
