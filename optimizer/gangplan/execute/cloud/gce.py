"""Managed instance groups of Compute Engine, each in one zone.

`resize` upward sets a number, so nothing is bought twice; downward it would choose machines itself, so machines are
deleted by name, also those that are being created and have no machine yet. Flex-start groups grow by resize requests: a
request's name says from which number to which, and a name is taken once, so of two writers that saw the same group one
is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from uuid import NAMESPACE_URL, uuid4, uuid5

from gangplan.clock import Clock
from gangplan.errors import ConflictError, InputError, NotFoundError
from gangplan.execute.cloud.gce_calls import Clients, Message, calling, connect, done, messages, reading, writing
from gangplan.execute.cloud.group_target import GroupTarget, Joined
from gangplan.execute.cloud.groups import Group, Machine
from gangplan.execute.cloud.settings import GceGroup
from gangplan.types import Fleet

_LABEL = "gangplan-cordoned-at"
"""Our tag as Google's labels can be: seconds since 1970."""

_MOST = 1000
"""Machines of a zonal group at most. Source: Google's quotas of managed instance groups."""

_LEAVING = {"DELETING", "ABANDONING"}
_OPEN = {"CREATING", "ACCEPTED"}


def open_gce(pools: Mapping[str, GceGroup], fleet: Fleet, *, clock: Clock, joined: Joined | None = None) -> GroupTarget:
    """Open the managed instance groups of these pools as a target; nothing is called yet.

    Parameters
    ----------
    joined : returns the nodes of a cluster that the machines of a pool are; see `GroupTarget`
    """
    return GroupTarget("gce", (GceGroups(pools),), fleet, clock=clock, joined=joined)


