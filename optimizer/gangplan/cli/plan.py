"""The commands `gangplan plan ...`: make a plan, look at it, ask it, compare it, approve and publish it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape

from gangplan import summaries
from gangplan.cli import plan_accelerators, plan_orders, plan_purchases, screen
from gangplan.cli.terminal import AsJson, console, emit, open_ledger_here, settings_here
from gangplan.clock import system_clock
from gangplan.extras import needs_extras
from gangplan.types import Plan, PlanId

plan_app = typer.Typer(
    help="Plan the cheapest fleet for the forecast; look at plans, ask them, approve and publish them.",
    invoke_without_command=True,
)

plan_purchases.add_to(plan_app)
plan_orders.add_to(plan_app)
plan_accelerators.add_to(plan_app)

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
    with needs_extras():
        from gangplan import cycle
    with screen.progress(console, not as_json) as progress:
        made = cycle.make_plan(settings_here(), hold=hold, progress=progress)
    settings = settings_here()
    waits = not hold and settings.publication == "person"
    emit(as_json, summaries.of_plan(made), lambda said: _made_words(said, waits))


@plan_app.command("list", epilog="Example:  gangplan plan list")
def list_plans(as_json: AsJson = False) -> None:
    """List the plans, the newest first: from when, how they were solved, whether approved and published."""
    plan, store = _store()
    columns = ("plan_id", "status", "forecast_issued_at", "approved", "published")
    emit(
        as_json,
        plan.list_plans(store),
        lambda said: screen.table("Plans", columns, [tuple(row[name] for name in columns) for row in said]),
    )


@plan_app.command("explain", epilog="Example:  gangplan plan explain")
def explain(id: Id = None, as_json: AsJson = False) -> None:
    """Say who is short, when and why, which limit binds, and what one more unit would bring (always re-solved)."""
    plan, store = _store()
    found, _ = plan.read_plan(store, _id(id))
    emit(as_json, {"plan_id": found.plan_id, "text": plan.explain(found)}, lambda said: escape(said["text"]))


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
    plan, store = _store()
    question = plan.WhatIf.from_texts(pool or [], demand or [], budget, carbon_cap)
    from gangplan import workflows

    before, after = workflows.ask(store, settings_here(), question, _id(plan_id))
    emit(as_json, _of_answers(plan, before, after), _what_if_words)


@plan_app.command("compare", epilog="Example:  gangplan plan compare")
def compare(id: Id = None, as_json: AsJson = False) -> None:
    """Run a plan and the rules that people use instead over fresh demand paths: cost, worst case, who is unserved."""
    _, store = _store()
    from gangplan import workflows

    with screen.progress(console, not as_json) as progress:
        found = workflows.compare(store, settings_here(), _id(id), progress)
    emit(as_json, [asdict(one) for one in found], _alternatives_words)


@plan_app.command("diff", epilog="Example:  gangplan plan diff plan-20260302T09-1a2b3c4d plan-20260303T09-5e6f7a8b")
def diff(
    a: Annotated[str, typer.Argument(help="A plan's id.")],
    b: Annotated[str, typer.Argument(help="Another plan's id.")],
    as_json: AsJson = False,
) -> None:
    """Show what one plan does otherwise than another: nodes in the hours both have, money, expected shortage."""
    plan, store = _store()
    one, other = (plan.read_plan(store, PlanId(id))[0] for id in (a, b))
    emit(as_json, of_diff(one, other), _diff_words)


@plan_app.command("approve", epilog="Example:  gangplan plan approve plan-20260302T09-1a2b3c4d --by ada --why fine")
def approve(
    id: Annotated[str, typer.Argument(help="A plan's id.")],
    by: Annotated[str, typer.Option(help="Who says so.")],
    why: Annotated[str, typer.Option(help="The reason, kept with the plan.")],
    as_json: AsJson = False,
) -> None:
    """Say yes to a plan; who did and why is kept with it."""
    plan, store = _store()
    from gangplan import workflows

    found, _ = plan.read_plan(store, PlanId(id))
    workflows.approve(found, store, by=by, why=why)
    said = {"plan_id": found.plan_id, "approved_by": by, "why": why}
    emit(
        as_json, said, lambda said: f"{said['plan_id']}: approved by {escape(by)}; `gangplan plan publish` lets it hold"
    )


@plan_app.command("publish", epilog="Example:  gangplan plan publish plan-20260302T09-1a2b3c4d")
def publish(id: Id = None, as_json: AsJson = False) -> None:
    """Let a plan hold as the ledger's calendar; nodes that reservations stand on stay, and conflicts are named.

    Where the setting `publication` is `person`, only an approved plan is published.
    """
    plan, store = _store()
    from gangplan import workflows

    found, _ = plan.read_plan(store, _id(id))
    with open_ledger_here() as ledger:
        where = workflows.Planning(store=store, ledger=ledger, settings=settings_here(), clock=system_clock)
        done = where.publish(found)
    emit(as_json, asdict(done), _published_words)


def _made_words(said: dict[str, Any], waits: bool) -> RenderableType:
    """Show a plan, and that it waits for a person where the settings want one."""
    note = (
        f"It waits for approval: gangplan plan approve {said['plan_id']}, then gangplan plan publish {said['plan_id']}"
    )
    return Group(screen.plan(said), note) if waits else screen.plan(said)


def _store() -> tuple[Any, Any]:
    """Open the store of plans."""
    with needs_extras():
        from gangplan import plan
        from gangplan.tracking import open_store
    return plan, open_store(settings_here())


def _id(id: str | None) -> PlanId | None:
    """Take an id as a plan's."""
    return None if id is None else PlanId(id)


