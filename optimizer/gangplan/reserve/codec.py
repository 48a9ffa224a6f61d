"""Reservations as rows of a table, and what their columns and the documents hold as JSON text.

The SQL ledgers keep these rows, the audit log tells of them, and a leader answers with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from pydantic import TypeAdapter

from gangplan.clock import MICROSECOND, from_us, to_us
from gangplan.reserve.admission import Entry, Leave, Promise
from gangplan.reserve.policy import Policy
from gangplan.reserve.space import Mark, Marks, Slot, Slots
from gangplan.types import (
    CapacityCalendar,
    CapacityInterval,
    GangRequest,
    Limit,
    NodeState,
    PlanId,
    Pool,
    PoolKind,
    Reason,
    ReservationId,
    ReservationState,
    Token,
    request_fields,
    request_from,
)


def id_of(request_key: str) -> ReservationId:
    """Return the reservation's id, drawn from its key, so that a repeated submit names the same row."""
    return ReservationId("r-" + hashlib.sha256(request_key.encode()).hexdigest()[:20])


def request_text(request: GangRequest) -> str:
    """Return the one text of a request; two requests are the same when their texts are."""
    fields = request_fields(request)
    if request.claim_within is None:
        del fields["claim_within"]  # ledgers have texts that were written before there was this field
    return json.dumps(fields)


@lru_cache(maxsize=8192)
def request_from_text(text: str) -> GangRequest:
    """Read a request back; the same row, or Workload, is read again and again."""
    return request_from(json.loads(text), unit=MICROSECOND)


def annotation_of(request: GangRequest) -> str:
    """Return the text of a request without the fields at their default, as Kueue's Workloads carry it."""
    return json.dumps(request_fields(request, defaults=False), separators=(",", ":"))


def slots_text(slots: Slots) -> str | None:
    """Return slots as JSON, none for no slots."""
    return json.dumps(slots) if slots else None


def slots_from(text: str | None) -> Slots:
    """Read slots back."""
    return tuple(Slot(*parts) for parts in json.loads(text)) if text else ()


def plan_text(promise: Promise | None) -> str | None:
    """Return a promise as JSON."""
    if promise is None:
        return None
    return json.dumps([promise.pool, promise.slots, promise.start, promise.end, promise.firm, promise.rank])


def plan_from(text: str | None) -> Promise | None:
    """Read a promise back."""
    if text is None:
        return None
    pool, slots, start, end, firm, *rank = json.loads(text)
    slots = tuple(Slot(*parts) for parts in slots)
    return Promise(
        pool=pool, slots=slots, start=start, end=end, firm=firm, rank=tuple(rank[0]) if rank and rank[0] else None
    )


def more_text(entry: Entry) -> str | None:
    """Return as JSON what not all reservations have: a notice, lost nodes, an attempt, a grant to be claimed."""
    leave = entry.leave
    more: dict[str, Any] = {
        "leave": leave and astuple(leave),
        "moves": entry.moves,
        "attempt": entry.attempt,
        "claim_by" if entry.state is ReservationState.GRANTED else "unclaimed": entry.claim_by,
    }
    kept = {name: value for name, value in more.items() if value}
    return json.dumps(kept) if kept else None


def take_more(entry: Entry, text: str | None) -> None:
    """Read back into an entry what `more_text` wrote."""
    if text is None:
        return
    more = json.loads(text)
    if leave := more.get("leave"):
        until, why, state, *rest = leave
        entry.leave = Leave(until, why, ReservationState(state), *rest)
    entry.moves = more.get("moves", 0)
    entry.attempt, entry.claim_by = more.get("attempt", ""), more.get("claim_by") or more.get("unclaimed")


@cache
def _policies() -> TypeAdapter[Policy]:
    """Return what reads and writes policies; it takes 0.07 s to make, and a DAG file that is read needs none."""
    return TypeAdapter(Policy)


def policy_text(policy: Policy) -> str:
    """Return a policy as JSON."""
    return _policies().dump_json(policy).decode()


def policy_from(text: str) -> Policy:
    """Read a policy back."""
    return _policies().validate_json(text)


def nodes_text(nodes: Marks) -> str:
    """Return the marks of the nodes that are not ready, by name, as JSON."""
    return json.dumps(nodes)


