"""Steps that carry a plan out, for a person at a terminal; and the whole cycle, of which they are a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from gangplan.cli import screen
from gangplan.cli.screen import Columns, Row


def carried(summary: Row) -> RenderableType:
    """Show what was done to carry a plan out, or would be; what waits, for what; and what was refused."""
    dry, cost = summary["dry_run"], summary["cost_per_hour"]
    parts: list[RenderableType] = []
    if summary["done"]:
        parts.append(steps("Can be done now" if dry else "Done", summary["done"], {"why": "why"}))
    if summary["waiting"]:
        parts.append(steps("Waits", summary["waiting"], {"for": "waits_for", "held by": _holders}))
    if summary["refused"]:
        parts.append(steps("Refused", summary["refused"], {"by": "engine", "its words": "said"}))
    parts += [f"[red]not reached:[/] {escape(f'{name}: {why}')}" for name, why in summary["unreachable"].items()]
    if leader := summary.get("controller"):
        parts.append(
            f"[yellow]note:[/] a controller leads: {escape(leader)}. It goes to the plan too; both write by "
            "compare-and-swap, so that no step is taken twice. Stop it before you go elsewhere, such as by --undo"
        )
    if not (summary["done"] or summary["waiting"] or summary["refused"] or summary["unreachable"]):
        return Group(*parts, "all is as the plan wants it: nothing to change")
    total = f"{len(summary['done'])} to do now, {len(summary['waiting'])} wait, {len(summary['refused'])} refused"
    total = total if dry else total.replace("to do now", "done")
    return Group(*parts, f"{total}. Nodes cost {cost['before']:,.2f} an hour before, {cost['after']:,.2f} after")


def steps(title: str, rows: Sequence[Row], more: Columns) -> Table:
    """Show steps with what they change, and further columns."""
    return screen.listing(title, rows, {"step": "kind", "pool": _whereof, "from": "before", "to": "after", **more})


def _whereof(row: Row) -> str:
    """Return the pool of a step, with the place of its quota."""
    return f"{row['pool']} in {row['place']}" if row["place"] else row["pool"]


def _holders(row: Row) -> str:
    """Return who holds a step back, the first of them."""
    held: list[str] = row["held_by"]
    return ", ".join(held[:3]) + (f" and {len(held) - 3} more" if len(held) > 3 else "")


def apply_run(summary: Row) -> RenderableType:
    """Show the steps of a run that was kept."""
    ended = summary["ended"] or "not yet: it runs on, or was killed; the next run goes on from what there is"
    pairs = [("plan", summary["plan_id"]), ("goal", summary["whose"]), ("begun", summary["begun"]), ("ended", ended)]
    if controller := summary["controller"]:
        pairs.append(("controller", _controller(controller)))
    columns: dict[str, str | Callable[[Row], object]] = {"at": lambda row: row["at"][11:19], "outcome": "outcome"}
    if any(step["words"] for step in summary["steps"]):
        columns["its words"] = "words"
    return Group(screen.fields("The last run", pairs), steps("Steps", summary["steps"], columns))


def _controller(last: Row) -> str:
    """Say what a controller did last, in a line."""
    if "at" not in last:
        return f"unknown: {last['unknown']}" if "unknown" in last else "has made no pass yet"
    what = "all is reached" if last["reached"] else f"{last['waiting']} steps wait, {last['refused']} were refused"
    return f"{last['at']}, {last['plan']}: {what}"


def cycle_run(summary: Row) -> RenderableType:
    """Show the whole cycle."""
    return Group(
        screen.ingest(summary["ingest"]),
        screen.training(summary["train"]),
        screen.plan(summary["plan"]),
        carried(summary["apply"]),
        screen.learning(summary["feedback"]),
        screen.written(summary["report"]),
    )