def _of_answers(plan: Any, before: Any, after: Any) -> dict[str, Any]:
    """Put two answers side by side."""
    return {
        name: {
            "price": round(one.objective, 2),
            "gap": round(one.gap, 4),
            "cost": round(one.cost, 2),
            "short_gpu_hours": round(one.short_gpu_hours, 2),
        }
        for name, one in (("now", before), ("then", after))
    } | {"pools": plan.side_by_side(before, after).to_dicts()}


def _what_if_words(said: dict[str, Any]) -> RenderableType:
    """Show two answers side by side."""
    now, then = said["now"], said["then"]
    rows = [
        (words, now[name], then[name], then[name] - now[name])
        for words, name in (
            ("money for nodes", "cost"),
            ("short, expected GPU-hours", "short_gpu_hours"),
            ("price, shortage counted in", "price"),
        )
    ]
    moved = [row for row in said["pools"] if abs(row["node_hours_change"]) >= 0.5]
    return Group(
        screen.table("What if", ("", "now", "then", "change"), rows),
        screen.table(
            "Pools that change",
            ("pool", "node-hours", "then", "change", "money"),
            [
                (r["pool"], r["node_hours"], r["node_hours_then"], r["node_hours_change"], r["cost_change"])
                for r in moved
            ],
        ),
        f"Proven within {now['gap']:.1%} (now) and {then['gap']:.1%} (then) of the cheapest; nothing was written.",
    )


def _alternatives_words(said: list[dict[str, Any]]) -> RenderableType:
    """Show the alternatives beside the plan, with what they emit where the fleet file says it."""
    emits = any(one["carbon_kg"] for one in said)
    rows = [
        (
            one["name"],
            f"{one['mean']:,.0f}",
            f"{one['difference']:+,.0f} +- {one['range']:,.0f}" if one["difference"] else "",
            f"{one['worst']:,.0f}",
            f"{one['unserved']:.2%}",
            f"{one['latency_unserved']:.2%}",
            *((f"{one['carbon_kg']:,.0f}",) if emits else ()),
        )
        for one in said
    ]
    columns = ("run by", "cost, mean", "less the plan's (95 %)", "95 % worst", "unserved", "latency unserved")
    shown = (*columns, "kg CO2") if emits else columns
    return screen.table("On 40 fresh demand paths: nodes, shortage and delay", shown, rows)


def of_diff(a: Plan, b: Plan) -> dict[str, Any]:
    """Say what one plan does otherwise than another."""
    both = a.nodes.join(b.nodes, on=["hour", "pool"], suffix="_b")
    moved = both.filter(both["nodes"] != both["nodes_b"])
    pools = {
        str(name[0]): {
            "hours": rows.height,
            "node_hours": int((rows["nodes_b"] - rows["nodes"]).sum()),
            "first": rows["hour"].min(),
        }
        for name, rows in moved.sort("hour").group_by("pool", maintain_order=True)
    }
    short = [float(one.shortage["expected_gpus"].sum()) for one in (a, b)]
    return {
        "a": a.plan_id,
        "b": b.plan_id,
        "hours_in_common": both["hour"].n_unique(),
        "cost": {"a": round(a.total_cost, 2), "b": round(b.total_cost, 2)},
        "expected_short_gpu_hours": {"a": round(short[0], 2), "b": round(short[1], 2)},
        "pools": pools,
    }


def _diff_words(said: dict[str, Any]) -> RenderableType:
    """Show the difference of two plans."""
    short = said["expected_short_gpu_hours"]
    rows = [(name, one["hours"], one["node_hours"], str(one["first"])) for name, one in said["pools"].items()]
    head = screen.fields(
        f"{said['a']} -> {said['b']}",
        [
            ("hours in common", said["hours_in_common"]),
            ("cost", f"{said['cost']['a']:,.2f} -> {said['cost']['b']:,.2f}"),
            ("short, GPU-hours", f"{short['a']:,.1f} -> {short['b']:,.1f}"),
        ],
    )
    if not rows:
        return Group(head, "the same nodes in every hour that both have")
    return Group(head, screen.table("Pools that change", ("pool", "hours", "node-hours", "from"), rows))


def _published_words(said: dict[str, Any]) -> RenderableType:
    """Say that a plan holds, and where reservations made it run more."""
    lines = [f"{said['plan_id']} holds now"]
    for one in said["conflicts"]:
        whose = ", ".join(one["holders"]) or "promised windows"
        lines.append(
            f"- {one['pool']}: the plan has {one['planned']} nodes from {one['start']:%d %b %H:%M} to "
            f"{one['end']:%d %b %H:%M} UTC, {whose} stand on {one['held']}: these stay"
        )
    return escape("\n".join(lines))
