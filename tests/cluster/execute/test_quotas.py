"""Quotas on the real Kueue: read with what is used, written as compare-and-swap, refused with the remedy."""

from __future__ import annotations

import pytest

from gangplan.errors import ConflictError, InputError, RejectedError
from gangplan.execute.kubernetes import KueueQuota
from gangplan.kube import KUEUE
from gangplan.types import StepKind
from tests.cluster.conftest import until
from tests.cluster.execute.conftest import Field, a_step, nodes_of, quota_of
from tests.cluster.objects import bare, condition


def test_a_cohort_is_one_object_to_write_and_the_next_in_line_is_admitted(ground: Field) -> None:
    """The pool's capacity stands in the Cohort, its queue has none: raised, a waiting gang starts; used is told."""
    pool = ground.pool(nodes=2)
    flavor = ground.flavor(pool)
    cohort = ground.cohort("all", {flavor: 8})
    ground.space.queue({flavor: 0}, cohort="all")
    target = ground.target(pool, quotas={pool.name: KueueQuota(cohort=cohort)})
    ground.admitted("first", 8)
    workloads = f"{KUEUE}/namespaces/{ground.space.name}/workloads"
    ground.space.api.create(workloads, bare(ground.space.name, "second", 8))
    place = f"Cohort/{cohort}"
    seen = until(lambda: (found := target.observe()) and quota_of(found, place).used == 8 and found)
    assert quota_of(seen, place).slots == 8
    step = a_step(StepKind.RAISE_QUOTA, pool, 8, 16, place)
    target.apply(step, dry_run=True)
    assert quota_of(target.observe(), place).slots == 8
    target.apply(step)
    until(lambda: condition(ground.space.api.get(f"{workloads}/second"), "Admitted") == "True")
    target.apply(step)
    assert ground.nominal("cohorts", cohort) == [16, 100_000]


def test_lowered_below_its_use_nobody_is_evicted(ground: Field) -> None:
    """Two queues without a cohort, each a place of its own; one falls to 0 under what it uses, and keeps using it."""
    pool = ground.pool()
    flavor = ground.flavor(pool)
    first = ground.space.queue({flavor: 8})
    other = ground.space.queue({flavor: 0}, local="other")
    target = ground.target(pool, quotas={pool.name: KueueQuota(queues={first: 1.0, other: 3.0})})
    ground.admitted("first", 8)
    place = f"ClusterQueue/{first}"
    assert {each.place: (each.group, each.weight) for each in target.observe().quotas} == {
        place: (place, 1.0),
        f"ClusterQueue/{other}": (f"ClusterQueue/{other}", 3.0),
    }
    target.apply(a_step(StepKind.LOWER_QUOTA, pool, 8, 0, place))
    found = quota_of(target.observe(), place)
    assert (found.slots, found.used) == (0, 8)
    assert ground.nominal("clusterqueues", first) == [0, 100_000]


def test_two_writers_of_one_quota_write_once(ground: Field) -> None:
    """The second has read what the first has replaced: its test fails, and is told as a conflict with the new value."""
    pool = ground.pool()
    flavor = ground.flavor(pool)
    queue = ground.space.queue({flavor: 8})
    place = f"ClusterQueue/{queue}"
    one, two = (ground.target(pool, quotas={pool.name: KueueQuota(queues={queue: 1})}) for _ in range(2))
    one.observe()
    two.observe()
    one.apply(a_step(StepKind.RAISE_QUOTA, pool, 8, 16, place))
    with pytest.raises(ConflictError, match="is 16 now, not 8"):
        two.apply(a_step(StepKind.RAISE_QUOTA, pool, 8, 24, place))
    two.apply(a_step(StepKind.RAISE_QUOTA, pool, 8, 16, place))
    assert ground.nominal("clusterqueues", queue)[0] == 16


