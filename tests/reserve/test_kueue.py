"""The pure parts of the ledger on Kueue: what a Workload means, what is refused, when a gang will fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gangplan.clock import FOREVER, SECOND, to_us
from gangplan.errors import InputError
from gangplan.kube import ATTEMPT, LEASE, Claim, claim_from
from gangplan.kube.accelerators import short_name
from gangplan.kube.access import manifests, rights
from gangplan.kube.inventory import fleet_of, node_from, usage_of
from gangplan.kube.pods import pod_from
from gangplan.reserve.codec import annotation_of, request_from_text
from gangplan.reserve.kueue.calendar import Calendar, Hold, Outlook, Wish
from gangplan.reserve.kueue.objects import names
from gangplan.reserve.kueue.objects.queues import Flavor, FlavorQuota, Queue, View
from gangplan.reserve.kueue.objects.record import _text, claims_of
from gangplan.reserve.kueue.objects.view import picture, reason_of, state_of
from gangplan.reserve.kueue.objects.workload import Place, refuse, workload_of
from gangplan.reserve.kueue.opening import parse_url
from gangplan.testing import NOW, a_request
from gangplan.types import Level, Limit, PoolKind, ReservationState, Topology, WorkloadClass

HOUR = timedelta(hours=1)
H100 = Flavor(
    name="h100-owned",
    labels={"pool": "h100"},
    tolerations=(),
    accelerators=frozenset({"h100", "h100-owned"}),
    levels=("example.com/rack", names.HOST),
)


def a_queue(name: str = "mine", **changes: Any) -> Queue:
    """Return a ClusterQueue with 8 GPUs of the h100."""
    plain: dict[str, Any] = {"cohort": "", "quotas": {"h100-owned": FlavorQuota(nominal=8)}}
    return Queue(name=name, **{**plain, "preempts_lower": False, "reclaims": False, "stopped": False, **changes})


def a_view(mine: Queue | None = None, *others: Queue) -> View:
    """Return how the queues stand."""
    return View(local="queue", mine=mine or a_queue(), cohort=others, flavors={"h100-owned": H100})


def a_workload(**status: Any) -> dict[str, Any]:
    """Return the Workload of a request as the cluster would have it, with this status."""
    made = workload_of(a_request("a"), Place(namespace="ns", queue="queue"), NOW, flavors=[H100], classes={})
    made["metadata"] |= {"uid": "u1", "resourceVersion": "7", "creationTimestamp": "2026-03-02T09:00:00Z"}
    return {**made, "status": status}


def mark(kind: str, holds: bool = True, reason: str = "", message: str = "") -> dict[str, str]:
    """Return a condition."""
    since = "2026-03-02T09:00:01Z"
    return {
        "type": kind,
        "status": str(holds),
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }


GRANTED = (mark("QuotaReserved"), mark("Admitted"))
BY_TIME = "MaximumExecutionTimeExceeded"


@pytest.mark.parametrize(
    ("marks", "changes", "state"),
    [
        ((), {}, ReservationState.WAITING),
        (GRANTED, {}, ReservationState.GRANTED),
        ((mark("QuotaReserved"),), {}, ReservationState.WAITING),  # an admission check is still to come
        ((*GRANTED, mark("Evicted", reason="Preempted")), {}, ReservationState.PREEMPTED),
        ((*GRANTED, mark("Evicted", reason="ClusterQueueStopped")), {}, ReservationState.WAITING),
        ((*GRANTED, mark("Finished", reason="Released")), {}, ReservationState.RELEASED),
        ((*GRANTED, mark("Finished", reason="Succeeded")), {}, ReservationState.RELEASED),
        ((*GRANTED, mark("Finished", reason="OutOfSync")), {}, ReservationState.CANCELLED),
        ((*GRANTED, mark("Finished", reason="Expired")), {}, ReservationState.EXPIRED),
        (GRANTED, {"deletionTimestamp": "2026-03-02T09:00:02Z"}, ReservationState.CANCELLED),
        (GRANTED, {"active": False}, ReservationState.WAITING),
        ((*GRANTED, mark("DeactivationTarget", reason=BY_TIME)), {"active": False}, ReservationState.EXPIRED),
        ((mark("Evicted", reason=f"DeactivatedDueTo{BY_TIME}"),), {"active": False}, ReservationState.EXPIRED),
    ],
)
def test_only_all_of_the_conditions_are_a_grant(
    marks: tuple[dict[str, str], ...], changes: dict[str, Any], state: ReservationState
) -> None:
    """QuotaReserved and Admitted and not Evicted and not Finished and active and not being deleted."""
    item = a_workload(conditions=list(marks))
    item["spec"] |= {name: value for name, value in changes.items() if name == "active"}
    item["metadata"] |= {name: value for name, value in changes.items() if name != "active"}
    assert state_of(claim_from(item)) is state


def test_a_grant_has_a_lease_from_its_admission_and_a_token_of_its_own() -> None:
    """The lease ends after the duration, or where a renewal of this very grant says so."""
    item = a_workload(conditions=list(GRANTED))
    granted = picture(claim_from(item), to_us(NOW))
    assert granted.granted_at == NOW + timedelta(seconds=1)
    assert granted.expires_at == NOW + HOUR + timedelta(seconds=1)
    assert granted.token is not None
    item["metadata"].setdefault("annotations", {})[LEASE] = f"{granted.token}:{to_us(NOW + timedelta(minutes=5))}"
    assert picture(claim_from(item), to_us(NOW)).expires_at == NOW + timedelta(minutes=5)
    item["metadata"]["annotations"][LEASE] = f"{granted.token - 1}:{to_us(NOW + timedelta(minutes=5))}"
    assert picture(claim_from(item), to_us(NOW)).expires_at == granted.expires_at
    item["metadata"]["uid"] = "u2"
    assert claim_from(item).token != granted.token


def test_a_takeover_gives_a_greater_token_and_a_claim_that_is_still_to_come() -> None:
    """Each adds a second to the grant's own; of a grant that is over it counts no more."""
    request = a_request("a", claim_within=timedelta(minutes=2))
    item = a_workload(conditions=list(GRANTED))
    item["spec"] = workload_of(
        request, Place(namespace="ns", queue="queue"), NOW, flavors=[H100], classes={}, attempt="dag/1"
    )["spec"]
    first = claim_from(item)
    assert (first.attempt, first.takeovers, picture(first, to_us(NOW)).claim_by) == (
        "dag/1",
        0,
        NOW + timedelta(minutes=2, seconds=1),
    )
    taken = to_us(NOW + timedelta(minutes=9))
    item["metadata"]["annotations"] = {
        ATTEMPT: f"{first.grant} 2 {taken} dag/3 of old",
        LEASE: f"{first.token}:{to_us(NOW + HOUR)}",
    }
    third = claim_from(item)
    seen = picture(third, to_us(NOW))
    assert (seen.attempt, seen.claim_by, seen.expires_at) == ("dag/3 of old", *[NOW + timedelta(minutes=11)] * 2)
    assert ((third.token or 0) >> 20) - ((first.token or 0) >> 20) == 2
    item["metadata"]["annotations"][LEASE] = f"{third.token}:{to_us(NOW + HOUR / 2)}"
    claimed = picture(claim_from(item), to_us(NOW))
    assert (claimed.claim_by, claimed.expires_at) == (None, NOW + HOUR / 2)
    item["status"]["conditions"] = [{**one, "lastTransitionTime": "2026-03-02T09:20:00Z"} for one in GRANTED]
    again = claim_from(item)
    assert (again.attempt, again.takeovers, again.token) == ("dag/3 of old", 0, again.grant)


