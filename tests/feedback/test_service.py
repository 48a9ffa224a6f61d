"""Work is served as its class allows, and as the plan assumes."""

from __future__ import annotations

import pytest

from gangplan.feedback.costs import Capacity, Work, serve
from gangplan.types import CLASS_RULES, WorkloadClass


def work(kind: WorkloadClass, gpus: float, hour: int, accelerator: str = "h100") -> Work:
    """Work asked for in an hour."""
    return Work(workload_class=kind, accelerator=accelerator, gpus=gpus, due=hour + CLASS_RULES[kind].defer_hours)


def test_the_rules_are_the_plans() -> None:
    """What feedback holds the plan to is what the plan was made by."""
    policy = pytest.importorskip("gangplan.plan.problem.policy").CLASS_POLICY
    plans = {kind: (rule.defer_hours, rule.spot, rule.shortage_factor) for kind, rule in policy.items()}
    assert {kind: (rule.defer_hours, rule.spot, rule.shortage_factor) for kind, rule in CLASS_RULES.items()} == plans


def test_throughput_waits_for_room() -> None:
    """A peak that later hours can take is served, not short."""
    served = serve(
        [{"h100": Capacity(firm=8)} for _ in range(4)], [[work(WorkloadClass.THROUGHPUT, 20, 0)], [], [], []]
    )
    assert sum(served.unserved.values()) == 0
    assert served.idle == 4 * 8 - 20


def test_overdue_work_is_unserved() -> None:
    """Work that found no room within its hours is short by what is left of it."""
    asked = [[work(WorkloadClass.THROUGHPUT, 20, 0)], *([] for _ in range(19))]
    served = serve([{"h100": Capacity(firm=1)} for _ in range(20)], asked)
    assert served.unserved[WorkloadClass.THROUGHPUT] == 20 - 13
    assert served.idle == 20 - 13


def test_latency_work_goes_first_and_never_on_spot() -> None:
    """Firm nodes serve latency work before batch work, and spot nodes do not serve it at all."""
    asked = [[work(WorkloadClass.COST, 10, 0), work(WorkloadClass.LATENCY, 10, 0)]]
    served = serve([{"h100": Capacity(firm=8, spot=10)}], asked)
    assert served.unserved[WorkloadClass.LATENCY] == 2
    assert served.unserved[WorkloadClass.COST] == 0
    assert served.idle == 0


def test_work_for_any_accelerator_takes_what_is_left() -> None:
    """Work that any pool may serve uses several accelerators, after the work that has no choice."""
    asked = [[work(WorkloadClass.LATENCY, 12, 0, "any"), work(WorkloadClass.LATENCY, 8, 0, "h100")]]
    served = serve([{"h100": Capacity(firm=8), "a100": Capacity(firm=10)}], asked)
    assert served.unserved[WorkloadClass.LATENCY] == 2


def test_an_unknown_hour_makes_nothing_overdue() -> None:
    """Where an accelerator's hour is kept out, its waiting work goes on waiting."""
    rooms: list[dict[str, Capacity]] = [{"h100": Capacity()}, {}, {"h100": Capacity(firm=5)}]
    late = Work(workload_class=WorkloadClass.THROUGHPUT, accelerator="h100", gpus=5, due=1)
    served = serve(rooms, [[late], [], []])
    assert served.unserved[WorkloadClass.THROUGHPUT] == 0
