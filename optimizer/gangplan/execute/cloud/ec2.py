"""Auto Scaling groups of Amazon EC2.

A group's number is absolute, so nothing is bought twice. It has no compare-and-swap: we read just before we write, and
protect every machine from scale-in, so that a number that gets smaller in between takes no machine that nobody named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from gangplan.clock import Clock
from gangplan.errors import InputError
from gangplan.execute.cloud.ec2_calls import TAGGED_AT_ONCE, Connect, Ec2Clients, calling, chunks, connect
from gangplan.execute.cloud.ec2_machines import Ec2Machines
from gangplan.execute.cloud.group_target import GroupTarget, Joined
from gangplan.execute.cloud.groups import CORDONED, Group, Machine
from gangplan.execute.cloud.settings import Ec2Group
from gangplan.types import Fleet

_GUARDED_AT_ONCE, _NAMED_AT_ONCE = 50, 100
_ACTIVITIES = 20
_AUTOSCALERS = ("k8s.io/cluster-autoscaler/enabled",)
_OURS = ("Launch", "Terminate")
_CHOOSES = "chooses machines to remove: aws autoscaling suspend-processes --scaling-processes AZRebalance"


def open_ec2(
    pools: Mapping[str, Ec2Group],
    fleet: Fleet,
    *,
    clock: Clock,
    joined: Joined | None = None,
    connect: Connect = connect,
) -> GroupTarget:
    """Open the machines of these pools on EC2 as a target; nothing is called yet.

    Parameters
    ----------
    joined : returns the nodes of a cluster that the machines of a pool are; see `GroupTarget`
    """
    groups = {pool: place for pool, place in pools.items() if not place.template}
    launched = {pool: place for pool, place in pools.items() if place.template}
    clouds = (Ec2Groups(groups, connect), Ec2Machines(launched, connect, clock=clock))
    return GroupTarget("ec2", clouds, fleet, clock=clock, joined=joined)


class Ec2Groups:
    """The Auto Scaling groups of some pools, in any regions."""

    def __init__(self, pools: Mapping[str, Ec2Group], connect: Connect = connect) -> None:
        self._pools = dict(pools)
        self._clients = Ec2Clients(connect)

    def _writer(self, pool: str) -> Any:
        return self._clients.writer("autoscaling", self._pools[pool].region)

    def pools(self) -> Collection[str]:
        """Return the pools that have a group."""
        return self._pools.keys()

    def read(self, pools: Collection[str], *, cordons: bool) -> Mapping[str, Group]:
        """Return the groups of these pools."""
        found = self._describe(pools)
        cordoned = self._cordoned(pools, found) if cordons else {}
        return {pool: self._group(pool, body, cordoned) for pool, body in found.items()}

    def _describe(self, pools: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return what AWS says of each pool's group; a group that there is not is an error."""
        bodies: dict[tuple[str, str], dict[str, Any]] = {}
        for region, names in self._by_region(pools):
            for some in chunks(names, _NAMED_AT_ONCE):
                with calling(f"Auto Scaling groups in {region}"):
                    answer = self._clients.reader("autoscaling", region).describe_auto_scaling_groups(
                        AutoScalingGroupNames=some, MaxRecords=_NAMED_AT_ONCE
                    )
                bodies |= {(region, body["AutoScalingGroupName"]): body for body in answer["AutoScalingGroups"]}
        for pool in pools:
            place = self._pools[pool]
            if (place.region, place.group) not in bodies:
                remedy = f"is no Auto Scaling group in {place.region}: create it, or correct the name or the region"
                raise InputError(f"pools.{pool}.nodes.group", place.group, remedy)
        return {pool: bodies[self._pools[pool].region, self._pools[pool].group] for pool in pools}

    def _by_region(self, pools: Collection[str]) -> Iterable[tuple[str, list[str]]]:
        groups: dict[str, list[str]] = {}
        for pool in pools:
            groups.setdefault(self._pools[pool].region, []).append(self._pools[pool].group)
        return groups.items()

    def _group(self, pool: str, body: dict[str, Any], cordoned: Mapping[str, datetime]) -> Group:
        machines = tuple(_machine(each, cordoned) for each in body["Instances"])
        group = Group(
            shown=f"Auto Scaling group {self._pools[pool].group}",
            ordered=body["DesiredCapacity"],
            least=body["MinSize"],
            most=body["MaxSize"],
            machines=machines,
        )
        return group if len(group.staying) >= group.ordered else replace(group, trouble=self._trouble(pool))

    def _trouble(self, pool: str) -> str:
        """Return why the last attempt to launch a machine failed, or nothing."""
        place = self._pools[pool]
        with calling(f"{place.group} in {place.region}"):
            activities = self._clients.reader("autoscaling", place.region).describe_scaling_activities(
                AutoScalingGroupName=place.group, MaxRecords=_ACTIVITIES
            )["Activities"]
        ended = [each for each in activities if each["StatusCode"] in ("Failed", "Successful", "Cancelled")]
        if not ended or ended[0]["StatusCode"] != "Failed":
            return ""
        return " ".join(ended[0].get("StatusMessage", "a launch failed").split())

    def _cordoned(self, pools: Collection[str], found: Mapping[str, dict[str, Any]]) -> dict[str, datetime]:
        """Return since when machines are cordoned, by their ids, as their tags say."""
        moments: dict[str, datetime] = {}
        for region, _ in self._by_region(pools):
            ids = [
                each["InstanceId"]
                for pool in pools
                if self._pools[pool].region == region
                for each in found[pool]["Instances"]
            ]
            for some in chunks(ids, TAGGED_AT_ONCE):
                named = [{"Name": "resource-id", "Values": some}, {"Name": "key", "Values": [CORDONED]}]
                with calling(f"tags in {region}"):
                    tags = self._clients.reader("ec2", region).describe_tags(Filters=named)["Tags"]
                moments |= {tag["ResourceId"]: datetime.fromisoformat(tag["Value"]) for tag in tags}
        return moments

    def order(self, pool: str, group: Group, machines: int) -> None:
        """Set the desired capacity."""
        with calling(group.shown):
            self._writer(pool).set_desired_capacity(
                AutoScalingGroupName=self._pools[pool].group, DesiredCapacity=machines, HonorCooldown=False
            )

    def remove(self, pool: str, machines: Collection[str]) -> None:
        """Terminate these machines and lower the desired capacity with each."""
        for machine in machines:
            with calling(f"{self._pools[pool].group}: {machine}"):
                self._writer(pool).terminate_instance_in_auto_scaling_group(
                    InstanceId=machine, ShouldDecrementDesiredCapacity=True
                )

    def guard(self, pool: str, machines: Collection[str]) -> None:
        """Protect these machines from scale-in."""
        for some in chunks(machines, _GUARDED_AT_ONCE):
            with calling(self._pools[pool].group):
                self._writer(pool).set_instance_protection(
                    InstanceIds=some, AutoScalingGroupName=self._pools[pool].group, ProtectedFromScaleIn=True
                )

    def cordon(self, pool: str, machines: Collection[str], at: datetime | None) -> None:
        """Set or delete the tag of these machines."""
        self._clients.cordon(self._pools[pool].region, machines, at)

    def check(self, pool: str, *, least: int, most: int) -> tuple[str, ...]:
        """Return what is wrong with a group's limits and protection, and who else changes its number."""
        body = self._describe([pool])[pool]
        group, region = self._pools[pool].group, self._pools[pool].region
        found = [words for wrong, words in _limits(body, least=least, most=most) if wrong]
        found += [f"{group}: {words}" for words in self._others(body, region)]
        return tuple(found)

    def _others(self, body: dict[str, Any], region: str) -> Iterator[str]:
        """Name what else changes the group, or keeps it from being changed."""
        name, client = body["AutoScalingGroupName"], self._clients.reader("autoscaling", region)
        for process in body["SuspendedProcesses"]:
            if process["ProcessName"] in _OURS:
                yield f"the process {process['ProcessName']} is suspended: aws autoscaling resume-processes"
        suspended = {process["ProcessName"] for process in body["SuspendedProcesses"]}
        if len(body["AvailabilityZones"]) > 1 and "AZRebalance" not in suspended:
            yield f"AZRebalance {_CHOOSES}"
        tags = [tag["Key"] for tag in body.get("Tags", []) if tag["Key"] in _AUTOSCALERS]
        yield from (f"the tag {tag} lets cluster-autoscaler change it: delete the tag" for tag in tags)
        with calling(name):
            policies = client.describe_policies(AutoScalingGroupName=name)["ScalingPolicies"]
            planned = client.describe_scheduled_actions(AutoScalingGroupName=name)["ScheduledUpdateGroupActions"]
        yield from (f"the policy {each['PolicyName']} changes its number, too: delete it" for each in policies)
        yield from (f"the scheduled action {each['ScheduledActionName']} does, too: delete it" for each in planned)

    def close(self) -> None:
        """Close the clients."""
        self._clients.close()


