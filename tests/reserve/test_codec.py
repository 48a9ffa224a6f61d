"""Requests, policies and what few reservations have survive their texts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gangplan.errors import InputError
from gangplan.reserve import codec
from gangplan.reserve.commands import (
    Cancel,
    Command,
    MarkNode,
    Publish,
    Release,
    Renew,
    Resize,
    SetPolicy,
    Submit,
    Tick,
    batch,
    command_from,
    command_text,
)
from gangplan.reserve.policy.rules import Policy, Quota, TenantPolicy
from gangplan.testing import NOW, a_calendar, a_request
from gangplan.types import (
    GangRequest,
    Level,
    NodeState,
    PodSet,
    ReservationId,
    Token,
    Topology,
    WorkloadClass,
    request_fields,
    request_from,
)

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
    {"claim_within": HOUR},
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


COMMANDS: list[Command] = [
    Submit(a_request()),
    Renew(ReservationId("r-1"), Token(3)),
    Renew(ReservationId("r-1"), Token(3), HOUR),
    Release(ReservationId("r-1"), Token(3)),
    Cancel(ReservationId("r-1")),
    Resize(ReservationId("r-1"), Token(3), (2, 1)),
    Tick(),
    Publish(a_calendar(), keep=True),
    SetPolicy(Policy(), "ada", "to try"),
    MarkNode("h100-owned-0", NodeState.LOST, "ECC errors"),
    Submit(a_request(), "airflow/train/monday/reserve/-1/2"),
    Cancel(ReservationId("r-1"), "airflow/train/monday/reserve/-1/2"),
]


def test_every_command_reads_back_as_it_was() -> None:
    """What a leader reads from its queue is what the client made."""
    assert [command_from(command_text(command)) for command in COMMANDS] == COMMANDS
    assert {type(command) for command in COMMANDS} == set(batch.COMMANDS.values())


def test_texts_are_as_they_always_were() -> None:
    """Rows, annotations and queued commands that there are already must be read."""
    assert codec.request_text(a_request(walltime=2 * HOUR, earliest_start=NOW, speed={"h100": 2.0})) == (
        '{"request_key": "job", "tenant": "vision", "pod_sets": [[2, 4, null, null]], "accelerators": ["h100"], '
        '"duration": 3600000000, "walltime": 7200000000, "speed": {"h100": 2.0}, "slot": "gpu", "priority": 100, '
        '"priority_class": "", "workload_class": "throughput", "earliest_start": 1772442000000000, '
        '"latest_start": null, "deadline": null, "topology": null, "preemptible": false, "checkpoint": null, '
        '"labels": {}}'
    )
    assert codec.annotation_of(a_request(priority=7)) == (
        '{"request_key":"job","tenant":"vision","pod_sets":[[2,4,null,null]],"accelerators":["h100"],'
        '"duration":3600000000,"priority":7}'
    )
    assert [command_text(command) for command in COMMANDS[1:7]] == [
        '["renew", "r-1", {"token": 3, "ttl": null}]',
        '["renew", "r-1", {"token": 3, "ttl": 3600000000}]',
        '["release", "r-1", {"token": 3}]',
        '["cancel", "r-1", {}]',
        '["resize", "r-1", {"token": 3, "pods": [2, 1]}]',
        '["tick", null, {}]',
    ]


def test_a_request_is_read_from_text_as_people_write_it() -> None:
    """Templates and command lines give text for every field."""
    given = {"request_key": "job", "tenant": "vision", "pod_sets": [{"count": "2", "gpus_per_pod": "4"}]}
    given |= {"accelerators": ["h100"], "duration": "1h", "walltime": 7200, "priority": "7", "preemptible": "yes"}
    given |= {"speed": "h100=2", "topology": "rack:preferred", "earliest_start": NOW.isoformat(), "checkpoint": None}
    assert request_from(given) == a_request(
        walltime=2 * HOUR,
        priority=7,
        preemptible=True,
        speed={"h100": 2.0},
        topology=Topology(level=Level.RACK, required=False),
        earliest_start=NOW,
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"colour": "red"}, "request: 'colour' is no field of a request"),
        ({"tenant": None}, "tenant: None is missing"),
        ({"pod_sets": [{"pods": 1}]}, "pod_sets: 'pods' is no field of a pod set"),
        ({"pod_sets": [(0, 1, None, None)]}, "--pods: 0 must be a whole number"),
        ({"duration": "soon"}, "duration: 'soon' is not a duration"),
        ({"deadline": 1e300}, "deadline: 1e.300 is not a duration"),
        ({"speed": {"h100": "fast"}}, "h100.: 'fast' must be a number"),
        ({"workload_class": "fast"}, "workload_class: 'fast' is unknown"),
    ],
)
def test_a_wrong_field_is_refused_by_the_callers_name(given: dict[str, Any], words: str) -> None:
    """Field, value and remedy."""
    with pytest.raises(InputError, match=words):
        request_from(request_fields(a_request()) | {"duration": HOUR} | given, called={"pod_sets.count": "--pods"})
