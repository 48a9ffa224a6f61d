"""What was planned, ordered, usable and granted, in one picture."""

from __future__ import annotations

from typing import Any

import polars as pl
from tests.report.conftest import made_carried

from gangplan.report import carried


def test_nodes_are_counted_in_gpus_and_hours_without_a_look_are_a_gap(world: Any) -> None:
    """Pools add up by the size of their nodes; a pool that is gone counts nothing."""
    rows = made_carried()
    gone = rows.with_columns(pool=pl.lit("gone"))
    gpus = carried.in_gpus(pl.concat([rows, gone]), world.plan.fleet)
    assert gpus["planned"].to_list() == [8 * nodes for nodes in rows["planned"]]
    assert gpus.height == 46


def test_the_picture_says_where_nodes_came_late(world: Any) -> None:
    """Its words name the newest numbers, and how often fewer nodes were usable than planned."""
    drawing = carried.draw(made_carried(), world.plan.fleet)
    assert "48 planned, 48 ordered, 48 usable, 43 granted" in drawing
    assert "Fewer usable than planned in 1 of 46 hours." in drawing
