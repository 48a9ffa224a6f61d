"""Who is where when: reservations as bars on rows of nodes, or of pools where there are many nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from gangplan.serve.live import View
from gangplan.types import NodeState, Pool, Reservation, ReservationState

MOST_NODES = 64
"""With more nodes, each row is a pool."""

MOST_LANES = 20
"""A row has so many bars below one another at most; what comes on top of them is counted."""

_EVER, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
SPANS = {
    "day": (timedelta(hours=3), timedelta(hours=21)),
    "12h": (timedelta(hours=2), timedelta(hours=10)),
    "week": (timedelta(hours=6), timedelta(days=7)),
}
"""What may be shown: so far back, so far ahead."""


class Look(StrEnum):
    """How a bar is drawn; the words are those of the legend."""

    RUNNING = "holds its slots, until its lease ends"
    NOTICED = "has notice to leave"
    ENDED = "held them and gave them back"
    WINDOW = "promised window"
    PROMISED = "promised start"
    EXPECTED = "expected start, not promised"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A reservation on a row from `start` to `end`; `lane` counts from the top of the row."""

    reservation: Reservation
    look: Look
    start: datetime
    end: datetime
    lane: int
    gpus: int


@dataclass(frozen=True, kw_only=True)
class Use:
    """The GPUs of a pool that are planned, and those that are held or promised, from `start` to `end`."""

    start: datetime
    end: datetime
    planned: int
    held: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """A node, a pool, or the line: its bars in `lanes` lanes, and how many had no room; a pool's `use` over time."""

    name: str
    note: str
    bars: tuple[Bar, ...]
    lanes: int
    left_out: int = 0
    opens: str = ""  # the pool that a click opens
    use: tuple[Use, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """What is drawn from `start` to `end`, as of `now`; `pages` of rows, of which this is one."""

    start: datetime
    end: datetime
    now: datetime
    rows: tuple[Row, ...]
    line: Row
    by: str
    page: int = 1
    pages: int = 1


def lay_out(view: View, *, span: str = "day", pool: str = "", page: int = 1, pools: Mapping[str, Pool]) -> Calendar:
    """Place the reservations of a view on rows: all of them, or those of one pool.

    `pools` say how many GPUs a node has; a pool that is not among them shows only the nodes that somebody is on.
    """
    behind, ahead = SPANS.get(span, SPANS["day"])
    start, end = view.at - behind, view.at + ahead
    on = defaultdict[str, dict[str, list[Bar]]](dict)  # pool: node: bars
    for placed in _placed(view.reservations, view.at):
        if placed.bar.end > start and placed.bar.start < end and pool in ("", placed.pool):
            on[placed.pool].setdefault(placed.node, []).append(placed.bar)
    nodes = {name: _nodes_of(name, on[name], view, pools) for name in _pools_of(view, on, pool)}
    many = not pool and sum(map(len, nodes.values())) > MOST_NODES
    if many:
        rows, page, pages = [_pool_row(name, on[name], view) for name in nodes], 1, 1
    else:
        named = [(name, node) for name, members in nodes.items() for node in members]
        pages = max(1, -(-len(named) // MOST_NODES))
        page = min(max(1, page), pages)
        shown = named[(page - 1) * MOST_NODES : page * MOST_NODES]
        rows = [_node_row(node, on[name].get(node, ()), view, pools.get(name)) for name, node in shown]
    return Calendar(
        start=start,
        end=end,
        now=view.at,
        rows=tuple(rows),
        line=_line_row(view, start, end),
        by="pool" if many else "node",
        page=page,
        pages=pages,
    )


@dataclass(frozen=True)
class _Placed:
    pool: str
    node: str
    bar: Bar


def _placed(reservations: Iterable[Reservation], now: datetime) -> Iterator[_Placed]:
    """Yield a bar for each node that a reservation holds or held."""
    for each in reservations:
        if each.granted_at is None or not each.placements:
            continue
        if each.state is ReservationState.GRANTED:
            look, end = (Look.NOTICED if each.notice else Look.RUNNING), max(each.expires_at or now, now)
        else:
            look, end = Look.ENDED, each.ended_at or now
        gpus = defaultdict[tuple[str, str], int](int)
        for place in each.placements:
            gpus[place.pool, place.node] += place.gpus
        for (pool, node), count in gpus.items():
            bar = Bar(reservation=each, look=look, start=each.granted_at, end=end, lane=0, gpus=count)
            yield _Placed(pool, node, bar)


def _pools_of(view: View, on: Mapping[str, object], pool: str) -> list[str]:
    """Return the pools to be shown, in the ledger's order; those that were given up last."""
    known = dict.fromkeys([*(free.pool for free in view.free), *on])
    return [name for name in known if pool in ("", name)]


def _nodes_of(pool: str, used: Iterable[str], view: View, pools: Mapping[str, Pool]) -> list[str]:
    """Return a pool's nodes by number: those that the calendar has now, and those that somebody is or was on."""
    planned = _at(view, pool, view.at)[0]
    count = -(-planned // pools[pool].gpus_per_node) if pool in pools else 0
    return sorted({*used, *(f"{pool}-{index}" for index in range(count))}, key=_number)


def _number(node: str) -> tuple[str, int, str]:
    pool, _, index = node.rpartition("-")
    return (pool, int(index), "") if index.isdecimal() else (node, 0, node)


def _at(view: View, pool: str, moment: datetime) -> tuple[int, int]:
    """Return a pool's planned and held GPUs at a moment."""
    for free in view.free:
        if free.pool == pool and free.start <= moment < free.end:
            return free.planned_gpus, free.held_gpus
    return 0, 0


def _node_row(node: str, bars: Sequence[Bar], view: View, pool: Pool | None) -> Row:
    now = sum(bar.gpus for bar in bars if bar.look in (Look.RUNNING, Look.NOTICED))
    state = view.nodes.get(node, NodeState.READY)
    of = f" of {pool.gpus_per_node}" if pool else ""
    note = f"{now}{of}" if state is NodeState.READY else state.value
    return _row(node, note, bars)


def _pool_row(name: str, on: Mapping[str, Sequence[Bar]], view: View) -> Row:
    """Return a row with one bar for each gang in a pool, whatever its nodes."""
    gangs: dict[tuple[str, datetime], Bar] = {}
    for bar in (bar for bars in on.values() for bar in bars):
        key = (bar.reservation.id, bar.start)
        gpus = bar.gpus + (gangs[key].gpus if key in gangs else 0)
        gangs[key] = replace(bar, gpus=gpus)
    planned, held = _at(view, name, view.at)
    use = tuple(
        Use(start=free.start, end=free.end, planned=free.planned_gpus, held=free.held_gpus)
        for free in view.free
        if free.pool == name and free.end > view.at
    )
    return _row(name, f"{held} of {planned}", tuple(gangs.values()), opens=name, use=use)


def _line_row(view: View, start: datetime, end: datetime) -> Row:
    """Return the row of those who wait, each from its expected start on."""
    bars = [bar for bar in map(_expected, view.waiting) if bar is not None and start < bar.end and bar.start < end]
    return _row("in line", f"{len(view.waiting)} waiting", bars)


def _expected(each: Reservation) -> Bar | None:
    """Return the bar of one that waits, if its start is known."""
    if each.eta is None:
        return None
    request = each.request
    window = each.promised and request.earliest_start is not None and request.earliest_start > each.submitted_at
    look = Look.WINDOW if window else Look.PROMISED if each.promised else Look.EXPECTED
    lasts = request.walltime or request.duration
    return Bar(reservation=each, look=look, start=each.eta, end=each.eta + lasts, lane=0, gpus=request.gpus)


def _row(name: str, note: str, bars: Sequence[Bar], *, opens: str = "", use: tuple[Use, ...] = ()) -> Row:
    """Return a row whose bars share it without covering one another: what holds or waits first, what ended in gaps."""
    past: list[datetime] = []  # until when ended bars fill each lane
    free: list[datetime] = []  # from when on something else fills it
    ends: list[datetime] = []
    placed: list[Bar] = []
    for bar in sorted((bar for bar in bars if bar.look is not Look.ENDED), key=_order):
        lane = next((lane for lane, end in enumerate(ends) if end <= bar.start), len(ends))
        if lane < MOST_LANES:
            if lane == len(ends):
                free.append(bar.start)
            ends[lane : lane + 1] = [bar.end]
            placed.append(replace(bar, lane=lane))
    left_out = sum(bar.look is not Look.ENDED for bar in bars) - len(placed)
    for bar in sorted((bar for bar in bars if bar.look is Look.ENDED), key=_order):
        past.extend([_EVER] * (len(free) + 1 - len(past)))
        lane = next((at for at, end in enumerate(past) if end <= bar.start and bar.end <= _get(free, at)), MOST_LANES)
        if lane < MOST_LANES:
            if lane == len(free):
                free.append(_NEVER)
            past[lane] = bar.end
            placed.append(replace(bar, lane=lane))
    placed.sort(key=_order)
    lanes = max(1, len(free))
    return Row(name=name, note=note, bars=tuple(placed), lanes=lanes, left_out=left_out, opens=opens, use=use)


def _get(free: list[datetime], lane: int) -> datetime:
    return free[lane] if lane < len(free) else _NEVER


def _order(bar: Bar) -> tuple[datetime, datetime, str]:
    return bar.start, bar.end, bar.reservation.id


def tenant_roles(view: View, roles: Sequence[str]) -> Callable[[str], str]:
    """Return which colour a tenant has: the largest holders have one of their own, the others share grey."""
    held: defaultdict[str, float] = defaultdict(float)
    for each in view.reservations:
        weight = 1.0 if each.state is ReservationState.GRANTED else 1e-6
        held[each.request.tenant] += each.request.gpus * weight
    ranked = sorted(held, key=lambda tenant: (-held[tenant], tenant))[: len(roles)]
    chosen = dict(zip(sorted(ranked), roles, strict=False))
    return lambda tenant: chosen.get(tenant, "done")