@pytest.mark.parametrize("asked", ["", "0 0 0 dag/1"])
def test_a_record_keeps_whose_a_reservation_was(asked: str) -> None:
    """And is read where it was written before there were attempts."""
    item = a_workload(conditions=list(GRANTED))
    if asked:
        item["metadata"]["annotations"] = {ATTEMPT: asked}
    claim = claim_from(item)
    text = _text(claim)
    assert ("asked" in text) == bool(asked)
    (kept,) = claims_of({"metadata": {"labels": {names.QUEUE: "queue"}}, "data": {claim.name: text}})
    assert (kept.attempt, kept.token) == (claim.attempt, claim.token)


def test_placements_name_nodes_where_the_topology_is_known() -> None:
    """Kueue's compressed assignment: prefixes, roots and counts."""
    individual = {"prefix": "h100-owned-", "roots": ["0", "3"]}
    slices = [{"domainCount": 2, "podCounts": {"universal": 1}, "valuesPerLevel": [{"individual": individual}]}]
    share = {
        "name": "pods-0",
        "count": 2,
        "flavors": {names.GPU: "h100-owned"},
        "resourceUsage": {names.GPU: "8"},
        "topologyAssignment": {"levels": [names.HOST], "slices": slices},
    }
    admission = {"clusterQueue": "mine", "podSetAssignments": [share]}
    seen = picture(claim_from(a_workload(conditions=list(GRANTED), admission=admission)), to_us(NOW))
    assert [(one.pool, one.node, one.pods, one.gpus) for one in seen.placements] == [
        ("h100-owned", "h100-owned-0", 1, 4),
        ("h100-owned", "h100-owned-3", 1, 4),
    ]


