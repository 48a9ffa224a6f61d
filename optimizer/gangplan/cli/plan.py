"""The commands `gangplan plan ...` about a plan: make, list, explain, ask what if, compare, approve, publish it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan import plan, summaries, workflows
from gangplan.cli import screen
from gangplan.cli.terminal import AsJson, console, emit, open_ledger_here, open_store_here, settings_here
from gangplan.types import Plan, PlanId

plan_app = typer.Typer(
    help="Plan the cheapest fleet for the forecast; look at plans, ask them, approve and publish them.",
    invoke_without_command=True,
)

Id = Annotated[str | None, typer.Argument(help="A plan's id (`gangplan plan list`); default: the newest.")]


@plan_app.callback(epilog="Example:  gangplan plan   |   gangplan plan --hold, then approve and publish")
def make_plan(
    context: typer.Context,
    hold: Annotated[bool, typer.Option("--hold", help="Keep the plan, publish nothing: for approval.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plan the cheapest fleet for the forecast, keep the plan, publish it as the ledger's calendar."""
    if context.invoked_subcommand is not None:
        return
    from gangplan import cycle

    with screen.progress(console, not as_json) as progress:
        made = cycle.make_plan(settings_here(), hold=hold, progress=progress)
    settings = settings_here()
    waits = not hold and workflows.needs_approval(made, settings)
    emit(as_json, summaries.of_plan(made), lambda summary: _made_text(summary, waits))


@plan_app.command("list", epilog="Example:  gangplan plan list")
def list_plans(as_json: AsJson = False) -> None:
    """List the plans, the newest first: from when, how they were solved, whether approved and published."""
    columns = {name: name for name in ("plan_id", "status", "forecast_issued_at", "approved", "published")}
    emit(as_json, plan.list_plans(open_store_here()), lambda rows: screen.listing("Plans", rows, columns))


@plan_app.command("explain", epilog="Example:  gangplan plan explain")
def explain(id: Id = None, as_json: AsJson = False) -> None:
    """Say who is short, when and why, which limit binds, and what one more unit would bring (always re-solved)."""
    explained, _ = plan.read_plan(open_store_here(), _id(id))
    text = plan.explain(explained)
    emit(as_json, {"plan_id": explained.plan_id, "text": text}, lambda _: escape(text))


@plan_app.command("orders", epilog="Example:  gangplan plan orders --hours 48")
def list_orders(
    id: Id = None,
    hours: Annotated[int, typer.Option(min=1, max=24 * 90, help="How many of the plan's hours to look at.")] = 24,
    as_json: AsJson = False,
) -> None:
    """List a plan's starts and stops: when to order which nodes, and from when on they serve (UTC)."""
    planned, _ = plan.read_plan(open_store_here(), _id(id))
    orders = [{**asdict(order), "words": plan.order_text(order)} for order in plan.orders(planned, hours)]
    text = "\n".join(order["words"] for order in orders) or "every pool stays as it is"
    emit(as_json, orders, lambda _: escape(text))