class GceGroups:
    """The managed instance groups of some pools, in any projects and zones."""

    def __init__(self, pools: Mapping[str, GceGroup]) -> None:
        self._pools = dict(pools)
        self._clients: dict[str, Clients] = {}

    def _at(self, pool: str) -> tuple[GceGroup, Clients]:
        """Return a pool's group and the clients for it."""
        place = self._pools[pool]
        if place.endpoint not in self._clients:
            self._clients[place.endpoint] = connect(place.endpoint)
        return place, self._clients[place.endpoint]

    def pools(self) -> Collection[str]:
        """Return the pools that have a group."""
        return self._pools.keys()

    def read(self, pools: Collection[str], *, cordons: bool) -> Mapping[str, Group]:
        """Return the groups of these pools."""
        return {pool: self._read(pool, cordons) for pool in pools}

    def _read(self, pool: str, cordons: bool) -> Group:
        place, clients = self._at(pool)
        target = self._get(pool).target_size
        listed = self._listed(place, clients)
        cordoned = self._cordoned(place, clients) if cordons else {}
        group = Group(
            shown=f"instance group {place.group}",
            ordered=target,
            most=_MOST,
            machines=tuple(_machine(each, cordoned) for each in listed if not _absent(each)),
            trouble=next((words for each in listed if (words := _failure(each))), ""),
        )
        return group if place.flex_start_hours is None else _flex(group, listed, self._requests(place, clients))

    def _listed(self, place: GceGroup, clients: Clients) -> list[Message]:
        with calling(place.group):
            return list(
                clients.groups.list_managed_instances(
                    project=place.project, zone=place.zone, instance_group_manager=place.group, **reading()
                )
            )

    def _get(self, pool: str) -> Message:
        place, clients = self._at(pool)
        try:
            with calling(place.group):
                return clients.groups.get(
                    project=place.project, zone=place.zone, instance_group_manager=place.group, **reading()
                )
        except NotFoundError:
            remedy = f"is no managed instance group in {place.zone} of {place.project}: create it, or correct the name"
            raise InputError(f"pools.{pool}.nodes.group", place.group, remedy) from None

    def _requests(self, place: GceGroup, clients: Clients) -> list[Message]:
        with calling(place.group):
            return list(
                clients.requests.list(
                    project=place.project, zone=place.zone, instance_group_manager=place.group, **reading()
                )
            )

    def _cordoned(self, place: GceGroup, clients: Clients) -> dict[str, datetime]:
        """Return since when machines of the zone are cordoned, as their labels say."""
        asked = messages().ListInstancesRequest(project=place.project, zone=place.zone, filter=f"labels.{_LABEL}:*")
        with calling(f"instances in {place.zone}"):
            found = list(clients.instances.list(asked, **reading()))
        return {each.name: datetime.fromtimestamp(int(each.labels[_LABEL]), UTC) for each in found}

    def order(self, pool: str, group: Group, machines: int) -> None:
        """Set the group's size or file a resize request; or withdraw what has not come."""
        place, clients = self._at(pool)
        if machines <= group.ordered:
            return self._withdraw(pool, group.ordered - machines)
        if place.flex_start_hours is not None:
            return self._request(place, clients, group.ordered, machines)
        asked = messages().ResizeInstanceGroupManagerRequest(
            project=place.project,
            zone=place.zone,
            instance_group_manager=place.group,
            size=machines,
            request_id=str(uuid4()),
        )
        with calling(group.shown):
            operation = clients.groups.resize_unary(asked, **writing())
        return done(clients, place.project, place.zone, operation, group.shown)

    def _request(self, place: GceGroup, clients: Clients, before: int, after: int) -> None:
        """File a resize request under the first free name that says from which number to which it leads."""
        taken = {request.name for request in self._requests(place, clients)}
        name = next(name for number in count(1) if (name := f"gangplan-{before}-to-{after}-{number}") not in taken)
        asked = messages().InsertInstanceGroupManagerResizeRequestRequest(
            project=place.project,
            zone=place.zone,
            instance_group_manager=place.group,
            request_id=str(uuid5(NAMESPACE_URL, f"{place.project}/{place.zone}/{place.group}/{name}")),
            instance_group_manager_resize_request_resource=messages().InstanceGroupManagerResizeRequest(
                name=name,
                resize_by=after - before,
                requested_run_duration=messages().Duration(seconds=round(3600 * (place.flex_start_hours or 0))),
            ),
        )
        with calling(f"{place.group}: {name}"):
            operation = clients.requests.insert_unary(asked, **writing())
        done(clients, place.project, place.zone, operation, f"{place.group}: {name}")

    def _withdraw(self, pool: str, machines: int) -> None:
        """Cancel requests, and delete by name what is being created and has no machine yet."""
        place, clients = self._at(pool)
        if place.flex_start_hours is not None:
            machines -= self._cancel(place, clients, machines)
        absent = [each.instance.rpartition("/")[2] for each in self._listed(place, clients) if _absent(each)]
        if machines > len(absent):
            raise ConflictError(f"{place.group}: {machines - len(absent)} machines came that were to be withdrawn")
        if machines > 0:
            self.remove(pool, absent[:machines])

    def _cancel(self, place: GceGroup, clients: Clients, machines: int) -> int:
        """Cancel open requests of at least so many machines; return how many they asked for.

        One is cancelled whole, and the rest asked for anew.
        """
        cancelled = 0
        waiting = sorted(
            (each for each in self._requests(place, clients) if each.state in _OPEN), key=lambda each: each.resize_by
        )
        while machines > cancelled and waiting:
            chosen = next((each for each in waiting if each.resize_by >= machines - cancelled), waiting[-1])
            waiting.remove(chosen)
            cancelled += chosen.resize_by
            asked = messages().CancelInstanceGroupManagerResizeRequestRequest(
                project=place.project,
                zone=place.zone,
                instance_group_manager=place.group,
                resize_request=chosen.name,
            )
            with calling(f"{place.group}: {chosen.name}"):
                operation = clients.requests.cancel_unary(asked, **writing())
            done(clients, place.project, place.zone, operation, f"{place.group}: {chosen.name}")
        return cancelled

    def remove(self, pool: str, machines: Collection[str]) -> None:
        """Delete these machines; the group's size falls with them. One that is leaving already is passed over."""
        place, clients = self._at(pool)
        asked = messages().DeleteInstancesInstanceGroupManagerRequest(
            project=place.project,
            zone=place.zone,
            instance_group_manager=place.group,
            request_id=str(uuid4()),
            instance_group_managers_delete_instances_request_resource=(
                messages().InstanceGroupManagersDeleteInstancesRequest(
                    instances=[f"zones/{place.zone}/instances/{machine}" for machine in machines],
                    skip_instances_on_validation_error=True,
                )
            ),
        )
        with calling(place.group):
            operation = clients.groups.delete_instances_unary(asked, **writing())
        done(clients, place.project, place.zone, operation, place.group)

    def guard(self, pool: str, machines: Collection[str]) -> None:
        """Do nothing: a group without an autoscaler removes no machine by itself."""

    def cordon(self, pool: str, machines: Collection[str], at: datetime | None) -> None:
        """Set or delete the label of these machines; labels that somebody else changes meanwhile are not lost."""
        place, clients = self._at(pool)
        for machine in machines:
            with calling(machine):
                known = clients.instances.get(project=place.project, zone=place.zone, instance=machine, **reading())
                labels = {name: value for name, value in known.labels.items() if name != _LABEL}
                if at is not None:
                    labels[_LABEL] = str(math.ceil(at.timestamp()))
                asked = messages().InstancesSetLabelsRequest(labels=labels, label_fingerprint=known.label_fingerprint)
                operation = clients.instances.set_labels_unary(
                    project=place.project,
                    zone=place.zone,
                    instance=machine,
                    instances_set_labels_request_resource=asked,
                    **writing(),
                )
            done(clients, place.project, place.zone, operation, machine)

    def check(self, pool: str, *, least: int, most: int) -> tuple[str, ...]:
        """Return who else changes the group or its machines."""
        place, group = self._pools[pool], self._get(pool)
        found: list[str] = []
        if most > _MOST:
            found.append(f"{place.group} may have {_MOST} machines, the pool {most}: lower its max_nodes")
        if group.status.autoscaler:
            remedy = f"gcloud compute instance-groups managed stop-autoscaling {place.group} --zone {place.zone}"
            found.append(f"an autoscaler changes the size of {place.group}, too: {remedy}")
        if group.update_policy.type_ == "PROACTIVE":
            remedy = f"gcloud compute instance-groups managed update {place.group} --update-policy-type opportunistic"
            found.append(f"{place.group} replaces machines when its template changes: {remedy}")
        return tuple(found)

    def close(self) -> None:
        """Close the clients."""
        for clients in self._clients.values():
            clients.close()
        self._clients.clear()