def test_a_request_survives_its_annotation() -> None:
    """What is as by default is left out, and comes back."""
    plain = a_request("a")
    assert request_from_text(annotation_of(plain)) == plain
    assert "walltime" not in annotation_of(plain)
    full = a_request(
        "b",
        walltime=2 * HOUR,
        priority=7,
        workload_class=WorkloadClass.LATENCY,
        earliest_start=NOW,
        latest_start=NOW + HOUR,
        deadline=NOW + 9 * HOUR,
        topology=Topology(level=Level.RACK, required=False),
        preemptible=True,
        labels={"team": "x"},
    )
    assert request_from_text(annotation_of(full)) == full


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kueue://ctx/ns", "names no LocalQueue"),
        ("kueue:///ns/queue", "names no LocalQueue"),
        ("kueue://ctx/ns/queue/more", "names no LocalQueue"),
        ("kueue://ctx/ns/queue?patience=3", "unknown part patience"),
        ("kueue://ctx/ns/queue?ahead=soon", "ledger.ahead: 'soon' is not a duration"),
    ],
)
def test_a_url_that_names_no_queue_is_refused(url: str, words: str) -> None:
    """With the form that it must have."""
    with pytest.raises(InputError, match=words):
        parse_url(url)


def test_a_url_names_context_queue_and_manners() -> None:
    """`-` is the current context."""
    context, place = parse_url("kueue://-/vision/gangplan?ahead=10m&settle=0&resource=amd.com/gpu")
    assert (context, place.namespace, place.queue) == ("", "vision", "gangplan")
    assert (place.ahead, place.settle, place.resource) == (timedelta(minutes=10), timedelta(0), "amd.com/gpu")


def test_a_preemptible_gang_is_asked_for_where_a_cohort_reclaims() -> None:
    """The rule that may take the slots is named."""
    view = a_view(a_queue(cohort="lab"), a_queue("theirs", cohort="lab", reclaims=True))
    with pytest.raises(InputError, match="theirs of its cohort reclaims what was lent"):
        refuse(a_request("a"), view)
    assert [flavor.name for flavor in refuse(a_request("a", preemptible=True), view)] == ["h100-owned"]


def test_a_calendar_knows_borrowing_and_lending() -> None:
    """What others use of their own is theirs; what they use of ours is missing."""
    mine = a_queue(cohort="lab", quotas={"h100-owned": FlavorQuota(nominal=8, borrow=4)})
    theirs = a_queue("theirs", cohort="lab", quotas={"h100-owned": FlavorQuota(nominal=8, lend=6)})
    now = to_us(NOW)
    assert a_view(mine, theirs).most("h100-owned") == 12
    for used, free in ((0, 12), (2, 12), (4, 12), (6, 10), (8, 8)):
        holds = [Hold("x", "theirs", "h100-owned", used, 0, FOREVER)]
        assert Calendar(a_view(mine, theirs), holds, now).free("h100-owned", now) == free


def test_a_line_starts_by_priority_and_fills_holes_that_delay_nobody() -> None:
    """Conservative backfill: the small short one runs now, the small long one would delay the big one."""
    now = to_us(NOW)
    hour = 3600 * SECOND
    calendar = Calendar(a_view(), [Hold("run", "mine", "h100-owned", 4, 0, now + hour)], now)

    def wish(name: str, gpus: int, span: int, rank: int) -> Wish:
        return Wish(name, "mine", ("h100-owned",), gpus, span, 0, (0, rank))

    line = [wish("big", 8, hour, 0), wish("short", 4, hour, 1), wish("long", 4, 2 * hour, 2)]
    assert calendar.take(line) == {"big": now + hour, "short": now, "long": now + 2 * hour}
    assert Calendar(a_view(), [], now).take([wish("never", 9, hour, 0)]) == {}