def nodes_from(text: str) -> dict[str, Mark]:
    """Read the nodes' marks back; older ones have a state alone."""
    marks: dict[str, Any] = json.loads(text)
    return {
        name: Mark(NodeState(mark)) if isinstance(mark, str) else Mark(NodeState(mark[0]), *mark[1:])
        for name, mark in marks.items()
    }


def reason_text(reason: Reason | None) -> str | None:
    """Return a reason as JSON."""
    return None if reason is None else json.dumps([reason.limit, reason.message, reason.holders, reason.helps])


def reason_from(text: str | None) -> Reason | None:
    """Read a reason back."""
    if text is None:
        return None
    limit, message, holders, helps = json.loads(text)
    return Reason(limit=Limit(limit), message=message, holders=tuple(holders), helps=tuple(helps))


def calendar_text(calendar: CapacityCalendar) -> str:
    """Return a calendar as JSON."""
    intervals = [[i.pool, to_us(i.start), to_us(i.end), i.nodes] for i in calendar.intervals]
    pools = [asdict(pool) for pool in calendar.pools]
    return json.dumps({"plan_id": calendar.plan_id, "pools": pools, "intervals": intervals}, default=_plain)


def calendar_from(text: str) -> CapacityCalendar:
    """Read a calendar back."""
    body = json.loads(text)
    return CapacityCalendar(
        plan_id=PlanId(body["plan_id"]),
        pools=tuple(_pool_from(pool) for pool in body["pools"]),
        intervals=tuple(
            CapacityInterval(pool=pool, start=from_us(start), end=from_us(end), nodes=nodes)
            for pool, start, end, nodes in body["intervals"]
        ),
    )


def _pool_from(body: dict[str, Any]) -> Pool:
    by_hour = {name: tuple(body.get(name, ())) for name in ("price_factors", "carbon_factors")}
    fields: dict[str, Any] = {**body, **by_hour, "kind": PoolKind(body["kind"])}
    return Pool(**fields)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return to_us(value)
    raise TypeError(type(value).__name__)


# ---------------------------------------------------------------- reservations as rows

Row = dict[str, Any]
"""A reservation's columns, but for the number of its last change."""

COLUMNS = (
    *("id", "request_key", "tenant", "body", "arrival", "submitted", "state", "token", "pool", "slots", "granted"),
    *("hard_end", "expires", "ended", "first_eta", "plan", "reason", "more"),
)


def changes(before: tuple[Any, ...] | None, after: Row) -> Row:
    """Return the columns that differ from those before; all, where there were none."""
    if before is None:
        return after
    return {name: value for old, (name, value) in zip(before, after.items(), strict=True) if old != value}


def row_of(entry: Entry) -> Row:
    """Return an entry as its row."""
    return {
        "id": entry.id,
        "request_key": entry.request.request_key,
        "tenant": entry.request.tenant,
        "body": entry.body,
        "arrival": entry.arrival,
        "submitted": entry.submitted,
        "state": entry.state.value,
        "token": entry.token,
        "pool": entry.pool,
        "slots": slots_text(entry.slots),
        "granted": entry.granted,
        "hard_end": entry.hard_end,
        "expires": entry.expires,
        "ended": entry.ended,
        "first_eta": entry.first_eta,
        "plan": plan_text(entry.promise),
        "reason": None,  # worked out when somebody asks; only an answer of the leader carries one
        "more": more_text(entry),
    }


def entry_of(row: Mapping[Any, Any]) -> Entry:
    """Return a row as an entry."""
    entry = Entry(
        id=ReservationId(row["id"]),
        request=request_from_text(row["body"]),
        body=row["body"],
        arrival=row["arrival"],
        submitted=row["submitted"],
        state=ReservationState(row["state"]),
        token=None if row["token"] is None else Token(row["token"]),
        pool=row["pool"],
        slots=slots_from(row["slots"]),
        granted=row["granted"],
        hard_end=row["hard_end"],
        expires=row["expires"],
        ended=row["ended"],
        first_eta=row["first_eta"],
        promise=plan_from(row["plan"]),
        stored=True,
    )
    take_more(entry, row["more"])
    return entry