def _limits(body: dict[str, Any], *, least: int, most: int) -> Iterator[tuple[bool, str]]:
    """Yield what may be wrong with a group's limits, each with whether it is."""
    name = body["AutoScalingGroupName"]
    update = f"aws autoscaling update-auto-scaling-group --auto-scaling-group-name {name}"
    yield (
        body["MaxSize"] < most,
        f"{name} may have {body['MaxSize']} machines, the pool {most}: {update} --max-size {most}",
    )
    yield (
        body["MinSize"] > least,
        f"{name} keeps {body['MinSize']} machines, the pool {least}: {update} --min-size {least}",
    )
    yield (
        not body.get("NewInstancesProtectedFromScaleIn"),
        f"{name} may choose new machines to remove: {update} --new-instances-protected-from-scale-in",
    )
    yield bool(body.get("CapacityRebalance")), f"{name} replaces machines: {update} --no-capacity-rebalance"


def _machine(body: dict[str, Any], cordoned: Mapping[str, datetime]) -> Machine:
    state: str = body["LifecycleState"]
    return Machine(
        id=body["InstanceId"],
        usable=state == "InService" and body["HealthStatus"] == "Healthy",
        closed=state in ("Standby", "EnteringStandby"),
        leaving=state.startswith(("Terminat", "Detach")),
        guarded=bool(body["ProtectedFromScaleIn"]),
        cordoned_at=cordoned.get(body["InstanceId"]),
    )