def test_a_reason_of_kueues_names_who_holds_now() -> None:
    """What Kueue says of a Workload is from its last try; who holds is read when somebody asks."""
    said = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu"
    waits = a_workload(conditions=[mark("QuotaReserved", holds=False, reason="Pending", message=said)])
    share = {"name": "p0", "count": 2, "flavors": {names.GPU: "h100-owned"}, "resourceUsage": {names.GPU: "8"}}
    admission = {"clusterQueue": "mine", "podSetAssignments": [share]}

    class Cluster:
        """Has one Workload that holds what the other waits for."""

        def __init__(self, key: str) -> None:
            holder = workload_of(
                a_request(key, tenant="ops"), Place(namespace="ns", queue="queue"), NOW, flavors=[H100], classes={}
            )
            holder["metadata"] |= {"uid": key, "resourceVersion": "7", "creationTimestamp": "2026-03-02T09:00:00Z"}
            self.holder = {**holder, "status": {"conditions": list(GRANTED), "admission": admission}}

        def items(self, path: str) -> list[dict[str, Any]]:
            """Return what a list has."""
            return [waits, self.holder] if "workloads" in path else []

    for key in ("first", "second"):
        cluster: Any = Cluster(key)
        outlook = Outlook(cluster, "ns", lambda: NOW, a_view)
        claim = claim_from(waits)
        reason = outlook.explained(request_from_text(claim.request), reason_of(claim))
        assert reason.message.startswith(f"Kueue: {said}. Held by: ops {key} (8 GPUs until 2026-03-02 10:00:")
        assert reason.holders == (cluster.holder["metadata"]["name"],)


def test_nodes_make_up_a_fleet_and_pods_their_use() -> None:
    """The GPU operator's labels, MIG slices, TPUs; nodes and pods without accelerators are none of ours."""
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "karpenter.sh/capacity-type": "spot"}
    node = {
        "metadata": {"name": "n1", "labels": labels},
        "status": {
            "allocatable": {"cpu": "8", names.GPU: "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    mig = {
        "metadata": {"name": "n2"},
        "status": {"allocatable": {"nvidia.com/mig-1g.10gb": "7"}, "conditions": []},
    }
    found = [one for item in (node, mig, {"metadata": {"name": "n3"}}) if (one := node_from(item)) is not None]
    fleet = fleet_of(found)
    assert [(pool.name, pool.gpus_per_node, pool.slots_per_gpu, pool.kind, pool.slot) for pool in fleet.pools] == [
        ("gpu-7", 1, 7, PoolKind.OWNED, "1g.10gb"),
        ("h100-8", 8, 1, PoolKind.SPOT, "gpu"),
    ]
    assert [fleet.nodes[pool.name] for pool in fleet.pools] == [0, 1]
    pod = {
        "metadata": {"name": "p", "namespace": "vision", "creationTimestamp": "2026-03-02T09:00:00Z"},
        "spec": {"containers": [{"resources": {"limits": {names.GPU: "4"}}}, {}], "nodeName": "n1"},
        "status": {
            "phase": "Succeeded",
            "startTime": "2026-03-02T09:00:01Z",
            "containerStatuses": [{"state": {"terminated": {"finishedAt": "2026-03-02T10:00:01Z"}}}],
        },
    }
    seen = pod_from(pod)
    assert seen is not None
    assert (seen.tenant, dict(seen.asks), seen.ended) == (
        "vision",
        {names.GPU: 4},
        datetime(2026, 3, 2, 10, 0, 1, tzinfo=UTC),
    )
    (use,) = usage_of([seen])
    assert (use.running, use.waiting, use.ended, use.hours) == (0, 0, 1, 4.0)
    assert pod_from({**pod, "spec": {"containers": [{}]}}) is None
    assert [short_name(name) for name in ("nvidia-tesla-t4", "NVIDIA-A100-SXM4-80GB", "tpu-v5-lite")] == [
        "t4",
        "a100",
        "tpu-v5e",
    ]


def test_manifests_move_to_another_namespace() -> None:
    """Every account and binding names it, and nothing may write outside it."""
    made = manifests("vision")
    assert {one["metadata"].get("namespace") for one in made} == {None, "vision", "kueue-system"}
    subjects = [subject for one in made for subject in one.get("subjects", ())]
    assert {subject["namespace"] for subject in subjects} == {"vision"}
    writes = {(space, verb) for space, _, _, verb in rights("vision") if verb not in ("get", "list", "watch")}
    assert {space for space, _ in writes} == {"vision"}


def test_reasons_are_in_kueues_words_with_our_limit() -> None:
    """None is final."""
    said = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu"
    waits = mark("QuotaReserved", holds=False, reason="Pending", message=said)
    seen = picture(claim_from(a_workload(conditions=[waits])), to_us(NOW))
    assert seen.reason is not None
    assert (seen.reason.limit, seen.reason.message) == (Limit.CAPACITY, f"Kueue: {said}")


def test_a_claim_is_small() -> None:
    """Slots, no dict: a mirror holds many."""
    assert not hasattr(claim_from(a_workload()), "__dict__")
    assert isinstance(claim_from(a_workload()), Claim)
