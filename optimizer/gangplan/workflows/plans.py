"""The life of a plan: made, asked what if, compared, approved, published to the ledger."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime

from gangplan import plan
from gangplan.clock import HOUR, Clock
from gangplan.config import Settings
from gangplan.errors import ApprovalError, StrandedError, UnsupportedError
from gangplan.plan import PlanPolicy, QuotaShare, TenantQuota, WhatIf, WhatIfResult
from gangplan.progress import Progress, no_progress
from gangplan.reserve import ALL, OperableLedger, Policy
from gangplan.tracking import Store
from gangplan.types import Fleet, Forecast, Plan, PlanId
from gangplan.workflows.power import with_power
from gangplan.workflows.present import age_words
from gangplan.workflows.reserved_nodes import Conflict, conflicts, held_until, reserved_nodes

_log = logging.getLogger(__name__)

PUBLISH_TRIES = 5
"""How often a calendar is made again when new reservations were granted in between."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published plan, and the spans in which its calendar has more nodes than the plan because of reservations."""

    plan_id: PlanId
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, kw_only=True)
class Planning:
    """Makes and publishes plans with one store, one ledger and one set of settings; `notes` open each explanation."""

    store: Store
    ledger: OperableLedger
    settings: Settings
    clock: Clock
    notes: tuple[str, ...] = ()

    def make(
        self,
        forecast: Forecast,
        fleet: Fleet,
        *,
        hold: bool = False,
        once: str = "",
        progress: Progress = no_progress,
    ) -> Plan:
        """Plan from the previous plan, within the tenants' quotas, with the reserved nodes; keep and publish it.

        `once` is kept with the plan: the name in which it was asked for.
        """
        start: datetime = forecast.quantiles["hour"].min()  # pyright: ignore[reportAssignmentType]
        policy = with_quotas(plan.read_plan_policy(self.settings.plan_policy_file), self._rules(), fleet)
        policy = with_power(policy, fleet, self.settings)
        made = plan.solve(
            forecast,
            fleet,
            settings=self.settings,
            policy=policy,
            previous=plan.plan_before(self.store, start),
            held=reserved_nodes(self.ledger, fleet, start, self.settings.horizon_hours, self.clock()),
            progress=progress,
        )
        first = (*age_words(forecast, self.settings), *self.notes, *forecast.stands_out)
        kept = plan.log_plan(replace(made, explanation=(*first, *made.explanation)), forecast, self.store, once=once)
        if not hold and not needs_approval(kept, self.settings):
            self.publish(kept)
        return kept

    def settle(self, kept: Plan, *, hold: bool = False) -> None:
        """Publish a plan whose making was cut short, unless it is held, waits for a person, or a newer one holds."""
        waits = hold or needs_approval(kept, self.settings)
        if not waits and not plan.is_published(self.store, kept) and newer_published(kept, self.store) is None:
            self.publish(kept)

    def _rules(self) -> Policy:
        """Return the ledger's rules; on Kueue there are none to plan by: its quotas are what follows the plan."""
        try:
            return self.ledger.policy()
        except UnsupportedError:
            return Policy()

    def publish(self, planned: Plan) -> Published:
        """Publish a plan as the ledger's calendar from now on; nodes that reservations need stay.

        The ledger checks the calendar in its own transaction. If reservations were granted in between, the calendar is
        made again with their nodes. A ledger on Kueue has no calendar: there the published plan is what the quotas of
        its ClusterQueues are brought to when it is carried out.

        Raises
        ------
        ApprovalError
            Somebody has rejected it, or the settings ask for a person's approval that nobody has given.
        StrandedError
            The calendar would take nodes from reservations (they are named), also after several tries.
        """
        if plan.is_rejected(self.store, planned):
            raise ApprovalError(f"plan: {planned.plan_id} was rejected: approve it first, or publish another")
        if needs_approval(planned, self.settings) and not plan.is_approved(self.store, planned):
            raise ApprovalError(
                f"plan: {planned.plan_id} is not approved, and publication or approve_above asks for a person: "
                f"gangplan plan approve {planned.plan_id} --by NAME --why REASON"
            )
        conflicting = self._publish(planned, PUBLISH_TRIES)
        plan.mark(self.store, planned, "published", self.clock().isoformat())
        return Published(plan_id=planned.plan_id, conflicts=conflicting)

    def _publish(self, planned: Plan, tries: int) -> tuple[Conflict, ...]:
        """Make the calendar with the nodes that reservations need now, and publish it; try again if it is refused."""
        now, reservations = self.clock(), self.ledger.list()
        last = max((held_until(reservation, now) for reservation in reservations), default=now)
        hours = max(planned.nodes["hour"].n_unique(), -int(-(last - planned.issued_at) // HOUR))
        needed = reserved_nodes(self.ledger, planned.fleet, planned.issued_at, hours, now)
        try:
            self.ledger.publish(plan.to_calendar(planned, needed), keep=True)
        except StrandedError:
            if tries <= 1:
                raise
            return self._publish(planned, tries - 1)
        except UnsupportedError:
            _log.info("%s: the ledger has no calendar: its quotas follow when the plan is carried out", planned.plan_id)
        return conflicts(planned, needed, reservations, now)


def with_quotas(policy: PlanPolicy, rules: Policy, fleet: Fleet) -> PlanPolicy:
    """Add the ledger's quotas to a policy without any, so that no capacity is planned that admission would refuse."""
    if policy.quotas:
        return policy
    quotas: dict[str, TenantQuota] = {}
    for name, tenant in rules.tenants.items():
        shares = {
            accelerator: QuotaShare(nominal=min(float(quota.nominal), gpus), borrow=quota.borrow)
            for accelerator, gpus in fleet.most_gpus().items()
            if (quota := tenant.quotas.get(accelerator, tenant.quotas.get(ALL))) is not None
        }
        if shares:
            quotas[name] = TenantQuota(shares=shares, cohort=tenant.cohort)
    return replace(policy, quotas=quotas)


def newer_published(planned: Plan, store: Store) -> str | None:
    """Return the plan that was made later and holds, if there is one."""
    for row in plan.list_plans(store):
        if row["plan_id"] == planned.plan_id:
            return None
        if row["published"] == "yes":
            return row["plan_id"]
    return None


def needs_approval(planned: Plan, settings: Settings) -> bool:
    """Tell whether a person has to approve a plan before it holds: each one, or what costs more than is set."""
    dear = settings.approve_above is not None and planned.total_cost > settings.approve_above
    return dear or settings.publication == "person"


def approve(planned: Plan, store: Store, *, by: str, why: str, clock: Clock) -> None:
    """Record that a person approves a plan, and the reason."""
    plan.mark(store, planned, "approved", f"{clock().isoformat()} by {by}: {why}")
    plan.mark(store, planned, "rejected", "", yes=False)


def reject(planned: Plan, store: Store, *, by: str, why: str, clock: Clock) -> None:
    """Record that a person rejects a plan, and the reason; it is not published any more until somebody approves it."""
    plan.mark(store, planned, "rejected", f"{clock().isoformat()} by {by}: {why}")
    plan.mark(store, planned, "approved", "", yes=False)


def ask(
    store: Store, settings: Settings, question: WhatIf, plan_id: PlanId | None = None
) -> tuple[WhatIfResult, WhatIfResult]:
    """Solve a plan as it is and with the changes of a question; return both results."""
    return plan.ask(*_posed(store, settings, plan_id), question)


def compare(
    store: Store, settings: Settings, plan_id: PlanId | None = None, progress: Progress = no_progress
) -> tuple[plan.Alternative, ...]:
    """Simulate a plan and simple rules on fresh demand paths; the resulting table is kept with the plan."""
    planned, problem = _posed(store, settings, plan_id)
    alternatives = plan.compare(problem, plan.nodes_of(planned, problem), progress)
    plan.log_alternatives(store, planned, alternatives)
    return alternatives


def _posed(store: Store, settings: Settings, plan_id: PlanId | None) -> tuple[Plan, plan.Problem]:
    """Read a plan and build its problem again."""
    planned, ahead = plan.read_plan(store, plan_id)
    earlier = planned.inputs.get("previous")
    previous = plan.read_plan(store, PlanId(earlier))[0] if earlier else None
    return planned, plan.rebuild_problem(planned, ahead, previous, settings)