def _machine(body: Message, cordoned: Mapping[str, datetime]) -> Machine:
    name = body.name or body.instance.rpartition("/")[2]
    healthy = all(each.detailed_health_state in ("", "HEALTHY") for each in body.instance_health)
    return Machine(
        id=name,
        usable=body.instance_status == "RUNNING" and body.current_action in ("", "NONE") and healthy,
        leaving=body.current_action in _LEAVING,
        cordoned_at=cordoned.get(name),
    )


def _absent(body: Message) -> bool:
    """Whether it is being created and there is no machine yet, such as while capacity lacks."""
    return body.current_action.startswith("CREATING") and not body.instance_status


def _failure(body: Message) -> str:
    """Return why a machine that is being created has not come yet."""
    if not body.current_action.startswith("CREATING"):
        return ""
    return "; ".join(f"{each.message} ({each.code})" for each in body.last_attempt.errors.errors)


def _flex(
    group: Group,
    listed: Iterable[Message],
    requests: Iterable[Message],
) -> Group:
    """Count what open requests ask for, too: a machine that is being created is one of theirs."""
    creating = [each for each in listed if each.current_action.startswith("CREATING")]
    begun = sum(not _absent(each) for each in creating)
    waiting = sum(request.resize_by for request in requests if request.state in _OPEN)
    words = next((words for request in requests if request.state in _OPEN and (words := _why(request))), "")
    return replace(
        group, ordered=len(group.staying) - begun + max(len(creating), waiting), trouble=group.trouble or words
    )


def _why(request: Message) -> str:
    """Return why a resize request waits."""
    errors = request.status.last_attempt.error.errors or request.status.error.errors
    return "; ".join(f"{each.message} ({each.code})" for each in errors)
