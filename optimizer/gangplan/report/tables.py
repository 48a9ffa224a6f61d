"""The tables of the report: back-test, pools, shortages, limits, reservations, what feedback changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from gangplan.pages import (
    NOTHING,
    Cells,
    Table,
    duration,
    factor,
    figure,
    moment,
    number,
    second,
    share,
    table_of,
    text,
)
from gangplan.tables import CORRECTIONS, empty, pinball_loss
from gangplan.types import SERIES, Beliefs, Plan, Reservation, Score

Row = dict[str, Any]
_SERIES: Cells = [
    (text("Tenant"), lambda row: row["tenant"]),
    (text("Class"), lambda row: row["workload_class"]),
    (text("Accelerator"), lambda row: row["accelerator"]),
]
_NONE = 1e-6
# For each family of limits: its name, the unit of its amount, and whether the plan kept it or had to bend it.
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
_EFFECTS = {"bent": "were lacking, priced at", "kept": "more would save"}


def backtest(table: pl.DataFrame) -> Table:
    """Compare the model by series with the seasonal naive point forecast."""
    gpus = pl.col("gpus")
    rows = (
        table.drop_nulls("gpus")
        .group_by(SERIES, maintain_order=True)
        .agg(
            gpus.mean().alias("mean"),
            (100 * pinball_loss().sum() / gpus.sum()).alias("wql"),
            (pl.col("q0.5") - gpus).abs().mean().alias("error"),
            (pl.col("naive") - gpus).abs().mean().alias("naive"),
            gpus.is_between("q0.1", "q0.9").mean().alias("coverage"),
            (gpus <= pl.col("q0.95")).mean().alias("below"),
        )
        .sort("mean", *SERIES, descending=[True, False, False, False])
    )
    return table_of(
        "Back-test by series, on hours that the model had not seen",
        rows.to_dicts(),
        [
            *_SERIES,
            (figure("Mean demand", "GPUs"), lambda row: number(row["mean"], 1)),
            (figure("WQL", "% of demand"), lambda row: number(row["wql"], 1)),
            (figure("Error of the median", "GPUs"), lambda row: number(row["error"], 2)),
            (figure("Error of naive", "GPUs"), lambda row: number(row["naive"], 2)),
            (
                figure("Better than naive by"),
                lambda row: share(1 - row["error"] / row["naive"] if row["naive"] else None),
            ),
            (figure("Within 80 % band"), lambda row: share(row["coverage"])),
            (figure("Below 0.95"), lambda row: share(row["below"])),
        ],
        empty="The back-test has no hour with known demand.",
    )


def pools(plan: Plan) -> Table:
    """Show what each pool runs and costs, and emits where the fleet file has power and carbon intensity."""
    spans = plan.nodes.group_by("pool", maintain_order=True).agg(
        pl.col("nodes").min().alias("least"), pl.col("nodes").max().alias("most")
    )
    rows = plan.cost.join(spans, on="pool", how="left").sort("cost", "pool", descending=[True, False])
    pool_of = {pool.name: pool for pool in plan.fleet.pools}
    total, emitted = plan.total_cost, emission(plan)
    carbon: Cells = [(figure("Carbon", "kg CO2"), lambda row: number(emitted.get(row["pool"])))] if emitted else []
    return table_of(
        "Pools",
        rows.to_dicts(),
        [
            (text("Pool"), lambda row: row["pool"]),
            (text("Accelerator"), lambda row: pool_of[row["pool"]].accelerator),
            (text("Kind"), lambda row: pool_of[row["pool"]].kind.value.replace("_", " ")),
            (figure("Nodes", "least to most"), lambda row: f"{number(row['least'])} to {number(row['most'])}"),
            (figure("GPUs", "at most"), lambda row: number((row["most"] or 0) * pool_of[row["pool"]].gpus_per_node)),
            (figure("Node-hours"), lambda row: number(row["node_hours"])),
            (figure("Price", "per node-hour"), lambda row: number(pool_of[row["pool"]].price_per_node_hour, 2)),
            (figure("Cost"), lambda row: number(row["cost"])),
            (figure("Share of cost"), lambda row: share(row["cost"] / total) if total else NOTHING),
            *carbon,
        ],
        empty="The plan runs no pool.",
    )


def emission(plan: Plan) -> dict[str, float]:
    """Return kilograms of carbon dioxide by pool; empty where the fleet file has no power or no carbon intensity."""
    if "carbon_kg" not in plan.cost.columns:  # plans of earlier builds
        return {}
    return {pool: emitted for pool, emitted in plan.cost.select("pool", "carbon_kg").iter_rows() if emitted > 0}


def shortages(plan: Plan) -> Table:
    """Show which series are short, when it is worst, and how likely."""
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
    return table_of(
        "Shortage by series",
        rows.to_dicts(),
        [
            *_SERIES,
            (figure("Expected", "GPU-hours"), lambda row: number(row["expected"], 1)),
            (figure("Hours with any"), lambda row: number(row["hours"])),
            (figure("Worst 0.95", "GPUs"), lambda row: number(row["p95"], 1)),
            (figure("Worst hour", "UTC"), lambda row: moment(row["worst"])),
            (figure("Highest probability"), lambda row: share(row["probability"])),
        ],
        empty="Nobody is short in any hour on any demand path that the plan was made for.",
    )


def limits(plan: Plan) -> Table:
    """Show the limits that bind."""
    return table_of(
        "Limits that bind",
        plan.limits.to_dicts(),
        [
            (text("Limit"), lambda row: _family(row)[0]),
            (text("Where"), lambda row: row["name"]),
            (figure("Hours"), lambda row: number(row["hours"])),
            (figure("By"), _amount),
            (text("Which"), lambda row: _EFFECTS.get(_family(row)[2], "")),
            (figure("Money"), lambda row: number(row["cost"])),
        ],
        empty="No limit binds: the plan is as cheap as demand allows.",
    )


def _family(row: Row) -> tuple[str, str, str]:
    """Return a limit's name, unit, and whether it was kept or bent."""
    return _FAMILIES.get(row["family"], (row["family"].replace("_", " "), "", ""))


