"""Plans are carried out with exactly the rights that `gangplan kube manifests --executor` prints, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from gangplan.errors import ForbiddenError
from gangplan.execute import KueueQuota, ScaledNodes
from gangplan.kube import Api, connect, executor_manifests, executor_rights
from gangplan.types import StepKind
from tests.cluster.conftest import RIGHTS, Space, until
from tests.cluster.execute.conftest import Field, a_step, nodes_of, quota_of
from tests.cluster.execute.test_scale import workers


@pytest.fixture
def least(space: Space, tmp_path: Path) -> Api:
    """The cluster as an account with the executor's printed rights alone."""
    space.make(f"/api/v1/namespaces/{space.name}/serviceaccounts", {"metadata": {"name": "gangplan"}})
    own = "gangplan-executor"  # those of serving have tests of their own
    space.give(one for one in executor_manifests(space.name) if one.get("roleRef", one["metadata"])["name"] == own)
    return connect(kubeconfig=str(space.log_in("gangplan", tmp_path / "kubeconfig")))


@pytest.mark.parametrize("watched", [True, False])
def test_quotas_and_nodes_need_no_more(least: Api, ground: Field, watched: bool) -> None:
    """Observed, by watches as well; a quota raised, a node cordoned and opened; the check finds nothing missing."""
    pool = ground.pool(nodes=1)
    flavor = ground.flavor(pool)
    cohort = ground.cohort("all", {flavor: 0})
    ground.space.queue({flavor: 0}, cohort="all")
    target = ground.target(pool, quotas={pool.name: KueueQuota(cohort=cohort)}, api=least, watched=watched)
    assert target.check() == ()
    place = f"Cohort/{cohort}"
    target.apply(a_step(StepKind.RAISE_QUOTA, pool, 0, 8, place))
    node = f"{pool.name}-0"
    pod = ground.pod("work", node)
    until(lambda: quota_of(target.observe(), place).slots == 8)
    for kind in (StepKind.CORDON, StepKind.UNCORDON):
        target.apply(a_step(kind, pool, 1, 0, nodes=(node,)))
    target.apply(a_step(StepKind.PROTECT, pool, 1, 0, nodes=(pod,)))
    until(lambda: quota_of(target.observe(), place).slots == 8 and len(target.observe().grants) == 1)


def test_replicas_need_no_more(least: Api, ground: Field) -> None:
    """Of what has a Scale: its number, and which pods go first."""
    pool, _, _ = workers(ground, "deployments", 2)
    settings = ScaledNodes(resource="deployments.apps", namespace=ground.space.name, name="workers")
    target = ground.target(pool, nodes={pool.name: settings}, api=least)
    first, _ = nodes_of(target.observe(), pool).nodes
    target.apply(a_step(StepKind.CORDON, pool, 2, 1, nodes=(first.name,)))
    target.apply(a_step(StepKind.REMOVE, pool, 2, 1, nodes=(first.name,)))
    assert target.check() == ()


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/api/v1/namespaces/{0}/secrets"),
        ("DELETE", "/api/v1/nodes/any"),
        ("DELETE", "/api/v1/namespaces/{0}/pods/any"),
        ("DELETE", "/apis/kueue.x-k8s.io/v1beta2/clusterqueues/any"),
        ("DELETE", "/apis/kueue.x-k8s.io/v1beta2/namespaces/{0}/workloads/any"),
        ("DELETE", "/apis/apps/v1/namespaces/{0}/deployments/any"),
        ("GET", "/apis/apps/v1/namespaces/{0}/deployments/any"),
    ],
)
def test_what_is_outside_of_them_is_refused(least: Api, space: Space, verb: str, path: str) -> None:
    """No secret is read, nothing but a NodeClaim is deleted."""
    with pytest.raises(ForbiddenError, match="is not allowed"):
        least.call(verb, path.format(space.name))


def test_each_missing_right_that_a_pool_needs_is_named(least: Api, ground: Field) -> None:
    """With the command that gives it; those of engines that no pool uses are not asked for."""
    role = f"{RIGHTS['ClusterRole']}/gangplan-executor"
    binding = next(path for path in ground.space.made if "clusterrolebindings" in path)
    assert ground.space.api.get(role)
    pool = ground.pool()
    target = ground.target(pool, api=least)
    target.observe()
    ground.space.api.delete(binding)
    said = until(lambda: [each for each in target.check() if "is missing" in each])
    wanted = [each for each in executor_rights() if each[0] == ""]
    assert len([each for each in said if "nodes" in each or "pods" in each]) == len(wanted)
    assert all("gangplan kube manifests --executor | kubectl apply -f -" in each for each in said)
    assert not [each for each in said if "karpenter" in each or "deployments" in each]
