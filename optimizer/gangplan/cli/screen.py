"""Results for a person at a terminal: Rich tables from plain values, and from reservations."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gangplan.progress import Progress as Report, no_progress
from gangplan.types import Reason, Reservation

if TYPE_CHECKING:
    from datetime import datetime

    from gangplan.reserve import EtaErrors

_STATE_STYLE = {
    "granted": "green",
    "granted, must leave": "yellow",
    "granted, not claimed yet": "yellow",
    "expired, nobody claimed it": "red",
    "waiting": "yellow",
    "interrupted": "yellow",
    "expired": "red",
    "preempted": "red",
    "released": "dim",
    "cancelled": "dim",
}

_PICTURE_WIDTH, _PICTURE_HEIGHT = 72, 4
"""The most columns of a picture in the terminal, and its lines."""

Row = Mapping[str, Any]
Columns = Mapping[str, str | Callable[[Any], object]]
"""For each heading of a table the key of a row, or a function of the row."""


@contextmanager
def progress(console: Console, wanted: bool) -> Generator[Report]:
    """Show one bar for long work, unless the output is for a program."""
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
    """Make a table; values are escaped, and columns of numbers are aligned to the right."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def listing(title: str, rows: Sequence[Row], columns: Columns) -> Table:
    """Make a table from mappings."""
    cells = [[row[key] if isinstance(key, str) else key(row) for key in columns.values()] for row in rows]
    return table(title, list(columns), cells)


def records(title: str, rows: Sequence[Row]) -> Table:
    """Make a table with a column for each key."""
    return table(title, list(rows[0]) if rows else [], [list(row.values()) for row in rows])


def fields(title: str, pairs: Sequence[tuple[str, object]]) -> Table:
    """Make a two-column table of names and values."""
    made = Table(title=title, title_justify="left", show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, _cell(value))
    return made


def written(summary: Row) -> RenderableType:
    """Name the files that were written."""
    return "\n".join(f"wrote {escape(path)}" for path in summary["written"]) or "nothing to write: all is there"


def remarks(summary: Row) -> list[str]:
    """List the notes on what was read, and the first rejected rows."""
    notes = [escape(f"note: {note}") for note in summary["notes"]]
    return notes + [f"[yellow]kept out:[/] {escape(row)}" for row in summary["rejected"]]


def ingest(summary: Row) -> RenderableType:
    """Show what was imported."""
    pairs = [
        ("source", summary["source"]),
        ("span", f"{summary['start']} to {summary['end']}"),
        ("series", summary["series"]),
        ("jobs", summary["jobs"]),
        ("rows", summary["rows"]),
        ("rows kept out", summary["rejected_count"]),
        ("run", summary["run_id"]),
    ]
    return Group(fields("Telemetry in MLflow", pairs), *remarks(summary))


def preview(summary: Row) -> RenderableType:
    """Show how telemetry is understood: its first rows, its span, its demand by hour, and what is left out."""
    tables = [
        listing(f"{name}: the first of {summary['tables'][name]:,} rows, in UTC", *_brief(rows))
        for name, rows in summary["first_rows"].items()
        if name != "demand" or "jobs" not in summary["first_rows"]
    ]
    span = f"{summary['start']} to {summary['end']}"
    pairs = [
        ("source", summary["source"]),
        ("span", f"{span} (a trace without a calendar)" if summary["relative"] else span),
        ("rows used", summary["rows"]),
        ("rows of no use", summary["skipped"]),
        ("rows kept out", summary["rejected_count"]),
    ]
    drawn = [
        *picture("GPUs asked for, by hour", [(row["hour"], row["gpus"]) for row in summary["demand"]]),
        *picture("requests per second", [(row["hour"], row["requests_per_second"]) for row in summary["requests"]]),
    ]
    last = "nothing was written: without --preview it is"
    return Group(*tables, fields("Telemetry as understood", pairs), *drawn, *remarks(summary), last)


def _brief(rows: Sequence[Row]) -> tuple[list[Row], dict[str, str]]:
    """Return rows with times to the minute, without columns that hold nothing, and the names of their columns."""
    brief: list[Row] = [
        {name: value[:16].replace("T", " ") if str(value).endswith("+00:00") else value for name, value in row.items()}
        for row in rows
    ]
    columns = [name for name in brief[0] if any(row[name] is not None for row in brief)]
    return brief, {name.removesuffix("_at").replace("_", " "): name for name in columns}


