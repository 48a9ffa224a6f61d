"""Serving follows the published plan: the store, the fleet file, targets.yaml and a cluster, joined."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.execute.prewarm.builders import CHAT, asked, planned
from tests.kube.conftest import Cluster, cluster  # noqa: F401 - the fixture

from gangplan import plan, workflows
from gangplan.config import Settings, write_fleet
from gangplan.errors import InputError, NotFoundError
from gangplan.tracking import Store

ENTRY = {"accelerator": "h100", "gpus_per_replica": 2, "where": {"kind": "hpa", "namespace": "web", "name": "chat"}}
HPA = "/apis/autoscaling/v2/namespaces/web/horizontalpodautoscalers/chat"


@pytest.fixture
def settings(
    tmp_path: Path,
    mlflow_store: Store,
    cluster: Cluster,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """A home with a fleet file, and a store in which a plan of 8 GPUs for serving is published."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    forecast = asked({CHAT: [8]})
    made = planned({"h100-owned": [2]}, forecast)
    found = Settings(home=tmp_path)
    write_fleet(found.fleet_file, made.fleet)
    plan.mark(mlflow_store, plan.log_plan(made, forecast, mlflow_store), "published", "")
    return found


def test_servers_follow_the_published_plan(settings: Settings, cluster: Cluster) -> None:  # noqa: F811
    """What there is to do is said in a line, with its reason; where the number is right there is nothing."""
    following = workflows.open_following(settings, [ENTRY])
    said = list(workflows.serving_lines(following.once()))
    missing = "there is no HorizontalPodAutoscaler web/chat: make it"
    assert said == [f"hpa web/chat: minimum none -> 4, waits: {missing}"]
    cluster.objects[HPA] = {"metadata": {"name": "chat"}, "spec": {"minReplicas": 4, "maxReplicas": 9}}
    assert following.once().reached


def test_what_is_wrong_is_said_before_anything_is_read(settings: Settings, mlflow_store: Store) -> None:
    """An entry by its place in the list; a plan that nobody published by the command that does."""
    with pytest.raises(InputError, match=r"serving\.0\.acelerator"):
        workflows.open_following(settings, [{**ENTRY, "acelerator": "h100"}])
    plan.mark(mlflow_store, plan.read_published(mlflow_store), "published", "", yes=False)
    with pytest.raises(NotFoundError, match="gangplan plan publish"):
        workflows.open_following(settings, [ENTRY])
