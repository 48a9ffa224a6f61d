"""Results for a person at a terminal: Rich tables from the plain values of `summaries`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gangplan.progress import Progress as Report, no_progress

if TYPE_CHECKING:
    from gangplan.reserve import EtaErrors

_STATE_STYLE = {
    "granted": "green",
    "granted, must leave": "yellow",
    "waiting": "yellow",
    "interrupted": "yellow",
    "expired": "red",
    "preempted": "red",
    "released": "dim",
    "cancelled": "dim",
}


@contextmanager
def progress(console: Console, wanted: bool) -> Generator[Report]:
    """Show one bar for long work; nothing where the output is for a program."""
    if not wanted or not console.is_terminal:
        yield no_progress
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def report(done: float, total: float, text: str, /) -> None:
            bar.update(task, completed=done, total=total, description=escape(text))

        yield report


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Make a table; what comes from outside is escaped, numbers stand to the right."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def fields(title: str, pairs: Sequence[tuple[str, object]]) -> Table:
    """Make a two-column table of names and values."""
    made = Table(title=title, title_justify="left", show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, _cell(value))
    return made


def written(said: dict[str, Any]) -> RenderableType:
    """Name the files that were written."""
    return "\n".join(f"wrote {escape(path)}" for path in said["written"]) or "nothing to write: all is there"


def ingest(said: dict[str, Any]) -> RenderableType:
    """Show what was brought in."""
    summary = fields(
        "Telemetry in MLflow",
        [
            ("source", said["source"]),
            ("span", f"{said['start']} to {said['end']}"),
            ("series", said["series"]),
            ("jobs", said["jobs"]),
            ("rows", said["rows"]),
            ("rows kept out", said["rejected_count"]),
            ("run", said["run_id"]),
        ],
    )
    return Group(summary, *(f"[yellow]kept out:[/] {escape(row)}" for row in said["rejected"]))


def training(said: dict[str, Any]) -> RenderableType:
    """Show how good the model is."""
    return fields(
        f"Demand model, version {said['version']}",
        [
            ("WQL", f"{said['wql']:.2f} (seasonal naive {said['naive_wql']:.2f})"),
            ("80 % band holds", f"{said['coverage_80']:.0%} of what came"),
            ("steers now", "yes, champion" if said["promoted"] else "no, challenger"),
            ("because", said["reason"]),
            ("run", said["run_id"]),
        ],
    )


def plan(said: dict[str, Any]) -> RenderableType:
    """Show what the plan costs and where it is short."""
    costs = table("Cost by pool", ("pool", "cost"), [(pool, f"{cost:,.2f}") for pool, cost in said["cost"].items()])
    head = fields(
        f"Plan {said['plan_id']}",
        [
            ("solver", f"{said['status']}, gap {said['gap']:.2%}"),
            ("cost", f"{said['total_cost']:,.2f}"),
            ("short, expected", f"{said['expected_short_gpu_hours']:,.1f} GPU-hours"),
            ("short, 95 % case", f"{said['p95_short_gpu_hours']:,.1f} GPU-hours"),
        ],
    )
    return Group(head, costs, *(f"- {escape(line)}" for line in said["explanation"]))


def changes(said: dict[str, Any]) -> RenderableType:
    """Show each pool's step."""
    if not said["changes"]:
        return "the fleet is as the plan wants it: nothing to change"
    rows = [(row["pool"], row["current"], row["target"], row["target"] - row["current"]) for row in said["changes"]]
    title = "Would change (dry run)" if said["dry_run"] else "Changed"
    return table(title, ("pool", "nodes", "planned", "step"), rows)


def reservation(said: dict[str, Any]) -> RenderableType:
    """Show one reservation."""
    pairs: list[tuple[str, object]] = [("id", said["id"]), ("key", said["key"]), ("state", said["state"])]
    if said["state"] in ("waiting", "interrupted"):
        pairs.append(("ETA", _eta(said)))
    if said["reason"] is not None:
        pairs += [("why", said["reason"]["message"]), ("would help", "; ".join(said["reason"]["helps"]) or "-")]
    if said["token"] is not None:
        pairs += [("token", said["token"]), ("pods on", _places(said)), ("until", said["expires_at"])]
    if said["notice"] is not None:
        pairs.append(("must leave by", f"{said['notice']['until']}: {said['notice']['why']}"))
    if said["interruptions"]:
        pairs.append(("lost its nodes", f"{said['interruptions']} x"))
    return fields(f"Reservation of {said['gpus']} GPUs for {said['tenant']}", pairs)


def reservations(said: list[dict[str, Any]], errors: EtaErrors | None) -> RenderableType:
    """List reservations, and say how far the first ETAs of those that waited were off."""
    rows = [
        (row["id"], row["tenant"], row["gpus"], _state(row), _eta(row) if _waits(row) else row["expires_at"], _why(row))
        for row in said
    ]
    made = table("Reservations", ("id", "tenant", "GPUs", "state", "ETA or expiry", "why"), rows)
    return made if errors is None else Group(made, eta_errors(errors))


def eta_errors(errors: EtaErrors) -> str:
    """Say in a line how good ETAs were."""
    off = f"{duration(errors.mean_s)} in the mean, {duration(errors.p90_s)} in 9 of 10"
    return f"first ETAs of {errors.count} that waited: off by {off}; {errors.kept:.0%} started no later than told"


def prospect(said: dict[str, Any]) -> RenderableType:
    """Say when a request would start, and why not at once."""
    starts = "at once" if said["at_once"] else said["eta"] or "unknown"
    pairs: list[tuple[str, object]] = [("would start", starts)]
    if said["reason"] is not None:
        pairs += [("why", said["reason"]["message"]), ("would help", "; ".join(said["reason"]["helps"]) or "-")]
    return fields("If asked for now", pairs)


