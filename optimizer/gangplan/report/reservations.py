# pyright: reportUnknownMemberType=false
"""Reservations over time: how long each waited, held its slots, and when it was told that it would start."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from matplotlib.axes import Axes

from gangplan.pages import LIGHT, duration, new_axes, style, time_axis, times, to_svg
from gangplan.types import Reservation

MOST = 30
_APART = timedelta(minutes=10)
_BAR = 0.56


def newest_together(reservations: Sequence[Reservation]) -> list[Reservation]:
    """The newest reservations that lie close enough in time to be seen on one axis, the oldest first.

    Going back in time, it stops at a pause of more than ten minutes and three times the span shown so far.
    """
    ordered = sorted(reservations, key=lambda one: one.submitted_at, reverse=True)
    shown = ordered[:1]
    for earlier in ordered[1:MOST]:
        first = min(one.submitted_at for one in shown)
        span = max(last_moment(one) for one in shown) - first
        if first - last_moment(earlier) > max(3 * span, _APART):
            break
        shown.append(earlier)
    return shown[::-1]


def draw(reservations: Sequence[Reservation]) -> str:
    """Draw the reservations, the oldest at the top."""
    end = max(last_moment(one) for one in reservations)
    with style():
        figure, axes = new_axes(11, 0.9 + 0.34 * len(reservations))
        for row, one in enumerate(reservations):
            _draw_one(axes, row, one, end)
        _set_axes(axes, reservations)
        return to_svg(figure, "gantt", "Reservations over time", _describe(reservations))


def last_moment(one: Reservation) -> datetime:
    """The last time that is known or foreseen of a reservation."""
    times = (one.submitted_at, one.granted_at, one.ended_at or one.expires_at, one.first_eta, one.eta)
    return max(time for time in times if time is not None)


def _draw_one(axes: Axes, row: int, one: Reservation, end: datetime) -> None:
    """Draw one reservation's wait, hold and ETA."""
    waited_until = one.granted_at or one.ended_at or one.eta or end
    if waited_until > one.submitted_at:
        _bar(axes, row, one.submitted_at, waited_until, "wait", hatch="////")
    if one.granted_at is not None:
        until, role = (one.ended_at, "done") if one.ended_at else (one.expires_at or end, "hold")
        _bar(axes, row, one.granted_at, until, role)
        if one.ended_at is None:
            _note(axes, row, until, "lease ends")
    elif one.state.final:
        _note(axes, row, waited_until, one.state.value)
    if one.first_eta is not None:
        _mark(axes, row, one.first_eta, filled=False)
    if one.eta is not None and one.state.waits:
        _mark(axes, row, one.eta, filled=True)


def _bar(axes: Axes, row: int, start: datetime, end: datetime, role: str, hatch: str | None = None) -> None:
    """Draw a stretch of time; its edge keeps the shortest one visible."""
    left, right = times((start, end))
    axes.barh(
        row,
        right - left,
        left=left,
        height=_BAR,
        facecolor=LIGHT[role],
        edgecolor=LIGHT["surface" if hatch else role],
        hatch=hatch,
        linewidth=0 if hatch else 1.2,
    )


def _mark(axes: Axes, row: int, at: datetime, *, filled: bool) -> None:
    """Mark an ETA: hollow for the first one told, filled for the present one."""
    axes.plot(
        *times([at]),
        row,
        marker="D",
        markersize=6,
        markeredgecolor=LIGHT["mark"],
        markeredgewidth=1.5,
        markerfacecolor=LIGHT["mark" if filled else "surface"],
        linestyle="none",
    )


def _note(axes: Axes, row: int, at: datetime, words: str) -> None:
    """Write a few words behind a bar."""
    left = times([at])[0]
    axes.annotate(
        words,
        (left, row),
        xytext=(10, 0),
        textcoords="offset points",
        va="center",
        color=LIGHT["muted"],
        fontsize=8,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": LIGHT["surface"], "edgecolor": "none", "alpha": 0.8},
    )


def _days(first: datetime, last: datetime) -> str:
    """The date or dates on the axis."""
    days = dict.fromkeys(f"{at:%a %d %b %Y}" for at in (first, last))
    return f"{' to '.join(days)}, UTC"


def _set_axes(axes: Axes, reservations: Sequence[Reservation]) -> None:
    """Name the rows, and keep the time axis from collapsing."""
    axes.set_yticks(range(len(reservations)), [_label(one) for one in reservations])
    axes.set_ylim(len(reservations) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.grid(visible=False, axis="y")
    first = min(one.submitted_at for one in reservations)
    last = max(last_moment(one) for one in reservations)
    room = max((last - first) * 0.03, timedelta(seconds=1))
    time_axis(axes, ticks=9)
    left, right = times((first - room, last + 4 * room))
    axes.set_xlim(left, right)
    axes.set_xlabel(_days(first, last))


def _label(one: Reservation) -> str:
    """A row's name: who, and how many GPUs."""
    return f"{one.request.tenant} · {one.request.gpus} GPUs · {one.id[-6:]}"


def _describe(reservations: Sequence[Reservation]) -> str:
    """Say in words what the picture shows."""
    said = [
        f"{one.request.tenant}, {one.request.gpus} GPUs: {one.state.value}"
        + (f" after {duration(one.waited)}" if one.waited else "")
        for one in reservations
    ]
    return "; ".join(said) + "."
