# pyright: reportUnknownMemberType=false
"""The plan beside the rules that people use instead: a chart of what each costs, with ranges, and a table."""

from __future__ import annotations

from typing import Any

import polars as pl
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from gangplan.pages import LIGHT, NOTHING, Table, figure, new_axes, number, share, style, text, to_svg


def draw(found: pl.DataFrame) -> str:
    """Draw each way's mean cost as a dot on the line from its 5 % best to its 95 % worst paths; the plan on top."""
    rows = found.to_dicts()
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


def _describe(rows: list[dict[str, Any]]) -> str:
    """Say in words what the picture shows."""
    plan, *others = rows
    best = min(others, key=lambda row: row["mean"])
    return (
        f"The plan costs {number(plan['mean'])} in the mean, {number(plan['worst'])} at the 95 % worst. "
        f"Of the others {best['name']} costs least, {number(best['mean'])} and {number(best['worst'])}."
    )


def table(found: pl.DataFrame) -> Table:
    """What each way costs, in the mean and at worst, beside the plan; whom it leaves unserved, what it emits."""
    emits = "carbon_kg" in found.columns and found["carbon_kg"].sum() > 0
    return Table(
        caption="Cost against the alternatives, out of sample",
        columns=(
            text("Run by"),
            figure("Cost", "mean"),
            figure("More than the plan", "mean, 95 % range"),
            figure("Cost", "5 % best"),
            figure("Cost", "95 % worst"),
            figure("Unserved"),
            figure("Latency work unserved"),
            *((figure("Carbon", "kg CO2"),) if emits else ()),
        ),
        rows=tuple(_row(row, emits) for row in found.to_dicts()),
        empty="The plan was not run beside others.",
    )


def _row(row: dict[str, Any], emits: bool) -> tuple[str, ...]:
    """One way's row."""
    beside = f"{row['difference']:+,.0f} ± {number(row['range'])}" if row["difference"] else NOTHING
    return (
        row["name"],
        number(row["mean"]),
        beside,
        number(row.get("best")),
        number(row["worst"]),
        share(row["unserved"], 2),
        share(row["latency_unserved"], 2),
        *((number(row["carbon_kg"]),) if emits else ()),
    )