@plan_app.command(
    "what-if",
    epilog="Example:  gangplan plan what-if --pool a100-spot.max=20 --budget=+10% --demand tenant:vision=+30%",
)
def what_if(
    pool: Annotated[list[str] | None, typer.Option(help="NAME.max, .min, .price or .lead = 20, +5 or -10%.")] = None,
    demand: Annotated[list[str] | None, typer.Option(help="tenant:, class:, accelerator:NAME or all = +30%.")] = None,
    budget: Annotated[str, typer.Option(help="An amount, or +10% of the plan's.")] = "",
    carbon_cap: Annotated[str, typer.Option(help="Kilograms of CO2 over the horizon, or -10% of the plan's cap.")] = "",
    plan_id: Annotated[str | None, typer.Option("--plan", help="A plan's id; default: the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a plan what would change with another pool, budget or demand, side by side; nothing is written."""
    store = open_store_here()
    question = plan.WhatIf.from_texts(pool or [], demand or [], budget, carbon_cap)
    before, after = workflows.ask(store, settings_here(), question, _id(plan_id))
    emit(as_json, _of_answers(before, after), _what_if_tables)


@plan_app.command("compare", epilog="Example:  gangplan plan compare")
def compare(id: Id = None, as_json: AsJson = False) -> None:
    """Run a plan and the rules that people use instead over fresh demand paths: cost, worst case, who is unserved."""
    store = open_store_here()
    with screen.progress(console, not as_json) as progress:
        alternatives = workflows.compare(store, settings_here(), _id(id), progress)
    emit(as_json, [asdict(alternative) for alternative in alternatives], _alternatives_table)


@plan_app.command("diff", epilog="Example:  gangplan plan diff plan-20260302T09-1a2b3c4d plan-20260303T09-5e6f7a8b")
def diff(
    a: Annotated[str, typer.Argument(help="A plan's id.")],
    b: Annotated[str, typer.Argument(help="Another plan's id.")],
    as_json: AsJson = False,
) -> None:
    """Show what one plan does otherwise than another: nodes in the hours both have, money, expected shortage."""
    store = open_store_here()
    first, second = (plan.read_plan(store, PlanId(id))[0] for id in (a, b))
    emit(as_json, _of_diff(first, second), _diff_tables)


@plan_app.command("approve", epilog="Example:  gangplan plan approve plan-20260302T09-1a2b3c4d --by ada --why fine")
def approve(
    id: Annotated[str, typer.Argument(help="A plan's id.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    why: Annotated[str, typer.Option(help="The reason, kept with the plan.")],
    as_json: AsJson = False,
) -> None:
    """Say yes to a plan; who did and why is kept with it."""
    store = open_store_here()
    planned, _ = plan.read_plan(store, PlanId(id))
    workflows.approve(planned, store, by=by, why=why, clock=settings_here().clock)
    text = f"{planned.plan_id}: approved by {escape(by)}; `gangplan plan publish` lets it hold"
    emit(as_json, {"plan_id": planned.plan_id, "approved_by": by, "why": why}, lambda _: text)


@plan_app.command("publish", epilog="Example:  gangplan plan publish plan-20260302T09-1a2b3c4d")
def publish(id: Id = None, as_json: AsJson = False) -> None:
    """Let a plan hold as the ledger's calendar; nodes that reservations stand on stay, and conflicts are named.

    Where the setting `publication` is `person`, only an approved plan is published.
    """
    store = open_store_here()
    planned, _ = plan.read_plan(store, _id(id))
    with open_ledger_here() as ledger:
        planning = workflows.Planning(store=store, ledger=ledger, settings=settings_here(), clock=settings_here().clock)
        published = planning.publish(planned)
    emit(as_json, asdict(published), _published_text)


def _made_text(summary: dict[str, Any], waits: bool) -> RenderableType:
    """Show a plan, and whether it waits for a person's approval."""
    id = summary["plan_id"]
    note = f"It waits for approval: gangplan plan approve {id}, then gangplan plan publish {id}"
    return Group(screen.plan(summary), note) if waits else screen.plan(summary)


def _id(id: str | None) -> PlanId | None:
    return None if id is None else PlanId(id)


def _of_answers(before: plan.WhatIfResult, after: plan.WhatIfResult) -> dict[str, Any]:
    """Summarise two answers: money, solver's gap, GPU-hours that are short, node-hours by pool."""
    sides = {
        name: {
            "price": round(answer.objective, 2),
            "gap": round(answer.gap, 4),
            "cost": round(answer.cost, 2),
            "short_gpu_hours": round(answer.short_gpu_hours, 2),
        }
        for name, answer in (("now", before), ("then", after))
    }
    return {**sides, "pools": plan.side_by_side(before, after).to_dicts()}


def _what_if_tables(summary: dict[str, Any]) -> RenderableType:
    now, then = summary["now"], summary["then"]
    names = {"cost": "money for nodes", "short_gpu_hours": "short, expected GPU-hours"}
    rows = [
        (text, now[name], then[name], then[name] - now[name])
        for name, text in {**names, "price": "price, shortage counted in"}.items()
    ]
    moved = [row for row in summary["pools"] if abs(row["node_hours_change"]) >= 0.5]
    hours = {"node-hours": "node_hours", "then": "node_hours_then", "change": "node_hours_change"}
    return Group(
        screen.table("What if", ("", "now", "then", "change"), rows),
        screen.listing("Pools that change", moved, {"pool": "pool", **hours, "money": "cost_change"}),
        f"Proven within {now['gap']:.1%} (now) and {then['gap']:.1%} (then) of the cheapest; nothing was written.",
    )


def _alternatives_table(summary: list[dict[str, Any]]) -> RenderableType:
    """Show the alternatives beside the plan, with their emissions if the fleet file has carbon intensities."""
    columns: screen.Columns = {
        "run by": "name",
        "cost, mean": lambda row: f"{row['mean']:,.0f}",
        "less the plan's (95 %)": lambda row: (
            f"{row['difference']:+,.0f} +- {row['range']:,.0f}" if row["difference"] else ""
        ),
        "95 % worst": lambda row: f"{row['worst']:,.0f}",
        "unserved": lambda row: f"{row['unserved']:.2%}",
        "latency unserved": lambda row: f"{row['latency_unserved']:.2%}",
    }
    carbon: screen.Columns = {"kg CO2": lambda row: f"{row['carbon_kg']:,.0f}"}
    emits = any(row["carbon_kg"] for row in summary)
    title = "On 40 fresh demand paths: nodes, shortage and delay"
    return screen.listing(title, summary, {**columns, **(carbon if emits else {})})


def _of_diff(first: Plan, second: Plan) -> dict[str, Any]:
    import polars as pl  # slow to import

    both = first.nodes.join(second.nodes, on=["hour", "pool"], suffix="_b")
    step = (both["nodes_b"] - both["nodes"]).alias("step")
    moved = both.with_columns(step).filter(step != 0).sort("hour").group_by("pool", maintain_order=True)
    rows = moved.agg(hours=pl.len(), node_hours=pl.col("step").sum(), first=pl.col("hour").min()).to_dicts()
    plans = {"a": first, "b": second}
    return {
        "a": first.plan_id,
        "b": second.plan_id,
        "hours_in_common": both["hour"].n_unique(),
        "cost": {side: round(planned.total_cost, 2) for side, planned in plans.items()},
        "expected_short_gpu_hours": {
            side: round(float(planned.shortage["expected_gpus"].sum()), 2) for side, planned in plans.items()
        },
        "pools": {row.pop("pool"): row for row in rows},
    }


def _diff_tables(summary: dict[str, Any]) -> RenderableType:
    cost, short = summary["cost"], summary["expected_short_gpu_hours"]
    head = screen.fields(
        f"{summary['a']} -> {summary['b']}",
        [
            ("hours in common", summary["hours_in_common"]),
            ("cost", f"{cost['a']:,.2f} -> {cost['b']:,.2f}"),
            ("short, GPU-hours", f"{short['a']:,.1f} -> {short['b']:,.1f}"),
        ],
    )
    if not summary["pools"]:
        return Group(head, "the same nodes in every hour that both have")
    rows = [(name, pool["hours"], pool["node_hours"], str(pool["first"])) for name, pool in summary["pools"].items()]
    return Group(head, screen.table("Pools that change", ("pool", "hours", "node-hours", "from"), rows))


def _published_text(summary: dict[str, Any]) -> RenderableType:
    """Say that a plan is published, and where its calendar has more nodes because of reservations."""
    lines = [f"{summary['plan_id']} holds now"]
    for conflict in summary["conflicts"]:
        whose = ", ".join(conflict["holders"]) or "promised windows"
        lines.append(
            f"- {conflict['pool']}: the plan has {conflict['planned']} nodes from {conflict['start']:%d %b %H:%M} to "
            f"{conflict['end']:%d %b %H:%M} UTC, {whose} stand on {conflict['held']}: these stay"
        )
    return escape("\n".join(lines))
