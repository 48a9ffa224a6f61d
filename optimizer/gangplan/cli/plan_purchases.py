"""The commands `gangplan plan commitments` and `plan accelerators`: what to buy for which term, and what there is."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan import plan, report, workflows
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, console, emit, settings_here
from gangplan.errors import InputError

if TYPE_CHECKING:
    from gangplan.types import Commitments

purchases_app = typer.Typer()


@purchases_app.command("commitments", epilog="Example:  gangplan plan commitments --months 12 --plot buy.html")
def commitments(
    months: Annotated[int, typer.Option(min=1, max=36, help="How many months to look ahead.")] = 12,
    paths: Annotated[int, typer.Option(min=2, max=50, help="Paths of growth, from low to high.")] = 10,
    weeks: Annotated[int, typer.Option(min=1, max=4, help="Typical weeks that a month is made of.")] = 2,
    demand: Annotated[
        Path | None,
        typer.Option(help="CSV instead of the trend: month,tenant,workload_class,accelerator,gpus[,low,high]."),
    ] = None,
    beyond: Annotated[
        float, typer.Option(min=0, max=1, help="Share of money bound after the last month that counts as lost.")
    ] = 0.1,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a page (.html) or a picture (.svg, .png).")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how many nodes to buy for which term and when, what that earns, and when each pool is full."""
    horizon = plan.PurchaseHorizon(months=months, paths=paths, weeks=weeks, beyond=beyond)
    with screen.progress(console, not as_json) as progress:
        made = workflows.look_ahead(settings_here(), horizon, demand, progress)
    written = None if plot is None else str(report.write(plot, made))
    emit(as_json, {**_of_commitments(made), "plot": written}, _commitments_tables)


@purchases_app.command("accelerators", epilog="Example:  gangplan plan accelerators --feature bf16 --memory 80")
def list_accelerators(
    feature: Annotated[list[str] | None, typer.Option(help="Only those with this feature; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="gpu, tpu, fpga, asic or cpu; may be repeated.")] = None,
    memory: Annotated[float, typer.Option(min=0, help="At least so many GB.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """List the accelerators that the catalogue knows: what they can do, what they cost, as of when."""
    catalogue = plan.read_catalogue(settings_here().catalogue_file)
    for name in kind or ():
        if name not in list(plan.AcceleratorKind):
            raise InputError.unknown("kind", name, "no kind of accelerator", plan.AcceleratorKind)
    need = plan.Need(
        kinds=tuple(map(plan.AcceleratorKind, kind or ())), features=tuple(feature or ()), memory_gb=memory
    )
    able = catalogue.speeds("asked for", need)
    listed = [{"name": name, **asdict(entry)} for name, entry in catalogue.accelerators.items() if name in able]
    emit(as_json, {"as_of": catalogue.as_of.isoformat(), "accelerators": listed}, _accelerators_table)


def _of_commitments(made: Commitments) -> dict[str, Any]:
    rows = {name: getattr(made, name) for name in ("purchases", "ways", "earnings", "full")}
    return {
        "start": made.start.isoformat(),
        "end": made.end.isoformat(),
        "gap": round(made.gap, 5),
        **{name: [asdict(row) for row in values] for name, values in rows.items()},
        "bound_beyond": round(made.bound_beyond, 2),
        "demand": made.demand.to_dicts(),
        "explanation": list(made.explanation),
    }


def _commitments_tables(summary: dict[str, Any]) -> RenderableType:
    plan_itself = summary["ways"][0]
    purchases: screen.Columns = {
        "pool": "pool",
        "nodes": "nodes",
        "months": "months",
        "order by": lambda row: str(row["order_by"]),
        "stands from": lambda row: str(row["begins"]),
        "per node-hour": "price_per_node_hour",
    }
    ways: screen.Columns = {
        "bought": "name",
        "cost, mean": lambda row: f"{row['expected']:,.0f}",
        "worst fifth": lambda row: f"{row['worst']:,.0f}",
        "more": lambda row: (
            "" if row is plan_itself else f"{row['more']:+,.0f} ({row['more_low']:+,.0f} to {row['more_high']:+,.0f})"
        ),
        "short, GPU-hours": lambda row: f"{row['short_gpu_hours']:,.0f}",
    }
    full = [(row["pool"], *(_month(row[name]) for name in ("middle", "early", "late"))) for row in summary["full"]]
    return Group(
        screen.listing("What to buy", summary["purchases"], purchases)
        if summary["purchases"]
        else "Buying nothing for a term is cheapest.",
        screen.listing("Beside the other ways", summary["ways"], ways),
        screen.table("Full from (8 of 10 cases)", ("pool", "middle", "early", "late"), full),
        escape("\n".join(summary["explanation"])),
        *([f"wrote {escape(summary['plot'])}"] if summary["plot"] else []),
    )


def _month(day: date | None) -> str:
    """Return a month, or that it lies beyond the horizon."""
    return "beyond" if day is None else f"{day:%b %Y}"


def _accelerators_table(summary: dict[str, Any]) -> RenderableType:
    columns: screen.Columns = {
        "name": "name",
        "kind": lambda row: row["kind"].value,
        "GB": "memory_gb",
        "TFLOPS": "bf16_tflops",
        "W": "watts",
        "an hour": "on_demand",
        "in a node": "gpus_per_node",
        "can": lambda row: " ".join(row["features"]),
    }
    title = f"Accelerators, prices estimated as of {summary['as_of']}"
    return screen.listing(title, summary["accelerators"], columns)