def test_a_flavor_put_before_ours_moves_the_write_to_nobody_elses_quota(ground: Field) -> None:
    """The patch names a place in a list: its tests see that another flavor stands there now."""
    pool = ground.pool()
    flavor, other = ground.flavor(pool), ground.flavor(ground.pool("b"))
    queue = ground.space.queue({flavor: 8})
    target = ground.target(pool, quotas={pool.name: KueueQuota(queues={queue: 1}, flavor=flavor)})
    target.observe()
    path = f"{KUEUE}/clusterqueues/{queue}"
    groups = ground.space.api.get(path)["spec"]["resourceGroups"]
    before = {**groups[0]["flavors"][0], "name": other}
    groups[0]["flavors"] = [before, *groups[0]["flavors"]]
    ground.space.api.merge(path, {"spec": {"resourceGroups": groups}})
    step = a_step(StepKind.LOWER_QUOTA, pool, 8, 0, f"ClusterQueue/{queue}")
    with pytest.raises(ConflictError, match="is 8 now"):
        target.apply(step)
    target.observe()
    target.apply(step)
    assert ground.nominal("clusterqueues", queue) == [8, 100_000, 0, 100_000]


def test_kueues_own_refusal_is_told_in_its_words(ground: Field) -> None:
    """Under a lending limit a quota may not fall: the webhook's sentence, no hint at rights, and nothing is written."""
    pool = ground.pool()
    flavor = ground.flavor(pool)
    ground.cohort("all", {})
    queue = ground.space.queue({flavor: 8}, cohort="all", lends=8)
    target = ground.target(pool, quotas={pool.name: KueueQuota(queues={queue: 1})})
    target.observe()
    for dry_run in (True, False):
        with pytest.raises(RejectedError, match=r"was refused: admission webhook .*lendingLimit") as told:
            target.apply(a_step(StepKind.LOWER_QUOTA, pool, 8, 0, f"ClusterQueue/{queue}"), dry_run=dry_run)
        assert "doctor" not in str(told.value)
    assert ground.nominal("clusterqueues", queue)[0] == 8


def test_what_a_gitops_tool_owns_is_shown_and_taken_over_only_when_told(ground: Field) -> None:
    """Its manager is named with both remedies; with take_over the value is written."""
    pool = ground.pool()
    flavor = ground.flavor(pool)
    queue = ground.space.queue({flavor: 8})
    path = f"{KUEUE}/clusterqueues/{queue}"
    spec = ground.space.api.get(path)["spec"]
    body = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": queue}, "spec": spec}
    ground.space.api.apply(path, body, fieldManager="argocd-controller")
    step = a_step(StepKind.RAISE_QUOTA, pool, 8, 16, f"ClusterQueue/{queue}")
    target = ground.target(pool, quotas={pool.name: KueueQuota(queues={queue: 1})})
    assert [each for each in target.check() if "argocd-controller owns" in each and "take_over: true" in each]
    with pytest.raises(RejectedError, match=r"argocd-controller owns its resourceGroups.*take_over: true"):
        target.apply(step)
    assert ground.nominal("clusterqueues", queue)[0] == 8
    told = ground.target(pool, quotas={pool.name: KueueQuota(queues={queue: 1}, take_over=True)})
    told.observe()
    told.apply(step)
    assert ground.nominal("clusterqueues", queue)[0] == 16


def test_nothing_is_raised_while_a_stranger_may_grant_the_same_slots(ground: Field) -> None:
    """A queue that targets.yaml does not name stands on the same nodes: lowering works, raising is refused by name."""
    pool = ground.pool()
    flavor = ground.flavor(pool)
    queue = ground.space.queue({flavor: 8})
    stranger = ground.space.queue({flavor: 4}, local="other")
    target = ground.target(pool, quotas={pool.name: KueueQuota(queues={queue: 1})})
    assert [each for each in target.check() if f"ClusterQueue/{stranger}: may grant 4 slots" in each]
    with pytest.raises(RejectedError, match=rf"{stranger} 4\): name them in targets.yaml"):
        target.apply(a_step(StepKind.RAISE_QUOTA, pool, 8, 16, f"ClusterQueue/{queue}"))
    target.apply(a_step(StepKind.LOWER_QUOTA, pool, 8, 0, f"ClusterQueue/{queue}"))


