"""A calendar that is to keep what is reserved is refused, in the ledger's own transaction, where it would not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gangplan.errors import StrandedError
from gangplan.reserve import Ledger
from gangplan.testing import NOW, FakeClock, a_calendar, a_pool, a_request
from gangplan.types import CapacityCalendar, PlanId, ReservationState

HOUR = timedelta(hours=1)


def nodes(*hours: int) -> CapacityCalendar:
    """A calendar of the one pool, hour by hour."""
    return a_calendar([a_pool(max_nodes=4)], hours=hours)


def test_a_granted_gang_is_named_and_kept(empty: Ledger) -> None:
    """A calendar without its nodes in any hour of its walltime is refused and changes nothing; one with them holds."""
    empty.publish(nodes(4, 4, 4, 4))
    gang = empty.submit(a_request("train", duration=2 * HOUR))
    assert gang.state is ReservationState.GRANTED
    top = max(int(place.node.rpartition("-")[2]) for place in gang.placements) + 1
    for hours in ((top - 1,), (4, top - 1, 4), (4, 0, 0)):
        with pytest.raises(StrandedError, match=r"train \(on h100-owned\).*nothing was changed"):
            empty.publish(nodes(*hours), keep=True)
    assert {one.planned_gpus for one in empty.calendar(NOW, NOW + HOUR)} == {16}
    empty.publish(nodes(top, top, 0), keep=True)
    assert empty.get(gang.id).state is ReservationState.GRANTED
    assert [one.planned_gpus for one in empty.calendar(NOW, NOW + 4 * HOUR)][-1] == 0
    empty.publish(nodes(0))  # without `keep` as ever


def test_a_gang_whose_pool_is_gone_is_named(empty: Ledger) -> None:
    """A calendar that has not even its pool is refused."""
    empty.publish(nodes(4, 4))
    empty.submit(a_request("train"))
    other = a_calendar([a_pool("a100-owned", max_nodes=4)], hours=[4, 4])
    with pytest.raises(StrandedError, match="train"):
        empty.publish(other, keep=True)


def test_an_accepted_window_is_never_moved_later(empty: Ledger) -> None:
    """A calendar that is too small in a window's hours is refused by the window's name; other nodes will do."""
    empty.publish(nodes(*[4] * 8))
    window = empty.submit(a_request("later", earliest_start=NOW + 5 * HOUR))
    assert window.promised
    with pytest.raises(StrandedError, match=r"later \(window\)"):
        empty.publish(nodes(4, 4, 4, 4, 4, 1, 4, 4), keep=True)
    assert empty.get(window.id).eta == NOW + 5 * HOUR
    empty.publish(nodes(0, 0, 0, 0, 0, 2, 0, 0), keep=True)
    assert empty.get(window.id).eta == NOW + 5 * HOUR


def test_what_is_stranded_already_stands_in_no_ones_way(empty: Ledger, fake: FakeClock) -> None:
    """A gang that an earlier calendar took the nodes from does not block the next one."""
    empty.publish(nodes(4, 4, 4))
    empty.submit(a_request("train", duration=3 * HOUR))
    empty.publish(nodes(4, 0, 0))
    fake.advance(timedelta(minutes=5))
    empty.publish(
        CapacityCalendar(plan_id=PlanId("next"), pools=nodes(1).pools, intervals=nodes(4, 0, 0).intervals), keep=True
    )
