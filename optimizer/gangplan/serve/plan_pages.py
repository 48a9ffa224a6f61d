"""The pages about plans: demand beside the plan, all plans, one to be reviewed, and what another fleet would bring."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from fastapi import Request
from fastapi.responses import HTMLResponse

from gangplan.errors import NotFoundError
from gangplan.extras import needs_extras
from gangplan.serve.ledger_pages import Reason
from gangplan.serve.model_pages import NO_REASON, Look, ModelPages, boxed
from gangplan.serve.site import Site, paged, require, try_read, visitor_of
from gangplan.serve.visitors import Right
from gangplan.types import PlanId

if TYPE_CHECKING:
    from gangplan.plan import WhatIfResult
    from gangplan.tracking import Store
    from gangplan.types import Usage

_REPORT = "write it with `gangplan report`, or let the DAG gangplan_feedback do it"
_DRAWING = Lock()
"""Matplotlib's settings are those of the process: one drawing at a time."""

_RIGHTS = {"approve": Right.REVIEW_PLAN, "reject": Right.REVIEW_PLAN, "publish": Right.PUBLISH}


class PlanAnswer(Reason):
    """A person's word on a plan."""

    answer: Literal["approve", "reject", "publish"]


@dataclass(frozen=True, kw_only=True)
class PlanPages:
    """The handlers."""

    site: Site
    models: ModelPages

    def demand(self, request: Request) -> HTMLResponse:
        """Show the forecast's fan, and the plan beside the demand."""
        return self.site.render(
            request,
            "demand.html.j2",
            "Demand and plan",
            charts=try_read(lambda: self.site.shelf.read("charts", partial(_charts, usage=self.models.usage()))),
            health=try_read(self.models.health),
        )

    def plans(self, request: Request) -> HTMLResponse:
        """List the plans."""
        plans = try_read(lambda: self.site.shelf.read("plans", _plans))
        rows = plans if isinstance(plans, list) else []
        return self.site.render(request, "plans.html.j2", "Plans", plans=plans, rows=paged(rows, request))

    def plan(self, request: Request, id: str) -> HTMLResponse:
        """Show one plan, who is short, what it costs, and what may be decided about it."""
        shown = self.site.shelf.read(f"plan {id}", partial(_plan, id=id))
        from gangplan import workflows  # the plan was read, so the stages are there

        visitor, query = visitor_of(request), request.query_params
        asked = {name: query.get(name, "").strip() for name in ("pool", "demand", "budget")}
        return self.site.render(
            request,
            "plan.html.j2",
            f"Plan {id}",
            **shown,
            may={name for name, right in _RIGHTS.items() if visitor.may(right)},
            needs_person=workflows.needs_approval(shown["each"], self.site.settings()),
            answer=try_read(lambda: self._ask(id, **asked)) if any(asked.values()) else None,
        )

    def report(self, look: Look = "") -> HTMLResponse:
        """Return the newest cycle's report as it lies in MLflow."""
        run_id = self.site.shelf.read("reported", _reported)
        return boxed(self.site.shelf.page(run_id, "report.html", _REPORT), look)

    def decide(self, request: Request, id: str, body: PlanAnswer) -> dict[str, str]:
        """Approve, reject or publish a plan in the visitor's name."""
        visitor = require(request, _RIGHTS[body.answer])
        why = body.why.strip() or NO_REASON
        with needs_extras():
            from gangplan import plan, workflows
        store = self.site.shelf.store()
        planned, _ = plan.read_plan(store, PlanId(id))
        if body.answer == "publish":
            settings, clock = self.site.settings(), self.site.clock
            planning = partial(workflows.Planning, store=store, settings=settings, clock=clock)
            done = self.site.live.act(lambda ledger: planning(ledger=ledger).publish(planned))
            held = f"; in {len(done.conflicts)} spans nodes stay for reservations" if done.conflicts else ""
            message = f"The plan holds now{held}."
        else:
            decide = workflows.approve if body.answer == "approve" else workflows.reject
            decide(planned, store, by=visitor.name, why=why, clock=self.site.clock)
            message = f"The plan is {'approved' if body.answer == 'approve' else 'rejected'}, by {visitor.name}."
        self.site.shelf.forget()
        return {"message": message}

    def _ask(self, id: str, *, pool: str, demand: str, budget: str) -> dict[str, Any]:
        """Solve the plan again with a change, side by side; the same question is answered once in half a minute."""

        def work(store: Store) -> dict[str, Any]:
            from gangplan import plan, workflows

            question = plan.WhatIf.from_texts(pool.split(), demand.split(), budget)
            before, after = workflows.ask(store, self.site.settings(), question, PlanId(id))
            moved = [row for row in plan.side_by_side(before, after).to_dicts() if abs(row["node_hours_change"]) >= 0.5]
            return {"before": _figures(before), "after": _figures(after), "pools": moved}

        return self.site.shelf.read(f"what if {id} {pool} {demand} {budget}", work)


def _figures(answer: WhatIfResult) -> dict[str, float]:
    return {"cost": answer.cost, "short": answer.short_gpu_hours, "price": answer.objective, "gap": answer.gap}


def _plans(store: Store) -> list[dict[str, str]]:
    from gangplan import plan

    return plan.list_plans(store)


def _plan(store: Store, *, id: str) -> dict[str, Any]:
    """Return a plan with its tags, its tables and its drawing."""
    from gangplan import plan, report

    tags = next((row for row in plan.list_plans(store) if row["plan_id"] == id), None)
    if tags is None:
        raise NotFoundError(f"plan: {id!r} is not among the newest 100: see the list of plans")
    planned, forecast = plan.read_plan(store, PlanId(id))
    with _DRAWING:
        chart = report.draw_plan(planned, forecast)
    return {
        "each": planned,
        "tags": tags,
        "orders": [plan.order_text(order) for order in plan.orders(planned, 24)],
        "chart": chart,
        "layers": report.layers(planned),
        "pools": report.pools(planned),
        "shortages": report.shortages(planned),
        "limits": report.limits(planned),
    }


def _charts(store: Store, *, usage: Usage) -> dict[str, Any]:
    """Draw the demand with its fan and the newest plan beside it."""
    from gangplan import plan, report

    planned, forecast = plan.read_plan(store)
    with _DRAWING:
        demand, chart = report.draw_demand(usage, forecast), report.draw_plan(planned, forecast)
    return {
        "plan": planned,
        "demand": demand,
        "chart": chart,
        "layers": report.layers(planned),
        "short": report.shortages(planned),
    }


def _reported(store: Store) -> str:
    """Return the run of the newest plan that has a report."""
    from gangplan import tracking

    runs = store.runs(tracking.PLAN, {"reported": "yes"})
    if not runs:
        raise NotFoundError(f"report: there is none yet: {_REPORT}")
    return runs[0].info.run_id