def picture(title: str, values: Sequence[tuple[str, float | None]]) -> list[str]:
    """Draw values over time in a few lines of blocks; a dot stands where a value is missing."""
    if not values:
        return []
    size = -(-len(values) // _PICTURE_WIDTH)
    parts = [[value for _, value in values[at : at + size]] for at in range(0, len(values), size)]
    means = [None if None in part else sum(filter(None, part)) / len(part) for part in parts]
    most = max((mean for mean in means if mean is not None), default=0.0)
    lines = ["".join(_block(mean, most, row) for mean in means).rstrip() for row in reversed(range(_PICTURE_HEIGHT))]
    hours = "an hour" if size == 1 else f"the mean of {size} hours"
    first, last = (moment[:16].replace("T", " ") for moment in (values[0][0], values[-1][0]))
    axis = f"{first} to {last}, each column {hours}, highest {most:,.4g}"
    return [f"[bold]{escape(title)}[/]", *lines, axis]


def _block(value: float | None, most: float, row: int) -> str:
    """Return one character of a picture: how far a value fills one of its rows."""
    if value is None:
        return "\u00b7" if row == 0 else " "
    filled = round(8 * _PICTURE_HEIGHT * value / most) - 8 * row if most else 0
    return " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"[min(max(filled, int(value > 0 and row == 0)), 8)]


def training(summary: Row) -> RenderableType:
    """Show how good a model is."""
    return fields(
        f"Demand model, version {summary['version']}",
        [
            ("WQL", f"{summary['wql']:.2f} (seasonal naive {summary['naive_wql']:.2f})"),
            ("80 % band holds", f"{summary['coverage_80']:.0%} of what came"),
            ("steers now", "yes, champion" if summary["promoted"] else "no, challenger"),
            ("because", summary["reason"]),
            ("run", summary["run_id"]),
        ],
    )


def plan(summary: Row) -> RenderableType:
    """Show what a plan costs and where it is short of GPUs."""
    costs = table("Cost by pool", ("pool", "cost"), [(pool, f"{cost:,.2f}") for pool, cost in summary["cost"].items()])
    head = fields(
        f"Plan {summary['plan_id']}",
        [
            ("solver", f"{summary['status']}, gap {summary['gap']:.2%}"),
            ("cost", f"{summary['total_cost']:,.2f}"),
            ("short, expected", f"{summary['expected_short_gpu_hours']:,.1f} GPU-hours"),
            ("short, 95 % case", f"{summary['p95_short_gpu_hours']:,.1f} GPU-hours"),
        ],
    )
    return Group(head, costs, *(f"- {escape(line)}" for line in summary["explanation"]))


def reservation(shown: Reservation) -> RenderableType:
    """Show one reservation."""
    from gangplan.client import attempt_text, eta_text, state_text

    request = shown.request
    pairs: list[tuple[str, object]] = [("id", shown.id), ("key", request.request_key), ("state", state_text(shown))]
    if shown.attempt:
        pairs.append(("asked by", attempt_text(shown.attempt)))
    if shown.state.waits:
        pairs.append(("ETA", eta_text(shown)))
    pairs += _reason(shown.reason)
    if shown.token is not None:
        until = shown.expires_at.isoformat() if shown.expires_at else None
        claim = [("to be claimed by", until)] if shown.claim_by and not shown.state.final else [("until", until)]
        pairs += [("token", shown.token), ("pods on", _places(shown)), *claim]
    if shown.notice is not None:
        pairs.append(("must leave by", f"{shown.notice.until.isoformat()}: {shown.notice.why}"))
    if shown.interruptions:
        pairs.append(("lost its nodes", f"{shown.interruptions} x"))
    return fields(f"Reservation of {request.gpus} GPUs for {request.tenant}", pairs)


def _reason(reason: Reason | None) -> list[tuple[str, object]]:
    return [] if reason is None else [("why", reason.message), ("would help", "; ".join(reason.helps) or "-")]


def reservations(shown: Sequence[Reservation], errors: EtaErrors | None) -> RenderableType:
    """List reservations, and how far the first ETAs of those that waited were off."""
    from gangplan.client import attempt_text, eta_text, state_text

    asked = any(row.attempt for row in shown)
    rows = [
        (
            row.id,
            row.request.tenant,
            *([attempt_text(row.attempt)] if asked else []),
            row.request.gpus,
            state_text(row),
            eta_text(row) if row.state.waits else row.expires_at and row.expires_at.isoformat(),
            why(row),
        )
        for row in shown
    ]
    columns = ("id", "tenant", *(["asked by"] if asked else []), "GPUs", "state", "ETA or expiry", "why")
    made = table("Reservations", columns, rows)
    return made if errors is None else Group(made, eta_errors(errors))


def eta_errors(errors: EtaErrors) -> str:
    """Return one line about how good ETAs were."""
    off = f"{duration(errors.mean_s)} in the mean, {duration(errors.p90_s)} in 9 of 10"
    return f"first ETAs of {errors.count} that waited: off by {off}; {errors.kept:.0%} started no later than told"


def prospect(summary: Row, reason: Reason | None) -> RenderableType:
    """Show when a request would start, and why not at once."""
    starts = "at once" if summary["at_once"] else summary["eta"] or "unknown"
    return fields("If asked for now", [("would start", starts), *_reason(reason)])


def nodes(outages: Mapping[str, Row]) -> RenderableType:
    """List the nodes that take no gang, or will take none."""
    columns = ("state", "begin", "back", "why")
    rows = [(name, *(outage[column] or "-" for column in columns)) for name, outage in outages.items()]
    return table("Nodes that take no gang", ("node", *columns), rows) if rows else "all nodes are ready"


def marked(node: str, state: str, gangs: Sequence[Reservation], begin: datetime | None) -> RenderableType:
    """Show what a node's new state means for the gangs that were on it."""
    from gangplan.client import state_text

    head = f"{escape(node)} is {state}{f' from {begin.isoformat()} on' if begin else ''}"
    rows = [
        (gang.request.tenant, gang.request.request_key, state_text(gang), _places(gang), why(gang)) for gang in gangs
    ]
    columns = ("tenant", "key", "state", "now on", "why")
    return Group(head, table("Gangs that were on it", columns, rows)) if rows else head


_LEVELS = {"good": "ok", "note": "note", "bad": "WRONG"}


def findings(title: str, rows: Sequence[Row]) -> RenderableType:
    """List what a doctor found."""
    columns: Columns = {
        "": lambda row: _LEVELS[row["level"]],
        "what": "what",
        "how it is, and what helps": lambda row: "\n-> ".join(filter(None, (row["said"], row["remedy"]))),
    }
    return listing(title, rows, columns)


_BAR = 24
"""Characters of the longest bar."""


def calendar(rows: Sequence[Row]) -> RenderableType:
    """Show the capacity over time, with a bar in each row: filled for held GPUs, hollow for free ones."""
    if not rows:
        return "no calendar is published: run `gangplan plan`, or `gangplan init` for the starter fleet's"
    most = max(max(row["planned_gpus"], row["held_gpus"]) for row in rows) or 1
    return listing(
        "GPUs over time",
        rows,
        {
            "pool": "pool",
            "from": "start",
            "to": "end",
            "planned": "planned_gpus",
            "held": "held_gpus",
            "free": "free_gpus",
            "held and free": lambda row: (
                "\u2588" * _blocks(row["held_gpus"], most) + "\u2591" * _blocks(row["free_gpus"], most)
            ),
        },
    )


def _blocks(gpus: int, most: int) -> int:
    """Return the length of a part of a bar; any GPUs at all get one character."""
    return max(int(gpus > 0), round(_BAR * gpus / most))


def learning(summary: Row) -> RenderableType:
    """Show the plan beside what happened, and what feedback changes."""
    before, after = summary["forecast_gpu_hours_before"], summary["forecast_gpu_hours_after"]
    step = f"{(after / before - 1):+.1%}" if before else "no demand before"
    unserved, idle = summary["unserved_gpu_hours"], summary["idle_gpu_hours"]
    head = fields(
        f"Planned against happened, {summary['start']} to {summary['end']}",
        [
            ("forecast loss (WQL)", summary["wql"]),
            ("80 % band held", f"{summary['coverage_80']:.0%}"),
            ("cost, planned and realised", f"{summary['planned_cost']:,.2f} and {summary['realised_cost']:,.2f}"),
            ("unserved and idle GPU-hours", f"{unserved:,.1f} and {idle:,.1f}"),
            ("mean wait", "-" if summary["mean_wait_s"] is None else f"{summary['mean_wait_s']:.1f} s"),
            ("next forecast, median GPU-hours", f"{before:,.1f} before, {after:,.1f} after ({step})"),
        ],
    )
    series = {"tenant": "tenant", "class": "workload_class", "accelerator": "accelerator"}
    corrections = listing("Corrections", summary["corrections"], {**series, "level": "level", "width": "width"})
    return Group(head, corrections)


def version(summary: Row) -> RenderableType:
    """Show one version of the demand model."""
    lines = {**summary, "changes": "\n".join(summary.get("changes", []))}
    return fields(f"Version {summary.get('version', '')}", [(name, value) for name, value in lines.items() if value])


def decisions(rows: Sequence[Row]) -> RenderableType:
    """List changes of a model's alias."""
    return records("Decisions", rows) if rows else "nothing was decided"


def _places(shown: Reservation) -> str:
    return ", ".join(f"{place.pods} x {place.node}" for place in shown.placements)


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def why(shown: Reservation) -> str:
    """Return the reason of a reservation that waits, or the notice to its holder."""
    if shown.notice:
        return f"must leave by {shown.notice.until.isoformat()}: {shown.notice.why}"
    return shown.reason.message if shown.reason else ""


def _cell(value: object) -> str:
    """Return the text of a cell: numbers short, states coloured, everything escaped."""
    if isinstance(value, float):
        return f"{value:,.3f}"
    text = "" if value is None else str(value)
    style = _STATE_STYLE.get(text)
    return f"[{style}]{text}[/]" if style else escape(text)
