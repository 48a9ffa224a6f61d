"""Clouds on this machine, and a guard: no call of these tests goes anywhere else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

import pytest
from tests.execute.cloud.aws import StrictAws
from tests.execute.cloud.gce_server import GceServer
from werkzeug.serving import WSGIRequestHandler, make_server

from gangplan.execute.cloud.ec2 import open_ec2
from gangplan.execute.cloud.ec2_calls import connect
from gangplan.execute.cloud.gce import open_gce
from gangplan.execute.cloud.group_target import GroupTarget, Joined
from gangplan.execute.cloud.settings import Ec2Group, GceGroup
from gangplan.testing import NOW
from gangplan.types import Fleet, Pool, PoolKind, PoolNodes, Step, StepKind

REGION = "us-east-1"
_numbers = count()


class Silent(WSGIRequestHandler):
    """Says nothing of its requests, and keeps connections."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on any connection, or look-up of a name, that leaves the machine."""
    real = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert address[0] in ("127.0.0.1", "::1", "localhost"), f"a call left the machine: {address}"
        real(self, address)

    def looked_up(host: Any, *args: Any, **more: Any) -> Any:
        assert host in ("127.0.0.1", "::1", "localhost", None), f"a name was looked up: {host}"
        return resolve(host, *args, **more)

    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", looked_up)


@pytest.fixture(scope="session")
def aws_server() -> Iterator[tuple[StrictAws, str]]:
    """AWS on a free port, for all tests of a worker."""
    world = StrictAws()
    server = make_server("127.0.0.1", 0, world, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield world, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def aws(aws_server: tuple[StrictAws, str], monkeypatch: pytest.MonkeyPatch) -> StrictAws:
    """AWS with nothing said or wanted yet; boto3 finds it, and credentials, in the environment."""
    world, address = aws_server
    world.reset()
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    return world


@cache
def client(service: str, region: str, *, retries: bool = True) -> Any:
    """Return a client of the worker's AWS; to make one takes a tenth of a second."""
    return connect(service, region, retries=retries)


class Played:
    """A pool h100 on a group of machines, by its target."""

    target: GroupTarget

    def seen(self) -> PoolNodes:
        """Return what the target observes of the pool."""
        (nodes,) = self.target.observe().nodes
        return nodes

    def names(self) -> list[str]:
        """Return the names of its nodes."""
        return [node.name for node in self.seen().nodes]

    def step(self, kind: StepKind, after: int, *nodes: str, before: int | None = None, dry_run: bool = False) -> None:
        """Take a step from what is ordered now, or from `before`."""
        start = self.seen().ordered if before is None else before
        step = Step(kind=kind, pool="h100", before=start, after=after, why="as planned", nodes=nodes)
        self.target.apply(step, dry_run=dry_run)


@dataclass
class Ec2(Played):
    """A pool h100 on an Auto Scaling group, and the target that it is."""

    world: StrictAws
    group: str
    target: GroupTarget


def fleet(most: int = 8, least: int = 0) -> Fleet:
    """Return the fleet with one pool of machines of eight GPUs."""
    pool = Pool(
        name="h100",
        accelerator="h100",
        gpus_per_node=8,
        kind=PoolKind.ON_DEMAND,
        price_per_node_hour=55.04,
        min_nodes=least,
        max_nodes=most,
    )
    return Fleet(pools=(pool,))


MakeEc2 = Callable[..., Ec2]


@pytest.fixture
def make_ec2(aws: StrictAws) -> MakeEc2:
    """Makes a group of some machines, and a target of it."""

    def make(
        machines: int = 0,
        *,
        least: int = 0,
        most: int = 8,
        joined: Joined | None = None,
        connect: Callable[..., Any] = client,
        **more: Any,
    ) -> Ec2:
        make_template(client("ec2", REGION))
        name = f"gpus-{next(_numbers)}"
        given = {"NewInstancesProtectedFromScaleIn": True, "AvailabilityZones": ["us-east-1a"], **more}
        client("autoscaling", REGION).create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=least,
            MaxSize=most,
            DesiredCapacity=machines,
            LaunchTemplate={"LaunchTemplateName": "gpus"},
            **given,
        )
        aws.calls.clear()
        pools = {"h100": Ec2Group(kind="ec2", region=REGION, group=name)}
        return Ec2(aws, name, open_ec2(pools, fleet(), clock=lambda: NOW, joined=joined, connect=connect))

    return make


@pytest.fixture
def make_machines(aws: StrictAws) -> MakeEc2:
    """Makes a target that launches machines from a launch template, with so many launched."""

    def make(machines: int = 0, *, connect: Callable[..., Any] = client, template: str = "gpus") -> Ec2:
        make_template(client("ec2", REGION))
        name = f"gpus-{next(_numbers)}"
        pools = {"h100": Ec2Group(kind="ec2", region=REGION, group=name, template=template)}
        now = NOW + timedelta(minutes=5)
        made = Ec2(aws, name, open_ec2(pools, fleet(), clock=lambda: now, connect=connect))
        if machines:
            made.step(StepKind.ORDER, machines)
        aws.launched = 0
        aws.calls.clear()
        return made

    return make


@cache
def make_template(ec2: Any) -> None:
    """Make the launch template of all groups, once for each server."""
    data = {"ImageId": "ami-12c6146b", "InstanceType": "p5.48xlarge"}
    ec2.create_launch_template(LaunchTemplateName="gpus", LaunchTemplateData=data)


@pytest.fixture(scope="session")
def gce_server() -> Iterator[GceServer]:
    """Compute Engine on a free port, for all tests of a worker."""
    world = GceServer()
    server = make_server("127.0.0.1", 0, world, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    world.address = f"http://127.0.0.1:{server.server_port}"
    yield world
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Gce(Played):
    """A pool h100 on a managed instance group, and the target that it is."""

    world: GceServer
    target: GroupTarget


MakeGce = Callable[..., Gce]


@pytest.fixture
def make_gce(gce_server: GceServer) -> MakeGce:
    """Makes a group of some machines, and a target of it."""
    gce_server.reset()

    def make(machines: int = 0, *, joined: Joined | None = None, flex: float | None = None, **more: Any) -> Gce:
        gce_server.add("gpus", machines, **more)
        place = GceGroup(
            kind="gce",
            project="lab",
            zone="us-central1-a",
            group="gpus",
            flex_start_hours=flex,
            endpoint=gce_server.address,
        )
        return Gce(gce_server, open_gce({"h100": place}, fleet(), clock=lambda: NOW, joined=joined))

    return make
