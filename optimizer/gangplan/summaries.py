"""The result of each stage as plain values: for --json, an XCom, a pipeline's parameter, a table on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gangplan.clock import HOUR, in_words
from gangplan.types import FreeCapacity, Learning, Outage, Plan, Reason, Reservation, Step, Training

if TYPE_CHECKING:
    from gangplan.execute import ApplyRun
    from gangplan.forecast import Change, ModelVersion, ShadowStanding
    from gangplan.telemetry import IngestReport, Preview
    from gangplan.workflows import Applied

Summary = dict[str, Any]


def of_ingest(report: IngestReport) -> Summary:
    """Summarise an import: what was brought in, and which rows were rejected."""
    usage = report.usage
    return {
        **fields_of(report, "run_id", "source", "rows", "rejected_count"),
        "rejected": [str(row) for row in report.rejected],
        **fields_of(usage, "start", "end"),
        "series": usage.demand.select("tenant", "workload_class", "accelerator").n_unique(),
        "jobs": usage.jobs.height,
        "sha256": usage.sha256,
        "age_hours": round(report.age / HOUR, 2),
        "notes": [*usage.notes, *_late(report), *map(str, report.quarantined)],
        "quarantined": sorted({row.series for row in report.quarantined}),
    }


def of_preview(seen: Preview) -> Summary:
    """Summarise telemetry that is not imported: its first rows as understood, and its demand and requests by hour."""
    telemetry = seen.telemetry
    return {
        **fields_of(telemetry, "source", "start", "end", "relative", "rows", "rejected_count", "skipped"),
        "rejected": [str(row) for row in telemetry.rejected],
        "notes": list(telemetry.notes),
        "tables": dict(seen.counts),
        "first_rows": {name: [_row(row) for row in rows] for name, rows in seen.first_rows.items()},
        "demand": [_row(row) for row in seen.demand],
        "requests": [_row(row) for row in seen.requests],
    }


def _row(row: Mapping[str, Any]) -> Summary:
    """Return a row of a table as plain values."""
    return {name: plain(value) for name, value in row.items()}


def _late(report: IngestReport) -> list[str]:
    """Say how old the last hour is, if whole hours are missing since."""
    if report.age < HOUR:
        return []
    return [f"late: its last hour ended {in_words(report.age)} before now, and the hours since are missing"]


def of_training(training: Training) -> Summary:
    """Summarise a training: the model's loss beside that of the naive forecast, and whether it became champion."""
    scores = ("wql", "naive_wql", "coverage_80")
    return fields_of(training, "run_id", "version", *scores, "promoted", "reason", "notes", digits=3)


def of_version(version: ModelVersion, standing: ShadowStanding | None = None) -> Summary:
    """Summarise a model version: its scores, its standing in the shadow, and each decision with its reason."""
    scores = ("wql", "naive_wql", "coverage_80")
    names = ("version", "aliases", "made_at", *scores, "gate", "reason", "rejected", "because")
    return {
        **fields_of(version, *names, digits=3),
        "aliases": ", ".join(version.aliases),
        "shadow": None if standing is None else f"{standing.days:.1f} of {standing.needed:g} days: {standing.words}",
        "run_id": version.run_id,
        "changes": [f"{plain(row.at)} {row.action} by {row.by}: {row.why}" for row in version.changes],
    }


def of_versions(versions: Iterable[ModelVersion]) -> list[Summary]:
    """Summarise model versions in one row each, without the long texts."""
    kept = ("version", "aliases", "made_at", "wql", "naive_wql", "coverage_80", "gate", "rejected")
    return [{name: of_version(version)[name] for name in kept} for version in versions]


def of_decisions(changes: Iterable[Change]) -> list[Summary]:
    """Summarise changes of a model's alias."""
    return [fields_of(change, "at", "action", "version", "by", "why", "champion_before") for change in changes]


def of_plan(plan: Plan) -> Summary:
    """Summarise a plan: its cost in money, its expected shortage in GPU-hours, the solver's status and gap."""
    return {
        **fields_of(plan, "plan_id", "run_id", "issued_at", "status", "gap", digits=5),
        "total_cost": round(plan.total_cost, 2),
        "cost": {row["pool"]: round(row["cost"], 2) for row in plan.cost.iter_rows(named=True)},
        "expected_short_gpu_hours": round(float(plan.shortage["expected_gpus"].sum()), 2),
        "p95_short_gpu_hours": round(float(plan.shortage["p95_gpus"].sum()), 2),
        "limits": plan.limits.to_dicts(),
        "explanation": list(plan.explanation),
    }