def nodes(said: dict[str, str]) -> RenderableType:
    """List the nodes that take no gang."""
    return table("Nodes that take no gang", ("node", "state"), list(said.items())) if said else "all nodes are ready"


def marked(said: dict[str, Any]) -> RenderableType:
    """Say what a node's new state means for the gangs that were on it."""
    head = f"{escape(said['node'])} is {said['state']}"
    rows = [(row["tenant"], row["key"], _state(row), _places(row), _why(row)) for row in said["gangs"]]
    return (
        Group(head, table("Gangs that were on it", ("tenant", "key", "state", "now on", "why"), rows)) if rows else head
    )


_BAR = 24


def calendar(said: list[dict[str, Any]]) -> RenderableType:
    """Show the free capacity over time, with a bar for each stretch: held GPUs are full, free ones are hollow."""
    if not said:
        return "no calendar is published: run `gangplan plan`, or `gangplan init` for the starter fleet's"
    most = max(max(row["planned_gpus"], row["held_gpus"]) for row in said) or 1
    rows = [
        (
            row["pool"],
            row["start"],
            row["end"],
            row["planned_gpus"],
            row["held_gpus"],
            row["free_gpus"],
            _bar(row, most),
        )
        for row in said
    ]
    return table("GPUs over time", ("pool", "from", "to", "planned", "held", "free", "held and free"), rows)


def _bar(row: dict[str, Any], most: int) -> str:
    """Draw held and free GPUs, all rows to one scale; what there is of either shows."""
    held, free = (_blocks(row[name], most) for name in ("held_gpus", "free_gpus"))
    return "\u2588" * held + "\u2591" * free


def _blocks(gpus: int, most: int) -> int:
    """Return the length of a part of a bar."""
    return max(int(gpus > 0), round(_BAR * gpus / most))


def learning(said: dict[str, Any]) -> RenderableType:
    """Show planned against happened, and what it changes."""
    before, after = said["forecast_gpu_hours_before"], said["forecast_gpu_hours_after"]
    head = fields(
        f"Planned against happened, {said['start']} to {said['end']}",
        [
            ("forecast loss (WQL)", said["wql"]),
            ("80 % band held", f"{said['coverage_80']:.0%}"),
            ("cost, planned and realised", f"{said['planned_cost']:,.2f} and {said['realised_cost']:,.2f}"),
            ("unserved and idle GPU-hours", f"{said['unserved_gpu_hours']:,.1f} and {said['idle_gpu_hours']:,.1f}"),
            ("mean wait", "-" if said["mean_wait_s"] is None else f"{said['mean_wait_s']:.1f} s"),
            ("next forecast, median GPU-hours", f"{before:,.1f} before, {after:,.1f} after ({_step(before, after)})"),
        ],
    )
    columns = ("tenant", "class", "accelerator", "level", "width")
    names = ("tenant", "workload_class", "accelerator", "level", "width")
    rows = [tuple(row[name] for name in names) for row in said["corrections"]]
    return Group(head, table("Corrections", columns, rows))


def versions(said: list[dict[str, Any]]) -> RenderableType:
    """List the registry's versions."""
    columns = list(said[0]) if said else ["version"]
    return table("Demand models", columns, [list(row.values()) for row in said])


def version(said: dict[str, Any]) -> RenderableType:
    """Show one version."""
    lines = {**said, "changes": "\n".join(said.get("changes", []))}
    return fields(f"Version {said.get('version', '')}", [(name, value) for name, value in lines.items() if value])


def decisions(said: list[dict[str, Any]]) -> RenderableType:
    """List changes of an alias."""
    if not said:
        return "nothing was decided"
    return table("Decisions", list(said[0]), [list(row.values()) for row in said])


def run(said: dict[str, Any]) -> RenderableType:
    """Show the whole cycle."""
    parts = (ingest(said["ingest"]), training(said["train"]), plan(said["plan"]), changes(said["apply"]))
    return Group(*parts, learning(said["feedback"]), written(said["report"]))


def _waits(row: dict[str, Any]) -> bool:
    """Tell whether it waits for slots."""
    return row["state"] in ("waiting", "interrupted")


def _state(row: dict[str, Any]) -> str:
    """Say in which state a reservation is, and whether it must leave."""
    return "granted, must leave" if row["notice"] else row["state"]


def _eta(row: dict[str, Any]) -> str:
    """Say when a reservation that waits is expected to start: promised, or estimated with its range."""
    if not row["eta"]:
        return "unknown"
    since = row["eta_range"][0] if row["eta_range"] else row["eta"]
    early = "" if since == row["eta"] else f", {since} at the earliest"
    return f"{row['eta']}{'' if row['promised'] else ' (estimated)'}{early}"


def _places(row: dict[str, Any]) -> str:
    """Name the nodes of a reservation with its pods."""
    return ", ".join(f"{place['pods']} x {place['node']}" for place in row["placements"])


def duration(seconds: float) -> str:
    """Write a span for a person."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _why(row: dict[str, Any]) -> str:
    """Give a reservation's reason, or the notice to its holder, in words, where there is one."""
    if row["notice"]:
        return f"must leave by {row['notice']['until']}: {row['notice']['why']}"
    return row["reason"]["message"] if row["reason"] else ""


def _step(before: float, after: float) -> str:
    """Say a change in per cent."""
    return f"{(after / before - 1):+.1%}" if before else "no demand before"


def _cell(value: object) -> str:
    """Write a cell: numbers short, states coloured, text escaped."""
    if isinstance(value, float):
        return f"{value:,.3f}"
    text = "" if value is None else str(value)
    style = _STATE_STYLE.get(text)
    return f"[{style}]{text}[/]" if style else escape(text)