def test_queues_own_quotas_count_with_their_cohorts(ground: Field) -> None:
    """The place has what all beneath it have; the Cohort's own is written, and cannot make up for the queues'."""
    pool = ground.pool()
    flavor = ground.flavor(pool)
    cohort = ground.cohort("all", {flavor: 8})
    ground.space.queue({flavor: 8}, cohort="all")
    target = ground.target(pool, quotas={pool.name: KueueQuota(cohort=cohort)})
    place = f"Cohort/{cohort}"
    assert quota_of(target.observe(), place).slots == 16
    assert [each for each in target.check() if "set their nominalQuota to 0" in each]
    with pytest.raises(RejectedError, match=r"8 slots of pool .* are its queues' own, more than 0"):
        target.apply(a_step(StepKind.LOWER_QUOTA, pool, 16, 0, place))
    target.apply(a_step(StepKind.LOWER_QUOTA, pool, 16, 8, place))
    assert ground.nominal("cohorts", cohort)[0] == 0


def test_a_flavor_that_is_not_there_or_fits_twice_is_named(ground: Field) -> None:
    """Kueue accepts both; the first makes the whole queue inactive."""
    pool = ground.pool(nodes=1)
    flavor = ground.flavor(pool)
    name = f"{ground.space.name}-queue"
    quotas = {pool.name: KueueQuota(queues={name: 1})}
    ground.space.queue({flavor: 8})
    twin = ground.flavor(pool, f"{pool.name}-twin")
    path = f"{KUEUE}/clusterqueues/{name}"
    groups = ground.space.api.get(path)["spec"]["resourceGroups"]
    first = groups[0]["flavors"][0]
    groups[0]["flavors"].append({**first, "name": twin})
    ground.space.api.merge(path, {"spec": {"resourceGroups": groups}})
    with pytest.raises(InputError, match=rf"could be {flavor} or {twin}"):
        ground.target(pool, quotas=quotas).observe()
    groups[0]["flavors"] = [{**first, "name": "no-such-flavor"}]
    ground.space.api.merge(path, {"spec": {"resourceGroups": groups}})
    target = ground.target(pool, quotas=quotas)
    with pytest.raises(InputError, match="'no-such-flavor' is no ResourceFlavor"):
        target.observe()
    assert [each for each in target.check() if "is no ResourceFlavor" in each]
    with pytest.raises(InputError, match="'nobody' is no ClusterQueue"):
        ground.target(pool, quotas={pool.name: KueueQuota(queues={"nobody": 1})}).observe()


def test_a_pool_that_loses_its_queue_keeps_no_other_from_being_seen(ground: Field) -> None:
    """Wrong from the beginning it is refused; lost later, it is that pool's trouble alone."""
    pools = ground.pool(), ground.pool("b")
    queues = [ground.space.queue({ground.flavor(pool): 8}, local=f"queue-{n}") for n, pool in enumerate(pools)]
    quotas = {pool.name: KueueQuota(queues={queue: 1}) for pool, queue in zip(pools, queues, strict=True)}
    target = ground.target(*pools, quotas=quotas)
    assert len(target.observe().quotas) == 2
    path = f"{KUEUE}/clusterqueues/{queues[0]}"
    ground.space.api.delete(path)
    seen = until(lambda: len((found := target.observe()).quotas) == 1 and found)
    assert "is no ClusterQueue of the cluster" in nodes_of(seen, pools[0]).trouble
    assert (nodes_of(seen, pools[1]).trouble, seen.quotas[0].pool) == ("", pools[1].name)
