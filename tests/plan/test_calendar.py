"""A plan as capacity calendar."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.plan.builders import pool_of, settings_of

from gangplan import plan
from gangplan.testing import a_forecast
from gangplan.types import Fleet


def test_equal_hours_are_one_interval_and_every_pool_is_there(
    now: datetime,
) -> None:
    """A pool that steps twice has three intervals without gaps; a pool that stays has one."""
    day = [8.0] * 8 + [32.0] * 8 + [8.0] * 8
    asked = a_forecast({("ann", "latency", "h100"): day}, now, (1.0,) * 5)
    pools = (
        pool_of("main", "h100", price_per_node_hour=20),
        pool_of("lab", "h100-lab", "owned", min_nodes=2, max_nodes=2),
    )
    fleet = Fleet(pools=pools, nodes={"lab": 2})
    calendar = plan.to_calendar(plan.solve(asked, fleet, settings=settings_of()))
    assert calendar.pools == pools
    main = [one for one in calendar.intervals if one.pool == "main"]
    assert [(one.end - one.start) // timedelta(hours=1) for one in main] == [8, 8, 8]
    assert [one.nodes for one in main] == [1, 4, 1]
    assert [one.start for one in main[1:]] == [one.end for one in main[:-1]]
    (lab,) = [one for one in calendar.intervals if one.pool == "lab"]
    assert (lab.start, lab.end, lab.nodes) == (now, now + timedelta(hours=24), 2)
