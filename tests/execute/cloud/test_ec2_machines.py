"""Machines that are launched without a group: an order that is made again is the same order."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.execute.cloud.conftest import REGION, Ec2, MakeEc2, client, fleet

from gangplan.errors import CapacityError, ConflictError, RejectedError, UnavailableError
from gangplan.execute.cloud.ec2 import open_ec2
from gangplan.execute.cloud.settings import Ec2Group
from gangplan.testing import NOW
from gangplan.types import StepKind

ORDER, REMOVE, CORDON = StepKind.ORDER, StepKind.REMOVE, StepKind.CORDON


def at(ec2: Ec2, moment: datetime) -> None:
    """Let the target's clock stand at another moment."""
    pools = {"h100": Ec2Group(kind="ec2", region=REGION, group=ec2.group, template="gpus")}
    ec2.target = open_ec2(pools, fleet(), clock=lambda: moment, connect=client)


def test_machines_are_launched_and_removed_by_name(make_machines: MakeEc2) -> None:
    """The numbers are those of machines that stay; all else is as with a group."""
    ec2 = make_machines(3)
    first, second, third = ec2.names()
    ec2.step(ORDER, 4)
    ec2.step(ORDER, 4, before=3)
    assert (ec2.seen().ordered, ec2.world.launched) == (4, 1)
    ec2.step(CORDON, 4, second)
    with pytest.raises(ConflictError, match=f"{first}: no longer cordoned"):
        ec2.step(REMOVE, 3, first)
    ec2.step(REMOVE, 3, second)
    ec2.step(REMOVE, 3, second, before=4)
    assert (ec2.seen().ordered, second in ec2.names(), {first, third} <= set(ec2.names())) == (3, False, True)


def test_an_order_that_does_not_show_yet_is_not_bought_again(make_machines: MakeEc2) -> None:
    """EC2 shows new machines late: the same order has the same token, and is answered with the first one's machines."""
    ec2 = make_machines(1)
    ec2.seen()
    ec2.world.lags = True
    ec2.step(ORDER, 3, before=1)
    ec2.step(ORDER, 3, before=1)
    ec2.world.lags = False
    assert (ec2.seen().ordered, len(ec2.names()), ec2.world.launched) == (3, 3, 2)


def test_an_order_that_shows_in_part_counts_whole(make_machines: MakeEc2) -> None:
    """For ten minutes; what has not shown by then does not come."""
    ec2 = make_machines(1)
    ec2.step(ORDER, 4)
    ec2.seen()
    ec2.world.shown.remove(ec2.names()[-1])
    ec2.world.lags = True
    assert (len(ec2.names()), ec2.seen().ordered) == (3, 4)
    assert ec2.seen().irrevocable.startswith("EC2 to show machines")
    with pytest.raises(ConflictError, match="1 are on their way"):
        ec2.step(REMOVE, 3)
    at(ec2, NOW + timedelta(minutes=11))
    assert (len(ec2.names()), ec2.seen().ordered) == (3, 3)


def test_the_same_numbers_are_another_order_ten_minutes_later(make_machines: MakeEc2) -> None:
    """Two machines, then one, then two again: within ten minutes EC2 takes it for the first order."""
    ec2 = make_machines(1)
    ec2.step(ORDER, 2)
    name = ec2.names()[-1]
    ec2.step(CORDON, 2, name)
    ec2.step(REMOVE, 1, name)
    at(ec2, NOW + timedelta(minutes=11))
    ec2.step(ORDER, 2)
    assert (ec2.seen().ordered, ec2.world.launched) == (2, 2)


def test_nothing_is_ordered_when_tokens_become_new(make_machines: MakeEc2) -> None:
    """A minute is left in which what was ordered before shows."""
    ec2 = make_machines(1)
    at(ec2, NOW + timedelta(minutes=20, seconds=59))
    with pytest.raises(UnavailableError, match="waits for up to a minute"):
        ec2.step(ORDER, 2)
    at(ec2, NOW + timedelta(minutes=21))
    ec2.step(ORDER, 2)
    assert ec2.seen().ordered == 2


def test_a_lack_of_capacity_orders_nothing(make_machines: MakeEc2) -> None:
    """All that lacks is launched, or nothing."""
    ec2 = make_machines(1)
    ec2.world.stock = 1
    with pytest.raises(CapacityError, match=r"do not have sufficient .* capacity"):
        ec2.step(ORDER, 3)
    assert (ec2.seen().ordered, ec2.world.launched) == (1, 0)


def test_a_template_that_there_is_not_is_named(make_machines: MakeEc2) -> None:
    """By the check, and by the order."""
    assert make_machines().target.check() == ()
    ec2 = make_machines(template="none")
    assert "launch template none: " in ec2.target.check()[0]
    with pytest.raises(RejectedError, match="gpus-"):
        ec2.step(ORDER, 1)
