"""Requests, policies and what few reservations have survive their texts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gangplan.reserve import codec
from gangplan.reserve.policy.rules import Policy, Quota, TenantPolicy
from gangplan.testing import NOW, a_request
from gangplan.types import GangRequest, Level, PodSet, Topology, WorkloadClass

HOUR = timedelta(hours=1)
OTHERS: list[dict[str, Any]] = [
    {"request_key": "other"},
    {"tenant": "search"},
    {"pod_sets": (PodSet(count=4, gpus_per_pod=2),)},
    {"pod_sets": (PodSet(count=2, gpus_per_pod=4, min_count=1),)},
    {"pod_sets": (PodSet(count=2, gpus_per_pod=4, max_count=3),)},
    {"accelerators": ("a100",)},
    {"duration": HOUR / 2},
    {"walltime": 2 * HOUR},
    {"speed": {"h100": 2.0}},
    {"slot": "1g.10gb"},
    {"priority": 5},
    {"priority_class": "high"},
    {"workload_class": WorkloadClass.LATENCY},
    {"earliest_start": NOW + HOUR},
    {"latest_start": NOW + HOUR},
    {"deadline": NOW + 9 * HOUR},
    {"topology": Topology(level=Level.RACK)},
    {"topology": Topology(level=Level.RACK, required=False)},
    {"preemptible": True},
    {"checkpoint": HOUR},
    {"labels": {"a": "b"}},
]


def test_a_request_reads_back_as_it_was_and_every_field_is_in_its_text() -> None:
    """The same body has the same text, every changed field another, and each text gives its request back."""
    requests = [a_request(), *(a_request(**other) for other in OTHERS)]
    assert len({codec.request_text(request) for request in requests}) == len(OTHERS) + 1
    assert [codec.request_from_text(codec.request_text(request)) for request in requests] == requests
    assert {name for other in OTHERS for name in other} == set(GangRequest.__dataclass_fields__)


def test_a_policy_reads_back_as_it_was() -> None:
    """Quotas, weights and times survive."""
    policy = Policy(
        tenants={"vision": TenantPolicy(weight=2.0, cohort="lab", quotas={"h100": Quota(nominal=8, borrow=4, lend=0)})},
        ageing=None,
        drain=HOUR,
    )
    assert codec.policy_from(codec.policy_text(policy)) == policy
    assert codec.policy_from(codec.policy_text(Policy())) == Policy()
