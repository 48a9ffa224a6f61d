"""Machines of EC2 without an Auto Scaling group: launched whole orders at a time from a launch template.

Such machines have no number that could be set twice, so each order carries a token: of the pool, the numbers, the
machines that were seen, and the ten minutes in which it is made. EC2 shows new machines late. An order that is made
again from the same sight has the same token, and EC2 answers it with the machines of the first. An order that is shown
only in part counts whole for ten minutes. In the first of each ten minutes nothing is ordered: what was ordered before
shows by then.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from gangplan.clock import Clock, floor_hour
from gangplan.errors import ConflictError, UnavailableError
from gangplan.execute.cloud.ec2_calls import Connect, Ec2Clients, calling
from gangplan.execute.cloud.groups import CORDONED, Group, Machine
from gangplan.execute.cloud.settings import Ec2Group

GROUP, _ORDER = "gangplan.io/group", "gangplan.io/order"

_SHOWN_WITHIN = timedelta(minutes=10)
"""How long EC2 may take to show all machines of an order, with a wide margin; a token is the same for as long."""

_QUIET = timedelta(minutes=1)
"""How long nothing is ordered when tokens have become new."""

_ENDED, _GONE = "terminated", ("shutting-down", "terminated")


class Ec2Machines:
    """The machines of some pools, each pool's by a tag."""

    def __init__(self, pools: Mapping[str, Ec2Group], connect: Connect, *, clock: Clock) -> None:
        self._pools = dict(pools)
        self._clients = Ec2Clients(connect)
        self._clock = clock

    def pools(self) -> Collection[str]:
        """Return the pools whose machines are launched here."""
        return self._pools.keys()

    def read(self, pools: Collection[str], *, cordons: bool) -> Mapping[str, Group]:
        """Return the machines of these pools; their tags come with them."""
        return {pool: self._group(pool, self._describe(pool)) for pool in pools}

    def _describe(self, pool: str) -> list[dict[str, Any]]:
        """Return the pool's machines, those that ended in the last hour too, as EC2 shows them."""
        place = self._pools[pool]
        pages = self._clients.reader("ec2", place.region).get_paginator("describe_instances")
        with calling(f"machines of {place.group}"):
            answer = list(pages.paginate(Filters=[{"Name": f"tag:{GROUP}", "Values": [place.group]}]))
        return [body for page in answer for order in page["Reservations"] for body in order["Instances"]]

    def _group(self, pool: str, bodies: list[dict[str, Any]]) -> Group:
        staying = [body for body in bodies if body["State"]["Name"] not in _GONE]
        return Group(
            shown=f"machines of {self._pools[pool].group}",
            ordered=len(staying) + self._hidden(bodies),
            most=sys.maxsize,
            machines=tuple(_machine(body) for body in bodies if body["State"]["Name"] != _ENDED),
            sight=" ".join(sorted(body["InstanceId"] for body in bodies)),
        )

    def _hidden(self, bodies: list[dict[str, Any]]) -> int:
        """Return the machines of late orders that EC2 does not show yet."""
        since = self._clock() - _SHOWN_WITHIN
        late = Counter(_tags(body).get(_ORDER, "") for body in bodies if body["LaunchTime"] > since)
        return sum(max(0, int(order.partition("-")[0]) - shown) for order, shown in late.items() if order)

    def order(self, pool: str, group: Group, machines: int) -> None:
        """Launch what lacks, all of it or nothing."""
        place, lacking = self._pools[pool], machines - group.ordered
        if lacking <= 0:
            raise ConflictError(f"{group.shown}: {-lacking} are on their way, and cannot be withdrawn before they show")
        token = self._token(place, group, machines)
        tags = {GROUP: place.group, _ORDER: f"{lacking}-{token[:16]}"}
        named = [{"Key": key, "Value": value} for key, value in tags.items()]
        with calling(group.shown):
            self._clients.writer("ec2", place.region).run_instances(
                LaunchTemplate={"LaunchTemplateName": place.template},
                MinCount=lacking,
                MaxCount=lacking,
                ClientToken=token,
                TagSpecifications=[{"ResourceType": "instance", "Tags": named}],
            )

    def _token(self, place: Ec2Group, group: Group, machines: int) -> str:
        """Return the order's token, unless tokens have only just become new."""
        now = self._clock()
        since = (now - floor_hour(now)) % _SHOWN_WITHIN
        if since < _QUIET:
            raise UnavailableError(f"{group.shown}: an order waits for up to a minute, so that none is repeated")
        told = (place.region, place.group, place.template, (now - since).isoformat(), str(machines), group.sight)
        return sha256("\n".join(told).encode()).hexdigest()

    def remove(self, pool: str, machines: Collection[str]) -> None:
        """Terminate these machines."""
        with calling(self._pools[pool].group):
            self._clients.writer("ec2", self._pools[pool].region).terminate_instances(InstanceIds=list(machines))

    def guard(self, pool: str, machines: Collection[str]) -> None:
        """Do nothing: nobody else removes them."""

    def cordon(self, pool: str, machines: Collection[str], at: datetime | None) -> None:
        """Set or delete the tag of these machines."""
        self._clients.cordon(self._pools[pool].region, machines, at)

    def check(self, pool: str, *, least: int, most: int) -> tuple[str, ...]:
        """Return that the launch template is not there, if so."""
        place = self._pools[pool]
        client = self._clients.reader("ec2", place.region)
        with calling(f"launch template {place.template}"):
            client.describe_launch_templates(LaunchTemplateNames=[place.template])
        return ()

    def close(self) -> None:
        """Close the clients."""
        self._clients.close()


def _tags(body: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in body.get("Tags", [])}


def _machine(body: dict[str, Any]) -> Machine:
    state, cordoned = body["State"]["Name"], _tags(body).get(CORDONED)
    return Machine(
        id=body["InstanceId"],
        usable=state == "running",
        closed=state in ("stopping", "stopped"),
        leaving=state in _GONE,
        cordoned_at=datetime.fromisoformat(cordoned) if cordoned else None,
    )
