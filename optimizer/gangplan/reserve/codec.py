"""Requests, slots, plans, reasons and calendars as JSON text, as the SQL ledgers keep them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from gangplan.reserve.board import Slot, Slots
from gangplan.reserve.entry import Plan
from gangplan.reserve.moments import from_us, or_none_at, or_none_us, span_us, to_us
from gangplan.types import (
    CapacityCalendar,
    CapacityInterval,
    GangRequest,
    Limit,
    PlanId,
    PodSet,
    Pool,
    PoolKind,
    Reason,
    ReservationId,
    WorkloadClass,
)


def id_of(request_key: str) -> ReservationId:
    """Return the reservation's id, drawn from its key, so that a repeated submit names the same row."""
    return ReservationId("r-" + hashlib.sha256(request_key.encode()).hexdigest()[:20])


def request_text(request: GangRequest) -> str:
    """Return the one text of a request; two requests are the same when their texts are."""
    body: dict[str, Any] = {
        "request_key": request.request_key,
        "tenant": request.tenant,
        "pod_sets": [[pods.count, pods.gpus_per_pod] for pods in request.pod_sets],
        "accelerators": request.accelerators,
        "duration": span_us(request.duration),
        "walltime": None if request.walltime is None else span_us(request.walltime),
        "priority": request.priority,
        "workload_class": request.workload_class.value,
        "earliest_start": or_none_us(request.earliest_start),
        "latest_start": or_none_us(request.latest_start),
        "same_rack": request.same_rack,
        "preemptible": request.preemptible,
        "labels": dict(sorted(request.labels.items())),
    }
    return json.dumps(body)


def request_from(text: str) -> GangRequest:
    """Read a request back."""
    body = json.loads(text)
    return GangRequest(
        request_key=body["request_key"],
        tenant=body["tenant"],
        pod_sets=tuple(PodSet(count=count, gpus_per_pod=gpus) for count, gpus in body["pod_sets"]),
        accelerators=tuple(body["accelerators"]),
        duration=timedelta(microseconds=body["duration"]),
        walltime=None if body["walltime"] is None else timedelta(microseconds=body["walltime"]),
        priority=body["priority"],
        workload_class=WorkloadClass(body["workload_class"]),
        earliest_start=or_none_at(body["earliest_start"]),
        latest_start=or_none_at(body["latest_start"]),
        same_rack=body["same_rack"],
        preemptible=body["preemptible"],
        labels=body["labels"],
    )


def slots_text(slots: Slots) -> str | None:
    """Return slots as JSON, none for no slots."""
    return json.dumps(slots) if slots else None


def slots_from(text: str | None) -> Slots:
    """Read slots back."""
    return tuple(Slot(*parts) for parts in json.loads(text)) if text else ()


def plan_text(plan: Plan | None) -> str | None:
    """Return a promise as JSON."""
    return None if plan is None else json.dumps([plan.pool, plan.slots, plan.start, plan.end, plan.firm])


def plan_from(text: str | None) -> Plan | None:
    """Read a promise back."""
    if text is None:
        return None
    pool, slots, start, end, firm = json.loads(text)
    return Plan(pool=pool, slots=tuple(Slot(*parts) for parts in slots), start=start, end=end, firm=firm)


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
    fields: dict[str, Any] = {**body, "kind": PoolKind(body["kind"])}
    return Pool(**fields)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return to_us(value)
    raise TypeError(type(value).__name__)
