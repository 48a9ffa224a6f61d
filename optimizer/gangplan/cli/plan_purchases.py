"""The command `gangplan plan commitments`: what to buy for which term, months ahead."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, console, emit, settings_here
from gangplan.extras import needs_extras

if TYPE_CHECKING:
    from gangplan.types import Commitments


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
    with needs_extras():
        from gangplan import plan, report, workflows
    horizon = plan.PurchaseHorizon(months=months, paths=paths, weeks=weeks, beyond=beyond)
    with screen.progress(console, not as_json) as progress:
        made = workflows.look_ahead(settings_here(), horizon, demand, progress)
    written = None if plot is None else str(report.write(plot, made))
    emit(as_json, of_commitments(made) | {"plot": written}, _words)


def add_to(app: typer.Typer) -> None:
    """Make it a command of `gangplan plan`."""
    app.command("commitments", epilog="Example:  gangplan plan commitments --months 12 --plot buy.html")(commitments)


def of_commitments(made: Commitments) -> dict[str, Any]:
    """Say it in plain values."""
    return {
        "start": made.start.isoformat(),
        "end": made.end.isoformat(),
        "gap": round(made.gap, 5),
        "purchases": [asdict(one) for one in made.purchases],
        "ways": [asdict(one) for one in made.ways],
        "earnings": [asdict(one) for one in made.earnings],
        "full": [asdict(one) for one in made.full],
        "bound_beyond": round(made.bound_beyond, 2),
        "demand": made.demand.to_dicts(),
        "explanation": list(made.explanation),
    }


def _words(said: dict[str, Any]) -> RenderableType:
    """Show what to buy, what it costs beside the other ways, and when pools are full."""
    buys = [
        (one["pool"], one["nodes"], one["months"], str(one["order_by"]), str(one["begins"]), one["price_per_node_hour"])
        for one in said["purchases"]
    ]
    ways = [
        (
            one["name"],
            f"{one['expected']:,.0f}",
            f"{one['worst']:,.0f}",
            f"{one['more']:+,.0f} ({one['more_low']:+,.0f} to {one['more_high']:+,.0f})" if place else "",
            f"{one['short_gpu_hours']:,.0f}",
        )
        for place, one in enumerate(said["ways"])
    ]
    full = [(one["pool"], *(_day(one[name]) for name in ("middle", "early", "late"))) for one in said["full"]]
    columns = ("pool", "nodes", "months", "order by", "stands from", "per node-hour")
    parts: list[RenderableType] = [
        screen.table("What to buy", columns, buys) if buys else "Buying nothing for a term is cheapest.",
        screen.table(
            "Beside the other ways", ("bought", "cost, mean", "worst fifth", "more", "short, GPU-hours"), ways
        ),
        screen.table("Full from (8 of 10 cases)", ("pool", "middle", "early", "late"), full),
        escape("\n".join(said["explanation"])),
    ]
    return Group(*parts, *([f"wrote {escape(said['plot'])}"] if said["plot"] else []))


def _day(day: Any) -> str:
    """A month, or that it lies beyond."""
    return "beyond" if day is None else f"{day:%b %Y}"
