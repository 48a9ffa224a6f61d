"""The rights that the guide asks for are those of the calls that are made: none lacks, none is too much."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.execute.cloud.conftest import MakeEc2, MakeGce, Played, client

from gangplan.execute.cloud import spot_changes
from gangplan.testing import NOW
from gangplan.types import Pool, PoolKind, StepKind

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "execute-clouds.md").read_text()

# By Google's documents; methods of resize requests and of a group's machines need the rights to the group.
PERMISSIONS = {
    "instanceGroupManagers.get": "instanceGroupManagers.get",
    "instanceGroupManagers.listManagedInstances": "instanceGroupManagers.list",
    "instanceGroupManagers.resize": "instanceGroupManagers.update",
    "instanceGroupManagers.deleteInstances": "instanceGroupManagers.update instances.delete",
    "instanceGroupManagerResizeRequests.list": "instanceGroupManagers.list",
    "instanceGroupManagerResizeRequests.insert": "instanceGroupManagers.update",
    "instanceGroupManagerResizeRequests.cancel": "instanceGroupManagers.update",
    "instances.get": "instances.get",
    "instances.list": "instances.list",
    "instances.setLabels": "instances.setLabels",
    "zoneOperations.wait": "zoneOperations.get",
}


def use_all(played: Played) -> None:
    """Take each kind of step, meet a lack of capacity, withdraw, and check."""
    world: Any = played.world
    world.stock = 1
    played.step(StepKind.ORDER, 5)
    seen = played.seen()
    if seen.unprotected:
        played.step(StepKind.PROTECT, 5, *seen.unprotected)
    name, other = played.names()[:2]
    played.step(StepKind.CORDON, 5, name, other)
    played.step(StepKind.UNCORDON, 5, other)
    played.step(StepKind.REMOVE, 4, name)
    played.target.check()


def test_aws(make_ec2: MakeEc2, make_machines: MakeEc2) -> None:
    """Every action of the policy is used, and no other."""
    machines = make_machines(2)
    machines.world.stock = 3
    machines.step(StepKind.ORDER, 3)
    name = machines.names()[0]
    machines.step(StepKind.CORDON, 3, name)
    machines.step(StepKind.REMOVE, 2, name)
    machines.target.check()
    calls = set(machines.world.calls)
    ec2 = make_ec2(2, NewInstancesProtectedFromScaleIn=False)
    use_all(ec2)
    spot = Pool(
        name="spot",
        accelerator="h100",
        gpus_per_node=8,
        kind=PoolKind.SPOT,
        price_per_node_hour=9,
        max_nodes=1,
        region="us-east-1",
        zone="us-east-1a",
    )
    ec2.world.spot_prices = [("us-east-1a", "2026-03-01T00:00:00Z", "9.0")]
    spot_changes([spot], {"spot": "p5.48xlarge"}, since=NOW - timedelta(hours=1), until=NOW, connect=client)
    policy = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])  # pyright: ignore[reportOptionalSubscript]
    asked = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert calls | set(ec2.world.calls) == asked


def test_google_cloud(make_gce: MakeGce) -> None:
    """Every permission of the role is needed by a call that is made, and each call has its own."""
    calls: set[str] = set()
    for flex in (None, 24):
        gce = make_gce(2, flex=flex)
        use_all(gce)
        if flex:
            gce.world.stock = 0
            gce.step(StepKind.ORDER, 8)
            gce.step(StepKind.REMOVE, 5)
        calls |= set(gce.world.calls)
    asked = set(re.findall(r"- compute\.(\S+)", PAGE))
    assert asked == {right for call in calls for right in PERMISSIONS[call].split()}
    assert calls == set(PERMISSIONS)
