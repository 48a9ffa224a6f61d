"""A process that dies after any call to a cloud: the next one reaches the plan, and nothing was bought twice."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, strategies as st
from tests.effort import examples
from tests.execute.cloud.conftest import Ec2, Gce, MakeEc2, MakeGce, client
from tests.execute.cloud.kills import Doom, survive

from gangplan.execute.cloud.gce_calls import Clients

DOOM = Doom()
ROUNDS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 14)), min_size=1, max_size=4)


@cache
def doomed(service: str, region: str, *, retries: bool = True) -> Any:
    """Return a client of AWS that dies when it is told to."""
    made = client.__wrapped__(service, region, retries=retries)
    made.meta.events.register("after-call", DOOM.strike)
    return made


@pytest.fixture
def ec2(make_ec2: MakeEc2) -> Ec2:
    """A group of two machines, whose reader may die."""
    made = make_ec2(2, connect=doomed)
    made.world.boot = 1
    return made


def doom_gce(gce: Gce) -> Gce:
    """Let the clients of a Google group die when they are told to."""
    clients: Clients = gce.target._clouds[0]._at("h100")[1]  # pyright: ignore[reportAttributeAccessIssue]
    for each in (clients.groups, clients.requests, clients.instances, clients.operations):
        each.transport._session.hooks["response"].append(DOOM.strike)
    return gce


@given(rounds=ROUNDS)
@examples(8, 500)
def test_on_ec2(ec2: Ec2, rounds: list[tuple[int, int, int]]) -> None:
    """An Auto Scaling group."""
    survive(ec2, DOOM, rounds)


@pytest.fixture(params=[None, 24], ids=["resize", "flex-start"])
def gce(make_gce: MakeGce, request: pytest.FixtureRequest) -> Gce:
    """A group of two machines, whose reader may die."""
    return doom_gce(make_gce(2, flex=request.param))


@given(rounds=ROUNDS)
@examples(12, 1000)
def test_on_compute_engine(gce: Gce, rounds: list[tuple[int, int, int]]) -> None:
    """A managed instance group that is resized, and one that grows by requests."""
    gce.world.reset()
    gce.world.add("gpus", 2)
    gce.world.boot = 1
    survive(gce, DOOM, rounds)
