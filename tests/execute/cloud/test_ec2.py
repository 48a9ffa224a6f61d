"""Auto Scaling groups: just what a step says is bought or removed, and what AWS refuses is said in its words."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.execute.cloud.aws import LACK
from tests.execute.cloud.conftest import MakeEc2, client, fleet

from gangplan.errors import ConflictError, ForbiddenError, InputError, RejectedError, UnavailableError
from gangplan.execute.cloud.ec2 import open_ec2
from gangplan.execute.cloud.group_target import machine_of
from gangplan.execute.cloud.settings import Ec2Group
from gangplan.testing import NOW
from gangplan.types import PoolNode, StepKind

ORDER, REMOVE, CORDON = StepKind.ORDER, StepKind.REMOVE, StepKind.CORDON


def test_machines_are_usable_when_they_are_in_service(make_ec2: MakeEc2) -> None:
    """A machine that still starts counts as ordered, and not as usable."""
    ec2 = make_ec2(2)
    ec2.world.boot = 2
    seen = ec2.seen()
    assert (seen.ordered, [node.usable for node in seen.nodes]) == (2, [False, False])
    ec2.seen()
    assert [node.usable for node in ec2.seen().nodes] == [True, True]


def test_an_order_is_placed_once(make_ec2: MakeEc2) -> None:
    """The same step again changes nothing; one that was made from another number is refused."""
    ec2 = make_ec2(1)
    ec2.step(ORDER, 3, before=1)
    ec2.step(ORDER, 3, before=1)
    assert ec2.world.writes() == ["autoscaling:SetDesiredCapacity"]
    with pytest.raises(ConflictError, match="was told 3 machines, not 1"):
        ec2.step(ORDER, 5, before=1)
    assert (ec2.seen().ordered, len(ec2.names()), ec2.world.launched) == (3, 3, 2)


@pytest.mark.parametrize(("most", "after", "whose"), [(4, 5, "Auto Scaling group gpus-"), (20, 9, "the fleet's pool")])
def test_an_order_above_a_limit_is_refused_before_the_call(
    make_ec2: MakeEc2, most: int, after: int, whose: str
) -> None:
    """Neither the group's MaxSize nor the fleet's max_nodes is passed."""
    ec2 = make_ec2(most=most)
    with pytest.raises(RejectedError, match=f"{after} nodes are more than the . that {whose}"):
        ec2.step(ORDER, after)
    assert ec2.world.writes() == []


def test_an_order_never_lowers(make_ec2: MakeEc2) -> None:
    """Machines leave by name alone."""
    ec2 = make_ec2(2)
    with pytest.raises(RejectedError, match="never lowers"):
        ec2.step(ORDER, 1)


def test_a_lack_of_capacity_is_said_in_the_clouds_words(make_ec2: MakeEc2) -> None:
    """The order stands and says why it waits; when there is capacity, it is filled, and only once."""
    ec2 = make_ec2(1)
    ec2.world.stock = 1
    ec2.step(ORDER, 4)
    seen = ec2.seen()
    assert (seen.ordered, len(seen.nodes), seen.trouble) == (4, 2, LACK)
    ec2.world.stock = 10
    seen = ec2.seen()
    assert (seen.ordered, len(seen.nodes), seen.trouble, ec2.world.launched) == (4, 4, "", 3)


def test_an_order_that_never_came_is_withdrawn(make_ec2: MakeEc2) -> None:
    """Only where no machine can be meant: fewer than those that are there would let the cloud choose."""
    ec2 = make_ec2(2)
    ec2.world.stock = 0
    ec2.step(ORDER, 5)
    with pytest.raises(ConflictError, match="the cloud would choose which of 2 machines"):
        ec2.step(REMOVE, 1)
    ec2.step(REMOVE, 2)
    assert (ec2.seen().ordered, len(ec2.names())) == (2, 2)


def test_just_the_named_machines_are_removed(make_ec2: MakeEc2) -> None:
    """Each leaves with its place in the group; a second time, nothing happens."""
    ec2 = make_ec2(4)
    first, second, third, fourth = ec2.names()
    ec2.step(CORDON, 4, second, fourth)
    ec2.step(REMOVE, 2, second, fourth)
    ec2.step(REMOVE, 2, second, fourth, before=4)
    assert (ec2.seen().ordered, ec2.names()) == (2, [first, third])
    assert ec2.world.writes().count("autoscaling:TerminateInstanceInAutoScalingGroup") == 2


def test_a_machine_that_leaves_is_seen_to(make_ec2: MakeEc2) -> None:
    """It is not asked to leave again, and its place is gone."""
    ec2 = make_ec2(2)
    ec2.world.leave = 10
    name = ec2.names()[0]
    ec2.step(CORDON, 2, name)
    ec2.step(REMOVE, 1, name)
    assert [(node.name == name, node.leaving) for node in ec2.seen().nodes] == [(False, False), (True, True)]
    ec2.step(REMOVE, 1, name, before=2)
    assert ec2.seen().ordered == 1


def test_a_machine_that_is_open_to_work_is_not_removed(make_ec2: MakeEc2) -> None:
    """Somebody opened it since the step was made: nothing is removed."""
    ec2 = make_ec2(2)
    name, _ = ec2.names()
    ec2.step(CORDON, 2, name)
    ec2.step(StepKind.UNCORDON, 2, name)
    with pytest.raises(ConflictError, match=f"{name}: no longer cordoned"):
        ec2.step(REMOVE, 1, name)
    assert len(ec2.names()) == 2


def test_a_group_keeps_its_minimum(make_ec2: MakeEc2) -> None:
    """Fewer than MinSize is refused before anything is removed."""
    ec2 = make_ec2(2, least=2)
    name, _ = ec2.names()
    ec2.step(CORDON, 2, name)
    with pytest.raises(RejectedError, match="must have 2 machines: lower its minimum"):
        ec2.step(REMOVE, 1, name)


def test_every_machine_is_protected_from_scale_in(make_ec2: MakeEc2) -> None:
    """Those that are not are named; afterwards a number that somebody lowers takes none of them."""
    ec2 = make_ec2(2, NewInstancesProtectedFromScaleIn=False)
    unprotected = ec2.seen().unprotected
    assert len(unprotected) == 2
    ec2.step(StepKind.PROTECT, 2, *unprotected)
    assert ec2.seen().unprotected == ()
    client("autoscaling", "us-east-1").set_desired_capacity(AutoScalingGroupName=ec2.group, DesiredCapacity=0)
    assert ec2.names() == list(unprotected)


def test_a_cordon_keeps_its_moment(make_ec2: MakeEc2) -> None:
    """A machine that is cordoned already keeps the moment of the first cordon."""
    ec2 = make_ec2(2)
    name, other = ec2.names()
    ec2.step(CORDON, 2, name)
    later = open_ec2(
        {"h100": Ec2Group(kind="ec2", region="us-east-1", group=ec2.group)},
        fleet(),
        clock=lambda: NOW + timedelta(hours=1),
        connect=client,
    )
    ec2.target = later
    ec2.step(CORDON, 2, name, other)
    assert [node.cordoned_at for node in ec2.seen().nodes] == [NOW, NOW + timedelta(hours=1)]
    ec2.step(StepKind.UNCORDON, 2, name)
    assert [node.cordoned_at for node in ec2.seen().nodes] == [None, NOW + timedelta(hours=1)]


@pytest.mark.parametrize("kind", [ORDER, REMOVE, CORDON, StepKind.PROTECT])
def test_a_dry_run_writes_nothing(make_ec2: MakeEc2, kind: StepKind) -> None:
    """The step is held against the group, and that is all."""
    ec2 = make_ec2(2, NewInstancesProtectedFromScaleIn=False)
    name, _ = ec2.names()
    if kind == REMOVE:
        ec2.step(CORDON, 2, name)
        ec2.world.calls.clear()
    ec2.step(kind, {ORDER: 3, REMOVE: 1}.get(kind, 2), name, dry_run=True)
    assert ec2.world.writes() == []


def test_the_cluster_says_which_machines_can_be_used(make_ec2: MakeEc2) -> None:
    """Nodes have the cluster's names, and leave by them; the cluster cordons them, so the cloud takes no such step."""
    nodes: dict[str, PoolNode] = {}
    ec2 = make_ec2(3, joined=lambda pool: nodes)
    ids = ec2.names()
    assert not any(node.usable for node in ec2.seen().nodes)
    nodes |= {machine_of(f"aws:///us-east-1a/{id}"): PoolNode(name=f"ip-{k}") for k, id in enumerate(ids[:2])}
    nodes[ids[0]] = PoolNode(name="ip-0", cordoned_at=NOW)
    seen = ec2.seen()
    assert [(node.name, node.usable) for node in seen.nodes] == [("ip-0", True), ("ip-1", True), (ids[2], False)]
    assert (seen.nodes[2].closed, seen.trouble) == (True, f"{ids[2]} run, but are no nodes of the cluster")
    assert CORDON not in ec2.target.kinds
    ec2.step(REMOVE, 2, "ip-0")
    assert ec2.names() == ["ip-1", ids[2]]