def _amount(row: Row) -> str:
    """Format by how much a limit was bent or widened, with its unit."""
    amount = f"{number(row['amount'], 0 if float(row['amount']).is_integer() else 1)} {_family(row)[1]}".rstrip()
    return amount.removesuffix("s") if row["amount"] == 1 else amount


def reservations(history: Sequence[Reservation], most: int = 60) -> Table:
    """Show the newest reservations, with the reason of each that waits."""
    newest = sorted(history, key=lambda reservation: reservation.submitted_at, reverse=True)[:most]
    cut = f" (the newest {most} of {len(history)})" if len(history) > most else ""
    return table_of(
        f"Reservations, the newest first{cut}",
        newest,
        [
            (text("Reservation"), lambda row: f"{row.request.request_key} ({row.id})"),
            (text("Tenant"), lambda row: row.request.tenant),
            (
                text("Gang"),
                lambda row: " + ".join(f"{pods.count} x {pods.gpus_per_pod} GPUs" for pods in row.request.pod_sets),
            ),
            (text("State"), lambda row: row.state.value),
            (figure("Submitted", "UTC"), lambda row: second(row.submitted_at)),
            (figure("Waited"), lambda row: duration(row.waited)),
            (figure("First ETA was off by"), lambda row: _early_or_late(row.granted_at, row.first_eta)),
            (figure("ETA", "UTC"), lambda row: second(None if row.state.final or row.granted_at else row.eta)),
            (figure("Held"), lambda row: duration(_between(row.granted_at, row.ended_at))),
            (text("Where, or why it waits"), _where_or_why),
        ],
        empty="No reservation has been made yet.",
    )


def _between(start: datetime | None, end: datetime | None) -> timedelta | None:
    return None if start is None or end is None else end - start


def _early_or_late(granted_at: datetime | None, eta: datetime | None) -> str:
    """Format how far a grant was from its first ETA."""
    late = _between(eta, granted_at)
    if late is None or not round(late.total_seconds()):
        return NOTHING if late is None else "0 s"
    return f"{duration(abs(late))} {'early' if late < timedelta() else 'late'}"


def _where_or_why(reservation: Reservation) -> str:
    """Format the nodes of a grant, or the reason for a wait and what helps."""
    if reservation.placements:
        return ", ".join(f"{place.node} ({place.gpus} GPUs)" for place in reservation.placements)
    reason = reservation.reason
    if reason is None:
        return NOTHING
    helps = f" What helps: {'; '.join(reason.helps)}." if reason.helps else ""
    return f"{reason.message.rstrip('.')}.{helps}"


def learned(score: Score, beliefs: Beliefs | None) -> Table:
    """Show what happened by series, and how that changes the next forecast."""
    corrections = empty(CORRECTIONS) if beliefs is None else beliefs.corrections
    joined = score.by_series.join(corrections.select(*SERIES, "level", changed="width"), on=SERIES, how="left")
    rows = joined.sort("mean_gpus", *SERIES, descending=[True, False, False, False])
    return table_of(
        "What happened, and what it changes in the next forecast",
        rows.to_dicts(),
        [
            *_SERIES,
            (figure("Hours"), lambda row: number(row["hours"])),
            (figure("Happened", "mean GPUs"), lambda row: number(row["mean_gpus"], 1)),
            (figure("Forecast", "mean GPUs"), lambda row: number(row["mean_gpus"] + row["bias"], 1)),
            (figure("WQL", "% of demand"), lambda row: number(row["wql"], 1)),
            (figure("Within 80 % band"), lambda row: share(row["coverage_80"])),
            (figure("Level changed by"), lambda row: factor(row["level"])),
            (figure("Width changed by"), lambda row: factor(row["changed"])),
        ],
        empty="No series was scored.",
    )
