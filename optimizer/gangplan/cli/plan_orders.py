"""The command `gangplan plan orders`: what to start and stop when, so that nodes serve when the plan wants them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from gangplan.cli.terminal import AsJson, emit, settings_here
from gangplan.extras import needs_extras
from gangplan.types import PlanId


def list_orders(
    id: Annotated[str | None, typer.Argument(help="A plan's id (`gangplan plan list`); default: the newest.")] = None,
    hours: Annotated[int, typer.Option(min=1, max=24 * 90, help="How many of the plan's hours to look at.")] = 24,
    as_json: AsJson = False,
) -> None:
    """List a plan's starts and stops: when to order which nodes, and from when on they serve (UTC)."""
    with needs_extras():
        from gangplan import plan
        from gangplan.plan import order_text
        from gangplan.tracking import open_store
    found, _ = plan.read_plan(open_store(settings_here()), None if id is None else PlanId(id))
    listed = plan.orders(found, hours)
    said = [{**asdict(one), "words": order_text(one)} for one in listed]
    emit(as_json, said, lambda said: escape("\n".join(one["words"] for one in said)) or "every pool stays as it is")


def add_to(app: typer.Typer) -> None:
    """Make it a command of `gangplan plan`."""
    app.command("orders", epilog="Example:  gangplan plan orders --hours 48")(list_orders)
