"""The page's tables: back-test, pools, shortages, limits, reservations, what feedback changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl

from gangplan.pages import NOTHING, Column, Table, duration, factor, figure, moment, number, second, share, text
from gangplan.report.carbon import emission
from gangplan.tables import CORRECTIONS, QUANTILE_COLUMNS, empty
from gangplan.types import QUANTILES, SERIES, Beliefs, Plan, Reservation, Score

_SERIES = (text("Tenant"), text("Class"), text("Accelerator"))
_NONE = 1e-6
# How the page calls a family of limits, the unit of its amount, and whether the plan kept it or had to bend it.
_FAMILIES = {
    "demand": ("Demand not served", "GPU-hours", "bent"),
    "no_pool": ("No pool may serve it", "GPU-hours", "bent"),
    "maximum_nodes": ("All nodes allowed are in use", "nodes", "kept"),
    "lead_time": ("New nodes take time", "hours", "kept"),
    "budget": ("Budget holds the plan back", "money", "kept"),
    "over_budget": ("Budget exceeded", "money", "bent"),
    "latency_reserve": ("Latency reserve lacking", "GPU-hours", "bent"),
    "zone_reserve": ("Lacking, were a zone lost", "GPU-hours", "bent"),
    "carbon_cap": ("Carbon cap exceeded", "kg", "bent"),
    "minimum_nodes": ("Below the minimum of nodes", "node-hours", "bent"),
}


def backtest(table: pl.DataFrame) -> Table:
    """How the model did by series beside seasonal naive's point forecast."""
    gpus, middle = pl.col("gpus"), pl.col("q0.5")
    losses = [
        pl.max_horizontal(level * (gpus - pl.col(name)), (level - 1) * (gpus - pl.col(name)))
        for level, name in zip(QUANTILES, QUANTILE_COLUMNS, strict=True)
    ]
    rows = (
        table.drop_nulls("gpus")
        .group_by(SERIES, maintain_order=True)
        .agg(
            gpus.mean().alias("mean"),
            (200 * pl.mean_horizontal(losses).sum() / gpus.sum()).alias("wql"),
            (middle - gpus).abs().mean().alias("error"),
            (pl.col("naive") - gpus).abs().mean().alias("naive"),
            gpus.is_between("q0.1", "q0.9").mean().alias("coverage"),
            (gpus <= pl.col("q0.95")).mean().alias("below"),
        )
        .sort("mean", *SERIES, descending=[True, False, False, False])
    )
    return Table(
        caption="Back-test by series, on hours that the model had not seen",
        columns=(
            *_SERIES,
            figure("Mean demand", "GPUs"),
            figure("WQL", "% of demand"),
            figure("Error of the median", "GPUs"),
            figure("Error of naive", "GPUs"),
            figure("Better than naive by"),
            figure("Within 80 % band"),
            figure("Below 0.95"),
        ),
        rows=tuple(
            (
                *(row[name] for name in SERIES),
                number(row["mean"], 1),
                number(row["wql"], 1),
                number(row["error"], 2),
                number(row["naive"], 2),
                share(1 - row["error"] / row["naive"]) if row["naive"] else NOTHING,
                share(row["coverage"]),
                share(row["below"]),
            )
            for row in rows.to_dicts()
        ),
        empty="The back-test has no hour with known demand.",
    )


def pools(plan: Plan) -> Table:
    """What each pool runs and costs."""
    spans = plan.nodes.group_by("pool", maintain_order=True).agg(
        pl.col("nodes").min().alias("least"), pl.col("nodes").max().alias("most")
    )
    rows = plan.cost.join(spans, on="pool", how="left").sort("cost", "pool", descending=[True, False])
    shapes = {pool.name: pool for pool in plan.fleet.pools}
    total, emitted = plan.total_cost, emission(plan)
    return Table(
        caption="Pools",
        columns=(
            text("Pool"),
            text("Accelerator"),
            text("Kind"),
            figure("Nodes", "least to most"),
            figure("GPUs", "at most"),
            figure("Node-hours"),
            figure("Price", "per node-hour"),
            figure("Cost"),
            figure("Share of cost"),
            *((figure("Carbon", "kg CO2"),) if emitted else ()),
        ),
        rows=tuple(
            (
                row["pool"],
                shapes[row["pool"]].accelerator,
                shapes[row["pool"]].kind.value.replace("_", " "),
                f"{number(row['least'])} to {number(row['most'])}",
                number((row["most"] or 0) * shapes[row["pool"]].gpus_per_node),
                number(row["node_hours"]),
                number(shapes[row["pool"]].price_per_node_hour, 2),
                number(row["cost"]),
                share(row["cost"] / total) if total else NOTHING,
                *((number(emitted.get(row["pool"])),) if emitted else ()),
            )
            for row in rows.to_dicts()
        ),
        empty="The plan runs no pool.",
    )


