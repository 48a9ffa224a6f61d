"""The tables' figures, against the values they are drawn from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from gangplan.pages.rendering import Table
from gangplan.report import tables


def column(table: Table, name: str) -> list[str]:
    """The cells under a heading."""
    index = [one.name for one in table.columns].index(name)
    return [row[index] for row in table.rows]


def test_every_row_has_every_column(world: Any) -> None:
    """No table has a row that is shorter or longer than its headings."""
    made = (
        tables.backtest(world.training.backtest),
        tables.pools(world.plan),
        tables.shortages(world.plan),
        tables.limits(world.plan),
        tables.reservations(world.reservations),
        tables.learned(world.score, world.beliefs),
    )
    assert all(len(row) == len(table.columns) for table in made for row in table.rows)
    assert all(table.rows for table in made)


def test_backtest_errors_are_mean_absolute_errors(world: Any) -> None:
    """The model's and naive's errors of a series are those counted row by row."""
    rows = world.training.backtest.filter(pl.col("tenant") == "search", pl.col("accelerator") == "l4").to_dicts()
    table = tables.backtest(pl.DataFrame(rows, schema=world.training.backtest.schema))
    for name, made in (("Error of the median", "q0.5"), ("Error of naive", "naive")):
        error = sum(abs(row[made] - row["gpus"]) for row in rows) / len(rows)
        assert float(column(table, name)[0]) == pytest.approx(error, abs=0.005)


def test_unknown_hours_are_not_in_the_backtest_table(world: Any) -> None:
    """A row without demand changes no figure."""
    known = world.training.backtest
    unknown = known.head(50).with_columns(gpus=pl.lit(None, pl.Float64))
    assert tables.backtest(pl.concat([known, unknown])) == tables.backtest(known)


def test_pools_add_up_to_the_plans_cost(world: Any) -> None:
    """The pools' costs are all of the plan's money."""
    costs = [float(cell.replace(",", "")) for cell in column(tables.pools(world.plan), "Cost")]
    assert sum(costs) == pytest.approx(world.plan.total_cost, abs=len(costs))


def test_the_worst_hour_is_the_worst(world: Any) -> None:
    """A series' worst hour is the one with the largest 0.95 shortage."""
    worst = world.plan.shortage.sort("p95_gpus", descending=True).row(0, named=True)
    table = tables.shortages(world.plan)
    at = column(table, "Tenant").index(worst["tenant"])
    assert column(table, "Worst hour")[at] == f"{worst['hour']:%a %d %b %H:%M}"


def test_a_kept_limit_saves_and_a_bent_one_costs(world: Any) -> None:
    """The limits' table says which money is a price and which a saving."""
    table = tables.limits(world.plan)
    assert column(table, "By") == ["1 node", "38.2 GPU-hours"]
    assert column(table, "Which") == ["more would save", "were lacking, priced at"]


def test_reservations_say_where_or_why(world: Any) -> None:
    """A grant names its nodes, a waiting one its reason and what helps; ETAs are early or late."""
    table = tables.reservations(world.reservations)
    assert column(table, "State") == ["cancelled", "waiting", "granted", "released"]
    assert "What helps: release r-0002; one more node in h100-lab." in column(table, "Where, or why it waits")[1]
    assert column(table, "Where, or why it waits")[2] == "h100-lab-0 (4 GPUs), h100-lab-1 (4 GPUs)"
    assert column(table, "First ETA was off by")[2] == "2 min early"
    assert column(table, "Waited") == ["–", "–", "14 min", "0 s"]  # noqa: RUF001


def test_many_reservations_are_cut_and_said_to_be(world: Any) -> None:
    """Only the newest are shown, and the caption says of how many."""
    table = tables.reservations(world.reservations * 40, most=60)
    assert len(table.rows) == 60
    assert "the newest 60 of 160" in table.caption


def test_what_was_learned_is_in_per_cent(world: Any) -> None:
    """A level factor of 1.14 reads as +14 %, one of 1 as none; without beliefs there is a dash."""
    table = tables.learned(world.score, world.beliefs)
    levels = dict(zip(column(table, "Tenant"), column(table, "Level changed by"), strict=True))
    assert (levels["search"], levels["language"]) == ("+14 %", "none")
    assert set(column(tables.learned(world.score, None), "Level changed by")) == {"–"}  # noqa: RUF001


def test_a_wait_of_minutes_is_not_zero_hours(world: Any) -> None:
    """Held times are in the two largest units."""
    assert column(tables.reservations(world.reservations), "Held")[3] == "18 min"
    assert tables.duration(timedelta(hours=26, minutes=5)) == "1 d 2 h"
