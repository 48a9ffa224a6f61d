"""The plan beside its alternatives, and what its nodes emit, as the page shows them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import polars as pl
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


def test_emissions_are_those_that_the_plan_counted(world: Any) -> None:
    """Pools that emit nothing are left out of the table, and a plan of an earlier build has no such column."""
    emits = pl.when(pl.col("pool") == "a100-spot").then(12.5).otherwise(0.0)
    plan = replace(world.plan, cost=world.plan.cost.with_columns(carbon_kg=emits))
    assert emission(plan) == {"a100-spot": 12.5}
    assert emission(world.plan) == {}
    assert emission(replace(plan, cost=plan.cost.drop("carbon_kg"))) == {}
    shown = tables.pools(plan)
    assert shown.columns[-1].name == "Carbon"
    assert len(tables.pools(world.plan).columns) == len(shown.columns) - 1