def shortages(plan: Plan) -> Table:
    """Who is short, when it is worst, and how likely."""
    short = plan.shortage.filter(pl.max_horizontal("expected_gpus", "p95_gpus") > _NONE)
    worst = pl.col("hour").sort_by("p95_gpus", "expected_gpus", descending=True).first()
    rows = (
        short.group_by(SERIES, maintain_order=True)
        .agg(
            pl.col("expected_gpus").sum().alias("expected"),
            pl.len().alias("hours"),
            pl.col("p95_gpus").max().alias("p95"),
            worst.alias("worst"),
            pl.col("probability").max(),
        )
        .sort("expected", "p95", *SERIES, descending=[True, True, False, False, False])
    )
    return Table(
        caption="Shortage by series",
        columns=(
            *_SERIES,
            figure("Expected", "GPU-hours"),
            figure("Hours with any"),
            figure("Worst 0.95", "GPUs"),
            figure("Worst hour", "UTC"),
            figure("Highest probability"),
        ),
        rows=tuple(
            (
                *(row[name] for name in SERIES),
                number(row["expected"], 1),
                number(row["hours"]),
                number(row["p95"], 1),
                moment(row["worst"]),
                share(row["probability"]),
            )
            for row in rows.to_dicts()
        ),
        empty="Nobody is short in any hour on any demand path that the plan was made for.",
    )


def limits(plan: Plan) -> Table:
    """What binds."""
    return Table(
        caption="Limits that bind",
        columns=(text("Limit"), text("Where"), figure("Hours"), figure("By"), text("Which"), figure("Money")),
        rows=tuple(_limit(row) for row in plan.limits.to_dicts()),
        empty="No limit binds: the plan is as cheap as demand allows.",
    )


def _limit(row: dict[str, Any]) -> tuple[str, ...]:
    """One limit's row: a bent one has a price, a kept one would save money if it were wider."""
    family = str(row["family"])
    words, unit, how = _FAMILIES.get(family, (family.replace("_", " "), "", ""))
    effect = {"bent": "were lacking, priced at", "kept": "more would save"}.get(how, "")
    amount = f"{number(row['amount'], 0 if float(row['amount']).is_integer() else 1)} {unit}".rstrip()
    amount = amount.removesuffix("s") if row["amount"] == 1 else amount
    return words, row["name"], number(row["hours"]), amount, effect, number(row["cost"])


def reservations(lived: Sequence[Reservation], most: int = 60) -> Table:
    """The newest reservations, with the reason of each that waits."""
    newest = sorted(lived, key=lambda one: one.submitted_at, reverse=True)[:most]
    cut = f" (the newest {most} of {len(lived)})" if len(lived) > most else ""
    return Table(
        caption=f"Reservations, the newest first{cut}",
        columns=(
            text("Reservation"),
            text("Tenant"),
            text("Gang"),
            text("State"),
            figure("Submitted", "UTC"),
            figure("Waited"),
            figure("First ETA was off by"),
            figure("ETA", "UTC"),
            figure("Held"),
            text("Where, or why it waits"),
        ),
        rows=tuple(_reservation(one) for one in newest),
        empty="No reservation has been made yet.",
    )


def _reservation(one: Reservation) -> tuple[str, ...]:
    """One reservation's row."""
    off = None if one.granted_at is None or one.first_eta is None else one.granted_at - one.first_eta
    held = None if one.granted_at is None or one.ended_at is None else one.ended_at - one.granted_at
    return (
        f"{one.request.request_key} ({one.id})",
        one.request.tenant,
        " + ".join(f"{pods.count} x {pods.gpus_per_pod} GPUs" for pods in one.request.pod_sets),
        one.state.value,
        second(one.submitted_at),
        duration(one.waited),
        _early_or_late(off),
        second(one.eta) if not one.state.final and one.granted_at is None else NOTHING,
        duration(held),
        _where_or_why(one),
    )


def _early_or_late(off: timedelta | None) -> str:
    """How far the grant was from its first ETA."""
    if off is None or not round(off.total_seconds()):
        return NOTHING if off is None else "0 s"
    return f"{duration(abs(off))} {'early' if off < timedelta() else 'late'}"


def _where_or_why(one: Reservation) -> str:
    """The nodes of a grant, or the reason and what helps."""
    if one.placements:
        return ", ".join(f"{place.node} ({place.gpus} GPUs)" for place in one.placements)
    if one.reason is None:
        return NOTHING
    helps = f" What helps: {'; '.join(one.reason.helps)}." if one.reason.helps else ""
    return f"{one.reason.message.rstrip('.')}.{helps}"


def learned(score: Score, beliefs: Beliefs | None) -> Table:
    """What happened by series, and how the next forecast is changed by it."""
    corrections = empty(CORRECTIONS) if beliefs is None else beliefs.corrections
    joined = score.by_series.join(corrections.select(*SERIES, "level", changed="width"), on=SERIES, how="left")
    rows = joined.sort("mean_gpus", *SERIES, descending=[True, False, False, False]).to_dicts()
    return Table(
        caption="What happened, and what it changes in the next forecast",
        columns=(
            *_SERIES,
            figure("Hours"),
            figure("Happened", "mean GPUs"),
            figure("Forecast", "mean GPUs"),
            figure("WQL", "% of demand"),
            figure("Within 80 % band"),
            figure("Level changed by"),
            figure("Width changed by"),
        ),
        rows=tuple(
            (
                *(row[name] for name in SERIES),
                number(row["hours"]),
                number(row["mean_gpus"], 1),
                number(row["mean_gpus"] + row["bias"], 1),
                number(row["wql"], 1),
                share(row["coverage_80"]),
                factor(row["level"]),
                factor(row["changed"]),
            )
            for row in rows
        ),
        empty="No series was scored.",
    )


__all__ = ["Column", "Table", "backtest", "learned", "limits", "pools", "reservations", "shortages"]