def test_what_stands_in_the_way_is_named_with_its_remedy(make_ec2: MakeEc2) -> None:
    """Limits, suspended processes, and all others that change the group's number."""
    ec2 = make_ec2(
        2,
        least=1,
        most=4,
        NewInstancesProtectedFromScaleIn=False,
        AvailabilityZones=["us-east-1a", "us-east-1b"],
        Tags=[{"Key": "k8s.io/cluster-autoscaler/enabled", "Value": "true"}],
    )
    group = {"AutoScalingGroupName": ec2.group}
    aws = client("autoscaling", "us-east-1")
    aws.suspend_processes(**group, ScalingProcesses=["Launch"])
    target = {"PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"}, "TargetValue": 50}
    aws.put_scaling_policy(
        **group, PolicyName="cpu", PolicyType="TargetTrackingScaling", TargetTrackingConfiguration=target
    )
    aws.put_scheduled_update_group_action(**group, ScheduledActionName="night", DesiredCapacity=0)
    said = "\n".join(ec2.target.check())
    for words in (
        "h100: " + ec2.group + " may have 4 machines, the pool 8: ",
        "keeps 1 machines, the pool 0",
        "--new-instances-protected-from-scale-in",
        "process Launch is suspended",
        "AZRebalance chooses machines",
        "cluster-autoscaler",
        "the policy cpu",
        "the scheduled action night",
    ):
        assert words in said
    assert make_ec2(2).target.check() == ()


