"""What reservations stand on: known to the plan hour by hour, never taken away, conflicts named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gangplan import plan
from gangplan.config import Settings
from gangplan.errors import ApprovalError, NotFoundError
from gangplan.reserve import Ledger
from gangplan.reserve.policy.rules import Policy, Quota, TenantPolicy
from gangplan.testing import NOW, FakeClock, a_calendar, a_forecast, a_pool, a_request, memory_ledger
from gangplan.tracking import Store
from gangplan.types import CapacityCalendar, Fleet, Plan, PodSet, ReservationState
from gangplan.workflows.plans import Planning, approve, with_quotas
from gangplan.workflows.reserved_nodes import conflicts, reserved_nodes

HOUR = timedelta(hours=1)
POOL = a_pool(max_nodes=4)
FLEET = Fleet(pools=(POOL,), nodes={POOL.name: 4})


def test_grants_and_promises_are_held_hour_by_hour() -> None:
    """A grant needs the nodes up to its highest through its walltime, a promised window its slots in its hours."""
    ledger = memory_ledger(calendar=a_calendar([POOL], hours=[4] * 24))
    granted = ledger.submit(a_request("now", duration=2 * HOUR))
    later = a_request("later", pod_sets=(PodSet(count=3, gpus_per_pod=4),), earliest_start=NOW + 5 * HOUR)
    assert granted.state is ReservationState.GRANTED
    assert ledger.submit(later).promised
    held = reserved_nodes(ledger, FLEET, NOW, 8, NOW)
    top = max(int(place.node.rpartition("-")[2]) for place in granted.placements) + 1
    assert held == {POOL.name: [top, top, 0, 0, 0, 3, 0, 0]}
    assert reserved_nodes(ledger, FLEET, NOW + HOUR, 3, NOW) == {POOL.name: [top, 0, 0]}
    assert reserved_nodes(ledger, FLEET, NOW - 48 * HOUR, 3, NOW) == {POOL.name: [0, 0, 0]}


def planned(tmp_path: Path, store: Store) -> Plan:
    """A plan for no demand, which would stop every node."""
    ahead = a_forecast({("vision", "throughput", "h100"): [0.0] * 24}, NOW)
    made = plan.solve(ahead, FLEET, settings=Settings(home=tmp_path, horizon_hours=24, scenarios=1))
    return plan.log_plan(made, ahead, store)


def test_publishing_never_strands_a_gang_and_names_whom(tmp_path: Path, mlflow_store: Store) -> None:
    """A plan of no nodes is published over a grant and a window: both stay, and both are named."""
    clock = FakeClock()
    ledger = memory_ledger(clock, a_calendar([POOL], hours=[4] * 24))
    granted = ledger.submit(a_request("now", duration=2 * HOUR))
    window = ledger.submit(a_request("later", earliest_start=NOW + 5 * HOUR))
    none = planned(tmp_path, mlflow_store)
    assert none.nodes["nodes"].sum() == 0
    where = Planning(store=mlflow_store, ledger=ledger, settings=Settings(home=tmp_path), clock=clock)
    done = where.publish(none)
    assert [(one.pool, one.start, one.end, one.planned, one.holders) for one in done.conflicts] == [
        (POOL.name, NOW, NOW + 2 * HOUR, 0, ("now",)),
        (POOL.name, NOW + 5 * HOUR, NOW + 6 * HOUR, 0, ()),
    ]
    assert ledger.get(granted.id).state is ReservationState.GRANTED
    assert ledger.get(granted.id).notice is None
    again = ledger.get(window.id)
    assert (again.promised, again.eta) == (True, NOW + 5 * HOUR)


def test_a_plan_is_made_around_what_is_held(tmp_path: Path, mlflow_store: Store) -> None:
    """Planned with the ledger at hand, nodes that are held run although nothing is asked for: no conflict is left."""
    clock = FakeClock()
    ledger = memory_ledger(clock, a_calendar([POOL], hours=[4] * 24))
    granted = ledger.submit(a_request("now", duration=3 * HOUR))
    ahead = a_forecast({("vision", "throughput", "h100"): [0.0] * 24}, NOW)
    settings = Settings(home=tmp_path, horizon_hours=24, scenarios=1)
    where = Planning(store=mlflow_store, ledger=ledger, settings=settings, clock=clock)
    made = where.make(ahead, FLEET)
    assert made.nodes.sort("hour")["nodes"].to_list()[:4] == [2, 2, 2, 0]
    assert conflicts(made, reserved_nodes(ledger, FLEET, NOW, 24, NOW), ledger.list(), NOW) == ()
    assert ledger.get(granted.id).state is ReservationState.GRANTED
    assert plan.read_published(mlflow_store).plan_id == made.plan_id


def test_a_held_plan_is_published_only_when_told(tmp_path: Path, mlflow_store: Store) -> None:
    """A plan that is held changes no calendar and is not the one that is applied; approval is kept with it."""
    clock = FakeClock()
    ledger = memory_ledger(clock, a_calendar([POOL], hours=[4] * 24))
    ahead = a_forecast({("vision", "throughput", "h100"): [1.0] * 24}, NOW)
    settings = Settings(home=tmp_path, horizon_hours=24, scenarios=1)
    where = Planning(store=mlflow_store, ledger=ledger, settings=settings, clock=clock)
    made = where.make(ahead, FLEET, hold=True)
    assert {one.planned_gpus for one in ledger.calendar(NOW, NOW + HOUR)} == {16}
    approve(made, mlflow_store, by="ada", why="fine", clock=clock)
    (row,) = plan.list_plans(mlflow_store)
    assert (row["approved"], row["published"]) == ("yes", "")
    with pytest.raises(NotFoundError, match="plan publish"):
        plan.read_published(mlflow_store)


def test_the_ledgers_quotas_are_the_plans() -> None:
    """Nominal, borrowing and cohort go over, `*` for each accelerator without its own, none over what the fleet has."""
    rules = Policy(
        tenants={
            "vision": TenantPolicy(cohort="team", quotas={"h100": Quota(nominal=3, borrow=2)}),
            "speech": TenantPolicy(cohort="team", quotas={"*": Quota(nominal=99)}),
            "guest": TenantPolicy(),
        }
    )
    quotas = with_quotas(plan.PlanPolicy(), rules, FLEET).quotas
    assert set(quotas) == {"vision", "speech"}
    assert (quotas["vision"].shares["h100"].nominal, quotas["vision"].shares["h100"].borrow) == (3, 2)
    assert (quotas["speech"].shares["h100"].nominal, quotas["speech"].cohort) == (16, "team")


def test_a_grant_between_reading_and_publishing_is_seen(tmp_path: Path, mlflow_store: Store) -> None:
    """A gang that is granted after the ledger was asked what is held keeps its nodes: the calendar is drawn anew."""

    class Racing:
        """A ledger to which another process submits just before the first calendar arrives."""

        def __init__(self, inner: Ledger) -> None:
            self.inner, self.calls = inner, 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def publish(self, calendar: CapacityCalendar, *, keep: bool = False) -> None:
            self.calls += 1
            if self.calls == 1:
                self.inner.submit(a_request("late", duration=2 * HOUR))
            self.inner.publish(calendar, keep=keep)

    clock = FakeClock()
    ledger = Racing(memory_ledger(clock, a_calendar([POOL], hours=[4] * 24)))
    where = Planning(store=mlflow_store, ledger=ledger, settings=Settings(home=tmp_path), clock=clock)
    done = where.publish(planned(tmp_path, mlflow_store))
    assert ledger.calls == 2
    assert [one.holders for one in done.conflicts] == [("late",)]
    late = ledger.find("late")
    assert (late.state, late.notice) == (ReservationState.GRANTED, None)
    assert [one.planned_gpus for one in ledger.calendar(NOW, NOW + 3 * HOUR)] == [8, 0]


def test_a_window_after_the_plans_hours_is_kept(tmp_path: Path, mlflow_store: Store) -> None:
    """A window two days ahead survives a plan of one day, whose last count is none; after it there are none."""
    clock = FakeClock()
    ledger = memory_ledger(clock, a_calendar([POOL], hours=[4] * 60))
    window = ledger.submit(a_request("later", earliest_start=NOW + 48 * HOUR, duration=2 * HOUR))
    where = Planning(store=mlflow_store, ledger=ledger, settings=Settings(home=tmp_path), clock=clock)
    where.publish(planned(tmp_path, mlflow_store))
    kept = ledger.get(window.id)
    assert (kept.promised, kept.eta) == (True, NOW + 48 * HOUR)
    after = ledger.calendar(NOW + 50 * HOUR, NOW + 60 * HOUR)
    assert {one.planned_gpus for one in after} == {0}


def test_where_a_person_decides_a_plan_waits_for_approval(tmp_path: Path, mlflow_store: Store) -> None:
    """With `publication: person` a new plan is kept, not published; publishing is refused until somebody approves."""
    clock = FakeClock()
    ledger = memory_ledger(clock, a_calendar([POOL], hours=[4] * 24))
    ahead = a_forecast({("vision", "throughput", "h100"): [1.0] * 24}, NOW)
    settings = Settings(home=tmp_path, horizon_hours=24, scenarios=1, publication="person")
    where = Planning(store=mlflow_store, ledger=ledger, settings=settings, clock=clock)
    made = where.make(ahead, FLEET)
    with pytest.raises(ApprovalError, match=rf"{made.plan_id} is not approved.*gangplan plan approve"):
        where.publish(made)
    assert {one.planned_gpus for one in ledger.calendar(NOW, NOW + HOUR)} == {16}
    approve(made, mlflow_store, by="ada", why="fine", clock=clock)
    where.publish(made)
    assert plan.read_published(mlflow_store).plan_id == made.plan_id