def of_applied(applied: Applied) -> Summary:
    """Summarise a pass that carried a plan out: what was done (or would be), what waits for what, what was refused."""
    carried, cost = applied.carried, applied.cost
    return {
        "dry_run": carried.dry_run,
        "reached": applied.reached,
        "done": [of_step(step) for step in carried.done],
        "waiting": [of_step(step) for step in carried.left],
        "refused": [{**of_step(taken.step), "engine": taken.engine, "said": taken.words} for taken in carried.refused],
        "unreachable": dict(carried.unreachable),
        "cost_per_hour": {"before": round(cost[0], 2), "after": round(cost[1], 2)},
    }


def of_step(step: Step) -> Summary:
    """Summarise a step: what of which pool, from what to what, why, and for what it waits."""
    return fields_of(step, "kind", "pool", "place", "before", "after", "why", "waits_for", "nodes", "held_by")


def of_apply_run(run: ApplyRun) -> Summary:
    """Summarise a run that carried a plan out: its steps, with what became of each."""
    return {
        **fields_of(run, "run_id", "plan_id", "begun", "ended", "whose"),
        "steps": [
            {**of_step(taken.step), **fields_of(taken, "at", "outcome", "engine", "words")} for taken in run.steps
        ],
    }


def of_reservation(reservation: Reservation) -> Summary:
    """Summarise a reservation: its state, the nodes of its pods, its lease, and why and until when it waits."""
    request, notice = reservation.request, reservation.notice
    times = ("submitted_at", "granted_at", "expires_at", "ended_at")
    return {
        "id": reservation.id,
        "key": request.request_key,
        "tenant": request.tenant,
        "gpus": request.gpus,
        **fields_of(reservation, "state", "token"),
        "placements": [vars(placement) for placement in reservation.placements],
        **fields_of(reservation, *times),
        "waited_s": plain(reservation.waited),
        "eta": plain(reservation.eta),
        "eta_range": plain(reservation.eta_range or ()),
        "promised": reservation.promised,
        "reason": of_reason(reservation.reason),
        "notice": notice and fields_of(notice, "until", "why", "beneficiary"),
        **fields_of(reservation, "interruptions", "attempt", "claim_by"),
    }


def of_prospect(starts: datetime | None, reason: Reason | None) -> Summary:
    """Summarise when a request would start if it were submitted now, and why not at once."""
    return {"eta": plain(starts), "at_once": starts is not None and reason is None, "reason": of_reason(reason)}


def of_reason(reason: Reason | None) -> Summary | None:
    """Summarise which limit makes a request wait, who holds what it needs, and what would help."""
    return None if reason is None else fields_of(reason, "limit", "message", "holders", "helps")


def of_outage(outage: Outage) -> Summary:
    """Summarise why a node takes no gang: its state, from when, until when."""
    return fields_of(outage, "state", "begin", "back", "why")


def of_free(free: Iterable[FreeCapacity]) -> list[Summary]:
    """Summarise the GPUs of each pool over time: planned, held, free."""
    return [fields_of(row, "pool", "start", "end", "planned_gpus", "held_gpus", "free_gpus") for row in free]


def of_learning(learning: Learning) -> Summary:
    """Summarise how the plan did (money, GPU-hours, seconds), and what that changes in the next forecast."""
    score = learning.score
    money_and_gpus = ("planned_cost", "realised_cost", "unserved_gpu_hours", "idle_gpu_hours")
    return {
        **fields_of(score, "start", "end", "wql", "coverage_80", digits=3),
        **fields_of(score, *money_and_gpus, digits=2),
        **fields_of(score, "mean_wait_s", "mean_eta_error_s"),
        "corrections": learning.beliefs.corrections.to_dicts(),
        "forecast_gpu_hours_before": round(float(learning.before.quantiles["q0.5"].sum()), 1),
        "forecast_gpu_hours_after": round(float(learning.after.quantiles["q0.5"].sum()), 1),
    }


def fields_of(value: object, *names: str, digits: int | None = None) -> Summary:
    """Return the named fields of a value as plain values; `digits` rounds the numbers among them."""
    return {name: plain(getattr(value, name), digits) for name in names}


def plain(value: Any, digits: int | None = None) -> Any:
    """Return a value as JSON has it: times in ISO 8601, durations in seconds, tuples as lists, enums as texts."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple | list):
        return [plain(item, digits) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return round(value, digits) if isinstance(value, float) and digits is not None else value