def test_a_group_that_there_is_not_is_named(make_ec2: MakeEc2) -> None:
    """The error names the targets file's field, the value and the remedy; so does the check."""
    made = make_ec2()
    wrong = {"h100": Ec2Group(kind="ec2", region="us-east-1", group="gpu")}
    made.target = open_ec2(wrong, fleet(), clock=lambda: NOW, connect=client)
    with pytest.raises(InputError, match=r"pools.h100.nodes.group: 'gpu' is no Auto Scaling group in us-east-1: "):
        made.seen()
    assert "is no Auto Scaling group" in made.target.check()[0]


def test_a_right_that_lacks_is_named(make_ec2: MakeEc2) -> None:
    """AWS names the action; nothing was ordered."""
    ec2 = make_ec2(1)
    ec2.world.denied = {"autoscaling:SetDesiredCapacity"}
    with pytest.raises(ForbiddenError, match="not authorized to perform: autoscaling:SetDesiredCapacity"):
        ec2.step(ORDER, 2)
    assert ec2.seen().ordered == 1


def test_an_aws_that_is_away_is_unavailable(make_ec2: MakeEc2, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call may be made again."""
    ec2 = make_ec2(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    pools = {"h100": Ec2Group(kind="ec2", region="us-east-1", group=ec2.group)}
    with pytest.raises(UnavailableError, match="AWS cannot be reached"):
        open_ec2(pools, fleet(), clock=lambda: NOW).observe()


def test_without_credentials_the_remedy_is_said(make_ec2: MakeEc2, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of AWS."""
    ec2 = make_ec2(1)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    pools = {"h100": Ec2Group(kind="ec2", region="us-east-1", group=ec2.group)}
    with pytest.raises(ForbiddenError, match=r"no credentials of AWS .* set AWS_PROFILE"):
        open_ec2(pools, fleet(), clock=lambda: NOW).observe()
