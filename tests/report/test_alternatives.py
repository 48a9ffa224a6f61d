"""The plan beside its alternatives, and what its nodes emit, as the page shows them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from tests.report.conftest import made_alternatives

from gangplan.report import alternatives, tables
from gangplan.report.tables import emission


def test_each_way_has_its_line_and_its_row() -> None:
    """Every way is named in chart and table; differences carry their sign and range, the plan's own is empty."""
    found = made_alternatives()
    drawing, shown = alternatives.draw(found), alternatives.table(found)
    for row, name in zip(shown.rows, found["name"], strict=True):
        assert row[0] == name
        assert name.replace("%", "%") in re.sub(r"&amp;", "&", drawing)
    assert shown.rows[0][2] == "–"  # noqa: RUF001
    assert shown.rows[1][2] == "+17,800 ± 5,500"
    assert "reactive costs least" in drawing
    assert shown.columns[-1].unit == "kg CO2"


def test_a_table_of_an_earlier_version_is_shown_too() -> None:
    """Without the best paths and without carbon the rest is there."""
    old = made_alternatives().drop("best", "carbon_kg")
    shown = alternatives.table(old)
    assert shown.columns[-1].name == "Latency work unserved"
    assert shown.rows[0][3] == "–"  # noqa: RUF001
    assert "<svg" in alternatives.draw(old)


def test_emissions_follow_power_intensity_and_the_hour(world: Any) -> None:
    """Kilograms are nodes x kW x g/kWh / 1000 x the hour's factor; pools without power are left out of the table."""
    day = tuple(2.0 if hour < 12 else 0.5 for hour in range(24))
    pools = tuple(
        replace(pool, power_kw_per_node=10.0, carbon_g_per_kwh=300.0, carbon_factors=day)
        if pool.name == "a100-spot"
        else pool
        for pool in world.plan.fleet.pools
    )
    plan = replace(world.plan, fleet=replace(world.plan.fleet, pools=pools))
    rows = plan.nodes.filter(pl.col("pool") == "a100-spot")
    wanted = sum(nodes * 3.0 * (2.0 if hour.hour < 12 else 0.5) for hour, nodes in rows["hour", "nodes"].iter_rows())
    assert emission(plan) == {"a100-spot": pytest.approx(wanted)}
    assert emission(world.plan) == {}
    shown = tables.pools(plan)
    assert shown.columns[-1].name == "Carbon"
    assert len(tables.pools(world.plan).columns) == len(shown.columns) - 1
