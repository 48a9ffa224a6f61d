"""Reservations over time: how long each waited and held its slots, and the starts that it was promised."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from gangplan.pages import LIGHT, Axes, duration, new_axes, style, time_axis, times, to_svg
from gangplan.types import Reservation

MOST = 30
_APART = timedelta(minutes=10)
_BAR = 0.56


def newest_together(reservations: Sequence[Reservation]) -> list[Reservation]:
    """Return the newest reservations that are near enough in time for one axis, the oldest first.

    Going back in time, they end at a pause of more than ten minutes and three times the span so far.
    """
    ordered = sorted(reservations, key=lambda reservation: reservation.submitted_at, reverse=True)
    shown = ordered[:1]
    for earlier in ordered[1:MOST]:
        first = min(reservation.submitted_at for reservation in shown)
        span = max(last_moment(reservation) for reservation in shown) - first
        if first - last_moment(earlier) > max(3 * span, _APART):
            break
        shown.append(earlier)
    return shown[::-1]


def draw(reservations: Sequence[Reservation]) -> str:
    """Draw the reservations, the oldest at the top."""
    end = max(last_moment(reservation) for reservation in reservations)
    with style():
        figure, axes = new_axes(11, 0.9 + 0.34 * len(reservations))
        for row, reservation in enumerate(reservations):
            _draw_one(axes, row, reservation, end)
        _set_axes(axes, reservations)
        return to_svg(figure, "gantt", "Reservations over time", _describe(reservations))


def last_moment(reservation: Reservation) -> datetime:
    """Return the last time that is known or expected of a reservation."""
    times = (
        reservation.submitted_at,
        reservation.granted_at,
        reservation.ended_at or reservation.expires_at,
        reservation.first_eta,
        reservation.eta,
    )
    return max(time for time in times if time is not None)


def _draw_one(axes: Axes, row: int, reservation: Reservation, end: datetime) -> None:
    """Draw one reservation's wait, hold and ETA."""
    waited_until = reservation.granted_at or reservation.ended_at or reservation.eta or end
    if waited_until > reservation.submitted_at:
        _bar(axes, row, reservation.submitted_at, waited_until, "wait", hatch="////")
    if reservation.granted_at is not None:
        until = reservation.ended_at or reservation.expires_at or end
        _bar(axes, row, reservation.granted_at, until, "done" if reservation.ended_at else "hold")
        if reservation.ended_at is None:
            _note(axes, row, until, "lease ends")
    elif reservation.state.final:
        _note(axes, row, waited_until, reservation.state.value)
    if reservation.first_eta is not None:
        _mark(axes, row, reservation.first_eta, filled=False)
    if reservation.eta is not None and reservation.state.waits:
        _mark(axes, row, reservation.eta, filled=True)


def _bar(axes: Axes, row: int, start: datetime, end: datetime, role: str, hatch: str | None = None) -> None:
    """Draw a span of time; its edge keeps the shortest one visible."""
    left, right = times((start, end))
    colours = {"facecolor": LIGHT[role], "edgecolor": LIGHT["surface" if hatch else role]}
    axes.barh(row, right - left, left=left, height=_BAR, hatch=hatch, linewidth=0 if hatch else 1.2, **colours)


def _mark(axes: Axes, row: int, at: datetime, *, filled: bool) -> None:
    """Mark an ETA: hollow for the first one, filled for the present reservation."""
    inside = LIGHT["mark" if filled else "surface"]
    axes.scatter(times([at]), [row], 36, marker="D", edgecolor=LIGHT["mark"], linewidth=1.5, facecolor=inside, zorder=2)


def _note(axes: Axes, row: int, at: datetime, words: str) -> None:
    """Write a few words after a bar."""
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


def _set_axes(axes: Axes, reservations: Sequence[Reservation]) -> None:
    """Name the rows, and keep the time axis from collapsing."""
    labels = [f"{row.request.tenant} · {row.request.gpus} GPUs · {row.id[-6:]}" for row in reservations]
    axes.set_yticks(range(len(reservations)), labels)
    axes.set_ylim(len(reservations) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=LIGHT["ink"])
    axes.grid(visible=False, axis="y")
    first = min(reservation.submitted_at for reservation in reservations)
    last = max(last_moment(reservation) for reservation in reservations)
    room = max((last - first) * 0.03, timedelta(seconds=1))
    time_axis(axes, ticks=9)
    axes.set_xlim(*times((first - room, last + 4 * room)))
    days = dict.fromkeys(f"{at:%a %d %b %Y}" for at in (first, last))
    axes.set_xlabel(f"{' to '.join(days)}, UTC")


def _describe(reservations: Sequence[Reservation]) -> str:
    states = [
        f"{reservation.request.tenant}, {reservation.request.gpus} GPUs: {reservation.state.value}"
        + (f" after {duration(reservation.waited)}" if reservation.waited else "")
        for reservation in reservations
    ]
    return "; ".join(states) + "."
