"""The plan compared with simpler rules: a chart of what each costs, with ranges, and a table."""

from __future__ import annotations

from typing import Any

import polars as pl
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from gangplan.pages import LIGHT, NOTHING, Cells, Table, figure, new_axes, number, share, style, table_of, text, to_svg

Row = dict[str, Any]


def draw(alternatives: pl.DataFrame) -> str:
    """Draw the mean cost of each rule as a dot on a line from its 5 % best to its 95 % worst; the plan is on top."""
    rows = alternatives.to_dicts()
    with style():
        drawn, axes = new_axes(11, 0.7 + 0.34 * len(rows))
        for place, row in enumerate(rows):
            colour = LIGHT["fan"] if place == 0 else LIGHT["muted"]
            best = row["mean"] if row.get("best") is None else row["best"]
            axes.hlines(place, best, row["worst"], color=colour, linewidth=5, alpha=0.35)
            axes.plot([row["mean"]], [place], marker="o", markersize=7, color=colour)
        axes.axvline(rows[0]["mean"], color=LIGHT["fan"], linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("cost over the horizon")
        return to_svg(drawn, "alternatives", "The plan beside its alternatives", _describe(rows))


def _describe(rows: list[Row]) -> str:
    plan, *others = rows
    best = min(others, key=lambda row: row["mean"])
    return (
        f"The plan costs {number(plan['mean'])} in the mean, {number(plan['worst'])} at the 95 % worst. "
        f"Of the others {best['name']} costs least, {number(best['mean'])} and {number(best['worst'])}."
    )


def table(alternatives: pl.DataFrame) -> Table:
    """Show what each rule costs beside the plan, what it leaves unserved, and what it emits if that is known."""
    emits = "carbon_kg" in alternatives.columns and alternatives["carbon_kg"].sum() > 0
    carbon: Cells = [(figure("Carbon", "kg CO2"), lambda row: number(row["carbon_kg"]))] if emits else []
    return table_of(
        "Cost against the alternatives, out of sample",
        alternatives.to_dicts(),
        [
            (text("Run by"), lambda row: row["name"]),
            (figure("Cost", "mean"), lambda row: number(row["mean"])),
            (figure("More than the plan", "mean, 95 % range"), _difference),
            (figure("Cost", "5 % best"), lambda row: number(row.get("best"))),
            (figure("Cost", "95 % worst"), lambda row: number(row["worst"])),
            (figure("Unserved"), lambda row: share(row["unserved"], 2)),
            (figure("Latency work unserved"), lambda row: share(row["latency_unserved"], 2)),
            *carbon,
        ],
        empty="The plan was not run beside others.",
    )


def _difference(row: Row) -> str:
    """Format how much more a rule costs than the plan, with its range."""
    return f"{row['difference']:+,.0f} ± {number(row['range'])}" if row["difference"] else NOTHING
