"""Each stage's result in a few plain values: for --json, an XCom, a pipeline's parameter, a terminal's table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gangplan.types import FreeCapacity, Learning, NodeChange, Notice, Plan, Reason, Reservation, Training

if TYPE_CHECKING:
    from gangplan.forecast import Change, ModelVersion, ShadowStanding
    from gangplan.telemetry import IngestReport

Summary = dict[str, Any]


def of_ingest(report: IngestReport) -> Summary:
    """Say what was brought in, and which rows were kept out."""
    usage = report.usage
    return {
        "run_id": report.run_id,
        "source": report.source,
        "rows": report.rows,
        "rejected_count": report.rejected_count,
        "rejected": [str(row) for row in report.rejected],
        "start": _time(usage.start),
        "end": _time(usage.end),
        "series": usage.demand.select("tenant", "workload_class", "accelerator").n_unique(),
        "jobs": usage.jobs.height,
        "sha256": usage.sha256,
    }


def of_training(training: Training) -> Summary:
    """Say how good the model is beside the naive one, and whether it steers."""
    return {
        "run_id": training.run_id,
        "version": training.version,
        "wql": round(training.wql, 3),
        "naive_wql": round(training.naive_wql, 3),
        "coverage_80": round(training.coverage_80, 3),
        "promoted": training.promoted,
        "reason": training.reason,
        "notes": list(training.notes),
    }


def of_version(found: ModelVersion, standing: ShadowStanding | None = None) -> Summary:
    """Say how a version did and what was decided about it, by whom, when and why; and how it stands in the shadow."""
    return {
        "version": found.version,
        "aliases": ", ".join(found.aliases),
        "made_at": _time(found.made_at),
        "wql": round(found.wql, 3),
        "naive_wql": round(found.naive_wql, 3),
        "coverage_80": round(found.coverage_80, 3),
        "gate": found.gate,
        "reason": found.reason,
        "rejected": found.rejected,
        "because": found.because,
        "shadow": None if standing is None else f"{standing.days:.1f} of {standing.needed:g} days: {standing.words}",
        "run_id": found.run_id,
        "changes": [f"{_time(one.at)} {one.action} by {one.by}: {one.why}" for one in found.changes],
    }


def of_versions(found: Iterable[ModelVersion]) -> list[Summary]:
    """The same in a row each, without the words."""
    kept = ("version", "aliases", "made_at", "wql", "naive_wql", "coverage_80", "gate", "rejected")
    return [{name: of_version(one)[name] for name in kept} for one in found]


def of_decisions(found: Iterable[Change]) -> list[Summary]:
    """Say each change of an alias."""
    return [
        {
            "at": _time(one.at),
            "action": one.action,
            "version": one.version,
            "by": one.by,
            "why": one.why,
            "champion_before": one.champion_before,
        }
        for one in found
    ]


def of_plan(plan: Plan) -> Summary:
    """Say what the plan costs, where it is short, and how sure the solver is."""
    return {
        "plan_id": plan.plan_id,
        "run_id": plan.run_id,
        "issued_at": _time(plan.issued_at),
        "status": plan.status,
        "gap": round(plan.gap, 5),
        "total_cost": round(plan.total_cost, 2),
        "cost": {row["pool"]: round(row["cost"], 2) for row in plan.cost.iter_rows(named=True)},
        "expected_short_gpu_hours": round(float(plan.shortage["expected_gpus"].sum()), 2),
        "p95_short_gpu_hours": round(float(plan.shortage["p95_gpus"].sum()), 2),
        "limits": plan.limits.to_dicts(),
        "explanation": list(plan.explanation),
    }


def of_changes(changes: Iterable[NodeChange]) -> list[Summary]:
    """Say each pool's step."""
    return [
        {"pool": change.pool, "current": change.current, "target": change.target, "at": _time(change.at)}
        for change in changes
    ]


def of_reservation(reservation: Reservation) -> Summary:
    """Say where a reservation stands, where its pods go, or why and until when it waits."""
    return {
        "id": reservation.id,
        "key": reservation.request.request_key,
        "tenant": reservation.request.tenant,
        "gpus": reservation.request.gpus,
        "state": reservation.state.value,
        "token": reservation.token,
        "placements": [vars(placement) for placement in reservation.placements],
        "submitted_at": _time(reservation.submitted_at),
        "granted_at": _time(reservation.granted_at),
        "expires_at": _time(reservation.expires_at),
        "ended_at": _time(reservation.ended_at),
        "waited_s": _seconds(reservation.waited),
        "eta": _time(reservation.eta),
        "eta_range": [_time(moment) for moment in reservation.eta_range or ()],
        "promised": reservation.promised,
        "reason": of_reason(reservation.reason),
        "notice": of_notice(reservation.notice),
        "interruptions": reservation.interruptions,
    }


def of_prospect(starts: datetime | None, reason: Reason | None) -> Summary:
    """Say when a request would start if it were made now, and why not at once."""
    return {"eta": _time(starts), "at_once": starts is not None and reason is None, "reason": of_reason(reason)}


def of_notice(notice: Notice | None) -> Summary | None:
    """Say by when a holder has to be gone, why, and for whom."""
    return None if notice is None else {**vars(notice), "until": _time(notice.until)}


def of_reason(reason: Reason | None) -> Summary | None:
    """Say which limit holds a request, who holds what it needs, and what would help."""
    if reason is None:
        return None
    return {
        "limit": reason.limit.value,
        "message": reason.message,
        "holders": list(reason.holders),
        "helps": list(reason.helps),
    }


def of_free(free: Iterable[FreeCapacity]) -> list[Summary]:
    """Say each pool's GPUs over time: planned, held, free."""
    return [
        {
            "pool": row.pool,
            "start": _time(row.start),
            "end": _time(row.end),
            "planned_gpus": row.planned_gpus,
            "held_gpus": row.held_gpus,
            "free_gpus": row.free_gpus,
        }
        for row in free
    ]


def of_learning(learning: Learning) -> Summary:
    """Say how the plan did, and what that changes in the next forecast."""
    score = learning.score
    before = float(learning.before.quantiles["q0.5"].sum())
    after = float(learning.after.quantiles["q0.5"].sum())
    return {
        "start": _time(score.start),
        "end": _time(score.end),
        "wql": round(score.wql, 3),
        "coverage_80": round(score.coverage_80, 3),
        "planned_cost": round(score.planned_cost, 2),
        "realised_cost": round(score.realised_cost, 2),
        "unserved_gpu_hours": round(score.unserved_gpu_hours, 2),
        "idle_gpu_hours": round(score.idle_gpu_hours, 2),
        "mean_wait_s": score.mean_wait_s,
        "mean_eta_error_s": score.mean_eta_error_s,
        "corrections": learning.beliefs.corrections.to_dicts(),
        "forecast_gpu_hours_before": round(before, 1),
        "forecast_gpu_hours_after": round(after, 1),
    }


def _time(value: datetime | None) -> str | None:
    """Write a time in ISO 8601 with its zone."""
    return None if value is None else value.isoformat()


def _seconds(value: timedelta | None) -> float | None:
    """Write a duration in seconds."""
    return None if value is None else round(value.total_seconds(), 3)
