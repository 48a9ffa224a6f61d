"""The calendar as SVG: each bar is a link with a title, so that it works from the keyboard and needs no script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from html import escape

from markupsafe import Markup

from gangplan.pages import moment
from gangplan.serve.calendar import Bar, Calendar, Look, Row
from gangplan.serve.visitors import Eyes

WIDTH, LEFT, TOP = 1200, 168, 26
_LANE, _GAP, _PAD = 18, 1, 4
_THIN = 7
"""The height of a lane where a row has more than four of them: then bars have no text."""

_USE = 20
"""The height of a pool's GPUs over time, above its bars."""

_CLASSES = {
    Look.RUNNING: "run",
    Look.NOTICED: "notice",
    Look.ENDED: "past",
    Look.WINDOW: "window",
    Look.PROMISED: "promise",
    Look.EXPECTED: "expect",
}
_STEPS = [timedelta(hours=hours) for hours in (1, 2, 3, 6, 12, 24, 48)]
_MOST_TICKS = 12

Role = Callable[[str], str]


def draw(calendar: Calendar, eyes: Eyes, role: Role, *, root: str) -> Markup:
    """Return the `<svg>` element; `root` is the path under which the application is mounted."""
    parts: list[str] = []
    y = TOP
    for row in (*calendar.rows, calendar.line):
        parts.extend(_row(calendar, row, eyes, role, root, y))
        y += _height(row)
    x = _x(calendar, calendar.now)
    head = (
        f'<svg id="gantt" viewBox="0 0 {WIDTH} {y + 2}" role="group" aria-labelledby="gantt-t">'
        f'<title id="gantt-t">Reservations on {calendar.by}s over time</title>{_PATTERN}'
    )
    grid = "".join(_ticks(calendar, y))
    now = f'<path class="now" d="M{x:.1f} {TOP - 6}V{y}"/><text class="nowt" x="{x:.1f}" y="10">now</text>'
    return Markup(f"{head}{grid}{''.join(parts)}{now}</svg>")  # noqa: S704  every text in it is escaped


_PATTERN = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path d="M0 0V6" class="hatch"/></pattern></defs>'
)


def _height(row: Row) -> int:
    return max(row.lanes * (_lane(row) + _GAP) + 2 * _PAD + (_USE if row.use else 0), 36 if row.opens else 0)


def _lane(row: Row) -> int:
    return _LANE if row.lanes <= 4 else _THIN


def _x(calendar: Calendar, at: datetime) -> float:
    """Return where a moment is on the axis; what lies outside is at its ends."""
    share = (at - calendar.start) / (calendar.end - calendar.start)
    return LEFT + (WIDTH - LEFT) * min(max(share, 0.0), 1.0)


def _row(calendar: Calendar, row: Row, eyes: Eyes, role: Role, root: str, y: int) -> Iterator[str]:
    """Yield a row's line, its name and its bars."""
    name, note = escape(row.name), escape(row.note + (f", {row.left_out} not shown" if row.left_out else ""))
    yield f'<path class="{"split" if row is calendar.line else "row"}" d="M0 {y}H{WIDTH}"/>'
    label = f'<text class="name" x="0" y="{y + 16}">{name}</text>'
    if row.opens:
        label = f'<a href="{root}/?pool={escape(row.opens, quote=True)}"><title>Nodes of {name}</title>{label}</a>'
    below = _height(row) >= 36
    place = f'x="0" y="{y + 30}"' if below else f'x="{LEFT - 10}" y="{y + 16}" text-anchor="end"'
    yield f'{label}<text class="note" {place}>{note}</text>'
    top = y + _PAD
    if row.use:
        yield _use(calendar, row, top)
        top += _USE
    for bar in row.bars:
        yield _bar(calendar, bar, eyes, role(bar.reservation.request.tenant), root, top, _lane(row))


def _use(calendar: Calendar, row: Row, top: int) -> str:
    """Return a pool's GPUs over time: held and promised as an area, planned as a line above it."""
    most, bottom = max(max(use.planned, use.held) for use in row.use) or 1, top + _USE - 4
    area, line = "", ""
    for use in row.use:
        left, right = _x(calendar, max(use.start, calendar.now)), _x(calendar, use.end)
        if right - left >= 0.1:
            heights = [bottom - (_USE - 4) * gpus / most for gpus in (use.held, use.planned)]
            area += f"M{left:.1f} {bottom}V{heights[0]:.1f}H{right:.1f}V{bottom}z"
            line += f"{'L' if line else 'M'}{left:.1f} {heights[1]:.1f}H{right:.1f}"
    return f'<path class="held" d="{area}"/><path class="plan" d="{line}"/>'


def _bar(calendar: Calendar, bar: Bar, eyes: Eyes, role: str, root: str, top: int, lane: int) -> str:
    """Return one bar: a link with its title, its shape, and its words where they fit."""
    left, right = _x(calendar, bar.start), _x(calendar, bar.end)
    wide, y = max(right - left, 2.0), top + bar.lane * (lane + _GAP)
    shape = f'<rect x="{left:.1f}" y="{y}" width="{wide:.1f}" height="{lane}"/>'
    if bar.look in (Look.RUNNING, Look.NOTICED) and bar.start >= calendar.start:
        shape += f'<path d="M{left + 1:.1f} {y}v{lane}"/>'
    words = f"{bar.reservation.request.tenant} · {bar.gpus}"
    text = ""
    if lane == _LANE and wide > 7 * len(words) + 10:
        text = f'<text x="{left + 7:.1f}" y="{y + 13}">{escape(words)}</text>'
    title = escape(_title(bar, eyes))
    place = f"{root}/reservations/{bar.reservation.id}"
    kind = f"{_CLASSES[bar.look]} {role}{'' if lane == _LANE else ' thin'}"
    return f'<a class="{kind}" href="{place}"><title>{title}</title>{shape}{text}</a>'


def _title(bar: Bar, eyes: Eyes) -> str:
    """Say in one line what a bar is."""
    each = bar.reservation
    gpus = f"{bar.gpus} of {each.request.gpus} GPUs" if bar.gpus != each.request.gpus else f"{bar.gpus} GPUs"
    span = f"{moment(bar.start)} to {moment(bar.end)}"
    return f"{each.request.tenant}, {gpus}, {bar.look.value}: {span}. {eyes.key(each)}"


def _ticks(calendar: Calendar, bottom: int) -> Iterator[str]:
    """Yield lines and names at round hours; a day's name at its midnight."""
    length = calendar.end - calendar.start
    step = next((step for step in _STEPS if length / step <= _MOST_TICKS), _STEPS[-1])
    midnight = calendar.start.replace(hour=0, minute=0, second=0, microsecond=0)
    first = int((calendar.start - midnight) / step) + 1
    for index in range(first, first + int(length / step) + 1):
        at = midnight + index * step
        x = _x(calendar, at)
        if calendar.start < at < calendar.end and abs(x - _x(calendar, calendar.now)) > 1:
            text = f"{at:%a %d %b}" if at.hour == 0 else f"{at:%H:%M}"
            near = abs(x - _x(calendar, calendar.now)) < 34 or x > WIDTH - 30
            name = "" if near else f'<text class="tick" x="{x:.1f}" y="10">{text}</text>'
            yield f'<path class="grid" d="M{x:.1f} {TOP - 8}V{bottom}"/>{name}'
