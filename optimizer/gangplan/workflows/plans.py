"""Plans as people work with them: made, looked at, asked, compared, approved, published to the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gangplan import plan
from gangplan.clock import Clock, system_clock
from gangplan.config import Settings
from gangplan.errors import ApprovalError, StrandedError
from gangplan.plan import PlanPolicy, QuotaShare, TenantQuota, WhatIf, WhatIfResult
from gangplan.progress import Progress, no_progress
from gangplan.reserve import ALL, OperableLedger, Policy
from gangplan.tracking import Store
from gangplan.types import Fleet, Forecast, Plan, PlanId, Reservation
from gangplan.workflows.promised_nodes import Conflict, Held, conflicts, held_nodes, held_until

PUBLISH_TRIES = 5
"""So often a calendar is drawn anew when reservations come between."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A plan that was published, and where reservations made its calendar run more nodes than it had."""

    plan_id: PlanId
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, kw_only=True)
class Planning:
    """Where plans are kept and published, and by which settings they are made."""

    store: Store
    ledger: OperableLedger
    settings: Settings
    clock: Clock = system_clock

    def make(self, ahead: Forecast, fleet: Fleet, *, hold: bool = False, progress: Progress = no_progress) -> Plan:
        """Plan after the last plan, under the tenants' quotas, around what is reserved; keep it, publish it."""
        start: datetime = ahead.quantiles["hour"].min()  # pyright: ignore[reportAssignmentType]
        policy = with_quotas(plan.read_plan_policy(self.settings.plan_policy_file), self.ledger.policy(), fleet)
        made = plan.solve(
            ahead,
            fleet,
            settings=self.settings,
            policy=policy,
            previous=plan.plan_before(self.store, start),
            held=held_nodes(self.ledger, fleet, start, self.settings.horizon_hours, self.clock()),
            progress=progress,
        )
        told = replace(made, explanation=(*ahead.stands_out, *made.explanation))
        kept = plan.log_plan(told, ahead, self.store)
        if not hold and self.settings.publication == "plan":
            self.publish(kept)
        return kept

    def publish(self, planned: Plan) -> Published:
        """Let a plan's calendar hold from now on; what reservations stand on stays.

        The ledger looks again inside its transaction: what was granted since it was asked is found there, and the
        calendar is drawn around that too.

        Raises
        ------
        ApprovalError
            The settings want a person's approval, and nobody has given it.
        StrandedError
            The calendar would take nodes from reservations (they are named), and so would each one drawn anew.
        """
        if self.settings.publication == "person" and not plan.is_approved(self.store, planned):
            raise ApprovalError(
                f"plan: {planned.plan_id} is not approved, and the setting publication asks for a person: "
                f"gangplan plan approve {planned.plan_id} --by NAME --why REASON"
            )
        found = self._publish(planned, PUBLISH_TRIES)
        plan.mark(self.store, planned, "published", self.clock().isoformat())
        return Published(plan_id=planned.plan_id, conflicts=found)

    def _publish(self, planned: Plan, tries: int) -> tuple[Conflict, ...]:
        """Draw the calendar around what is held now and publish it; anew where something came in between."""
        now, live = self.clock(), self.ledger.list()
        held: Held = held_nodes(self.ledger, planned.fleet, planned.issued_at, _hours(planned, live, now), now)
        try:
            self.ledger.publish(plan.to_calendar(planned, held), keep=True)
        except StrandedError:
            if tries <= 1:
                raise
            return self._publish(planned, tries - 1)
        return conflicts(planned, held, live, now)


def with_quotas(policy: PlanPolicy, rules: Policy, fleet: Fleet) -> PlanPolicy:
    """Add the ledger's quotas to a policy that names none: what admission would refuse need not be planned for."""
    if policy.quotas:
        return policy
    most: dict[str, float] = {}
    for pool in fleet.pools:
        most[pool.accelerator] = most.get(pool.accelerator, 0.0) + pool.gpus_per_node * pool.max_nodes
    quotas: dict[str, TenantQuota] = {}
    for name, tenant in rules.tenants.items():
        given = {a: tenant.quotas.get(a, tenant.quotas.get(ALL)) for a in most}
        shares = {
            a: QuotaShare(nominal=min(float(quota.nominal), most[a]), borrow=quota.borrow)
            for a, quota in given.items()
            if quota is not None
        }
        if shares:
            quotas[name] = TenantQuota(shares=shares, cohort=tenant.cohort)
    return replace(policy, quotas=quotas)


def approve(planned: Plan, store: Store, *, by: str, why: str, clock: Clock = system_clock) -> None:
    """Say yes to a plan, with the reason."""
    plan.mark(store, planned, "approved", f"{clock().isoformat()} by {by}: {why}")


def ask(
    store: Store, settings: Settings, question: WhatIf, plan_id: PlanId | None = None, *, seconds: float = 0.4
) -> tuple[WhatIfResult, WhatIfResult]:
    """Ask a plan a question: how it stands, and how it would."""
    return plan.ask(*_posed(store, settings, plan_id), question, seconds)


def compare(
    store: Store, settings: Settings, plan_id: PlanId | None = None, progress: Progress = no_progress
) -> tuple[plan.Alternative, ...]:
    """Run a plan and the rules that people use instead over fresh paths; the table is kept with the plan."""
    planned, problem = _posed(store, settings, plan_id)
    found = plan.compare(problem, plan.nodes_of(planned, problem), progress)
    plan.log_alternatives(store, planned, found)
    return found


def _posed(store: Store, settings: Settings, plan_id: PlanId | None) -> tuple[Plan, plan.Problem]:
    """Read a plan and put its problem together again."""
    planned, ahead = plan.read_plan(store, plan_id)
    earlier = planned.inputs.get("previous")
    previous = plan.read_plan(store, PlanId(earlier))[0] if earlier else None
    return planned, plan.rebuild_problem(planned, ahead, previous, settings)


def _hours(planned: Plan, live: Iterable[Reservation], now: datetime) -> int:
    """Return how many hours of a plan's calendar matter: its own, and those until the last reservation is over."""
    last = max((held_until(one, now) for one in live), default=now)
    return max(planned.nodes["hour"].n_unique(), -int(-(last - planned.issued_at) // timedelta(hours=1)))
