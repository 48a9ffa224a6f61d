"""What a person is asked about a model or a plan, in words, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gangplan import forecast, plan
from gangplan.config import Settings
from gangplan.errors import ApprovalError
from gangplan.forecast import ModelVersion
from gangplan.reserve import OperableLedger
from gangplan.tracking import Store, open_store
from gangplan.types import Plan, PlanId
from gangplan.workflows.plans import Planning, approve, needs_approval, newer_published, reject

ASKED = "asked"
"""The mark of a plan, and of a version, about which a person was asked."""

_MOST_SENTENCES = 6
"""So much of a plan's explanation stands in the question; its page has all of it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A word on a model or a plan: yes or no, who gave it, and why."""

    approved: bool
    by: str
    why: str

    @classmethod
    def from_airflow(cls, given: Mapping[str, Any]) -> Answer:
        """Read an answer of Airflow's ApprovalOperator."""
        return cls(approved=given["chosen_options"] == ["Approve"], by=_who(given), why=_why(given))


def question(settings: Settings, version: str | None = None, *, models: str) -> dict[str, str]:
    """Return the question to a person about a version (default: the challenger).

    `models` is the address under which each version has its page, with the report that its training kept in MLflow.
    """
    store = open_store(settings)
    number = version or forecast.challenger(store)
    shown = forecast.show_version(store, number)
    body = [
        f"**{forecast.headline(store, number)}**",
        f"- The gate: {shown.gate}. {shown.reason}",
        f"- Trained because: {shown.because}. Compared with: version {shown.compared_with or 'none'}.",
        f"- [The report, with pictures]({models}/{number}); it is `review.html` of the MLflow run `{shown.run_id}`.",
    ]
    return {"version": number, "subject": f"Demand model: may version {number} steer?", "body": "\n".join(body)}


def answered(settings: Settings, version: str, answer: Mapping[str, Any]) -> ModelVersion:
    """Approve or reject a version by an answer of Airflow's ApprovalOperator, in the name of the person who gave it."""
    return decide_model(settings, version, Answer.from_airflow(answer))


def decide_model(settings: Settings, version: str, answer: Answer) -> ModelVersion:
    """Approve or reject a version, in the name of the person who answered."""
    decide = forecast.approve if answer.approved else forecast.reject
    return decide(open_store(settings), version, by=answer.by, why=answer.why, clock=settings.clock)


def open_plans(settings: Settings) -> tuple[PlanId, ...]:
    """Return the newest plan if it waits for a person and none was asked about it yet, and mark it as asked."""
    store = open_store(settings)
    newest = next(iter(plan.list_plans(store)), None)
    if newest is None or "yes" in (newest["approved"], newest["rejected"], newest["published"], newest[ASKED]):
        return ()
    planned, _ = plan.read_plan(store, PlanId(newest["plan_id"]))
    if not needs_approval(planned, settings):
        return ()
    plan.mark(store, planned, ASKED, settings.clock().isoformat())
    return (planned.plan_id,)


def plan_question(settings: Settings, plan_id: PlanId | None = None, *, plans: str) -> dict[str, str]:
    """Return the question to a person about a plan (default: the newest); `plans` is where plans have their pages."""
    planned, _ = plan.read_plan(open_store(settings), plan_id)
    limit = settings.approve_above
    above = "" if limit is None or planned.total_cost <= limit else f", above {limit:,.0f} (`approve_above`)"
    left = len(planned.explanation) - _MOST_SENTENCES
    body = [
        f"**It costs {planned.total_cost:,.0f}{above}.**",
        *(f"- {sentence}" for sentence in planned.explanation[:_MOST_SENTENCES]),
        f"- [The plan, with pictures]({plans}/{planned.plan_id}){f', and {left} sentences more' if left > 0 else ''}.",
    ]
    return {"plan": planned.plan_id, "subject": f"May the plan {planned.plan_id} hold?", "body": "\n".join(body)}


def plan_answered(settings: Settings, ledger: OperableLedger, plan_id: PlanId, answer: Mapping[str, Any]) -> str:
    """Approve and publish a plan, or reject it, by an answer of Airflow's ApprovalOperator; return what was done.

    Raises
    ------
    ApprovalError
        When a newer plan holds already: the answer came too late.
    """
    return decide_plan(settings, ledger, plan_id, Answer.from_airflow(answer))


def decide_plan(settings: Settings, ledger: OperableLedger, plan_id: PlanId, answer: Answer) -> str:
    """Approve and publish a plan, or reject it, in the name of the person who answered; return what was done.

    Raises
    ------
    ApprovalError
        When a newer plan holds already: the answer came too late.
    """
    store, by, why = open_store(settings), answer.by, answer.why
    planned, _ = plan.read_plan(store, plan_id)
    if not answer.approved:
        reject(planned, store, by=by, why=why, clock=settings.clock)
        return f"plan {plan_id} rejected by {by}: {why}"
    _require_newest(planned, store)
    approve(planned, store, by=by, why=why, clock=settings.clock)
    done = Planning(store=store, ledger=ledger, settings=settings, clock=settings.clock).publish(planned)
    kept = f"; in {len(done.conflicts)} spans nodes stay for reservations" if done.conflicts else ""
    return f"plan {plan_id} approved by {by} and published{kept}: {why}"


def _require_newest(planned: Plan, store: Store) -> None:
    """Refuse to publish a plan over one that was made later and holds."""
    newer = newer_published(planned, store)
    if newer is not None:
        raise ApprovalError(f"plan: {planned.plan_id} is older than {newer}, which holds: nothing to do")


def _who(answer: Mapping[str, Any]) -> str:
    """Return the name of who answered."""
    user: Mapping[str, Any] = answer.get("responded_by_user") or {}
    return f"{user.get('name') or user.get('id') or 'somebody in Airflow'} (Airflow)"


def _why(answer: Mapping[str, Any]) -> str:
    """Return the reason given."""
    given: Mapping[str, Any] = answer.get("params_input") or {}
    return str(given.get("why") or "").strip() or "no reason was given"
