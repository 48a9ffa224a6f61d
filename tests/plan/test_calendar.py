"""A plan as capacity calendar."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from gangplan import plan
from gangplan.config import Settings
from gangplan.types import Fleet, Forecast, Pool


def test_equal_hours_are_one_interval_and_every_pool_is_there(
    make_forecast: Callable[..., Forecast],
    make_pool: Callable[..., Pool],
    now: datetime,
    settings_of: Callable[..., Settings],
) -> None:
    """A pool that steps twice has three intervals without gaps; a pool that stays has one."""
    day = [8.0] * 8 + [32.0] * 8 + [8.0] * 8
    asked = make_forecast({("ann", "latency", "h100"): day}, now, (1.0,) * 5)
    pools = (
        make_pool("main", "h100", price_per_node_hour=20),
        make_pool("lab", "h100-lab", "owned", min_nodes=2, max_nodes=2),
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
