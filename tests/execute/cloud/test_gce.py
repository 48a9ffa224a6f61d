"""Managed instance groups: calls that Google's own description allows, machines that leave by name alone."""

from __future__ import annotations

import pytest
from tests.execute.cloud.conftest import MakeGce, fleet
from tests.execute.cloud.gce_server import EXHAUSTED, LACK

from gangplan.errors import CapacityError, ConflictError, ForbiddenError, InputError, RejectedError, UnavailableError
from gangplan.execute.cloud import gce_calls
from gangplan.execute.cloud.gce import open_gce
from gangplan.execute.cloud.settings import GceGroup
from gangplan.testing import NOW
from gangplan.types import PoolNode, StepKind

ORDER, REMOVE, CORDON = StepKind.ORDER, StepKind.REMOVE, StepKind.CORDON


def test_an_order_is_placed_once_and_comes(make_gce: MakeGce) -> None:
    """A machine that is created counts as ordered; it is usable when it runs."""
    gce = make_gce(1)
    gce.world.boot = 3
    gce.step(ORDER, 3, before=1)
    gce.step(ORDER, 3, before=1)
    assert gce.world.writes() == ["instanceGroupManagers.resize"]
    assert [node.usable for node in gce.seen().nodes] == [True, False, False]
    assert [node.usable for node in gce.seen().nodes] == [True, True, True]
    with pytest.raises(ConflictError, match="instance group gpus was told 3 machines, not 1"):
        gce.step(ORDER, 5, before=1)
    with pytest.raises(RejectedError, match="9 nodes are more than the 8 that the fleet's pool"):
        gce.step(ORDER, 9)


def test_a_lack_of_capacity_is_said_in_googles_words(make_gce: MakeGce) -> None:
    """The order stands, says why it waits, and is filled once."""
    gce = make_gce(1)
    gce.world.stock = 1
    gce.step(ORDER, 3)
    seen = gce.seen()
    assert (seen.ordered, sum(node.usable for node in seen.nodes)) == (3, 2)
    assert seen.trouble == f"{LACK} ({EXHAUSTED})"
    gce.world.stock = 1
    gce.seen()
    seen = gce.seen()
    assert (seen.trouble, sum(node.usable for node in seen.nodes), gce.world.launched) == ("", 3, 2)


def test_just_the_named_machines_are_deleted(make_gce: MakeGce) -> None:
    """`resize` downward would choose by itself, so it is never used; a second time, nothing happens."""
    gce = make_gce(4)
    first, second, third, fourth = gce.names()
    gce.step(CORDON, 4, first, third)
    with pytest.raises(ConflictError, match=f"{second}: no longer cordoned"):
        gce.step(REMOVE, 2, second)
    gce.step(REMOVE, 2, first, third, before=4)
    gce.step(REMOVE, 2, first, third, before=4)
    assert gce.world.writes().count("instanceGroupManagers.deleteInstances") == 1
    assert "instanceGroupManagers.resize" not in gce.world.writes()
    gce.seen()
    assert (gce.names(), gce.seen().ordered) == ([second, fourth], 2)


def test_a_cordon_is_a_label_beside_others(make_gce: MakeGce) -> None:
    """Labels of others stay; an edit in between is refused and not overwritten."""
    gce = make_gce(2)
    name, _ = gce.names()
    gce.world.machines[name]["labels"] = {"team": "search"}
    gce.step(CORDON, 2, name)
    assert [node.cordoned_at for node in gce.seen().nodes] == [NOW, None]
    gce.step(StepKind.UNCORDON, 2, name)
    assert gce.world.machines[name]["labels"] == {"team": "search"}
    assert gce.seen().nodes[0].cordoned_at is None


def test_a_flex_start_group_grows_by_requests(make_gce: MakeGce) -> None:
    """All machines of a request come together; until then it counts as ordered, and a second order files no other."""
    gce = make_gce(1, flex=24)
    gce.world.stock = 1
    gce.step(ORDER, 4, before=1)
    gce.step(ORDER, 4, before=1)
    assert (gce.seen().ordered, len(gce.names())) == (4, 1)
    (request,) = gce.world.requests["gpus"].values()
    assert request["name"] == "gangplan-1-to-4-1"
    assert (request["resizeBy"], request["requestedRunDuration"]["seconds"]) == (3, str(24 * 3600))
    gce.world.stock = 3
    gce.seen()
    assert (gce.seen().ordered, len(gce.names()), gce.world.launched) == (4, 4, 3)


def test_of_two_writers_that_saw_the_same_group_only_one_buys(make_gce: MakeGce) -> None:
    """The second files the same request id, or, when Google has forgotten that, the same name: it is refused."""
    gce = make_gce(1, flex=24)
    gce.world.stock = 0
    gce.step(ORDER, 3)
    filed = gce.world.requests["gpus"]
    gce.world.lags = True
    gce.step(ORDER, 3, before=1)
    gce.world.answered.clear()
    with pytest.raises(ConflictError, match="already exists"):
        gce.step(ORDER, 3, before=1)
    gce.world.lags = False
    assert (gce.seen().ordered, list(filed)) == (3, ["gangplan-1-to-3-1"])


def test_a_request_that_waits_is_cancelled_whole(make_gce: MakeGce) -> None:
    """What is wanted of it still is asked for anew, under another name."""
    gce = make_gce(1, flex=24)
    gce.world.stock = 0
    gce.step(ORDER, 4)
    gce.step(ORDER, 6)
    gce.step(REMOVE, 5)
    assert (gce.seen().ordered, [each["state"] for each in gce.world.requests["gpus"].values()]) == (
        4,
        ["ACCEPTED", "CANCELLED"],
    )
    gce.step(ORDER, 6)
    assert sorted(gce.world.requests["gpus"]) == ["gangplan-1-to-4-1", "gangplan-4-to-6-1", "gangplan-4-to-6-2"]


def test_the_cluster_says_which_machines_can_be_used(make_gce: MakeGce) -> None:
    """Nodes of a cluster leave by their machines' names."""
    nodes: dict[str, PoolNode] = {}
    gce = make_gce(2, joined=lambda pool: nodes)
    first, second = gce.names()
    nodes[first] = PoolNode(name="node-1", cordoned_at=NOW)
    assert [(node.name, node.usable) for node in gce.seen().nodes] == [("node-1", True), (second, False)]
    gce.step(REMOVE, 1, "node-1")
    gce.seen()
    assert gce.names() == [second]


def test_who_else_changes_the_group_is_named(make_gce: MakeGce) -> None:
    """An autoscaler, and updates that replace machines."""
    status = {"isStable": True, "autoscaler": "https://compute/zones/z/autoscalers/a"}
    said = make_gce(1, status=status, updatePolicy={"type": "PROACTIVE"}).target.check()
    assert ["stop-autoscaling gpus" in words for words in said] == [True, False]
    assert "replaces machines when its template changes" in said[1]
    assert make_gce(1).target.check() == ()


@pytest.mark.parametrize("kind", [ORDER, REMOVE, CORDON])
def test_a_dry_run_writes_nothing(make_gce: MakeGce, kind: StepKind) -> None:
    """The step is held against the group, and that is all."""
    gce = make_gce(2)
    name, _ = gce.names()
    if kind == REMOVE:
        gce.step(CORDON, 2, name)
        gce.world.calls.clear()
    gce.step(kind, {ORDER: 3, REMOVE: 1}.get(kind, 2), name, dry_run=True)
    assert gce.world.writes() == []


def test_an_operation_that_failed_is_an_error_in_googles_words(make_gce: MakeGce) -> None:
    """Wherever a lack of capacity shows, it is one; a right that lacks is named."""
    gce = make_gce(1)
    gce.world.failing = EXHAUSTED
    with pytest.raises(CapacityError, match=r"does not have enough resources .*_WITH_DETAILS"):
        gce.step(ORDER, 2)
    gce.world.failing = "QUOTA_EXCEEDED"
    with pytest.raises(RejectedError, match="QUOTA_EXCEEDED"):
        gce.step(ORDER, 2)
    gce.world.failing = ""
    gce.world.denied = {"instanceGroupManagers.resize"}
    with pytest.raises(ForbiddenError, match=r"Required 'compute.instanceGroupManagers.resize' permission"):
        gce.step(ORDER, 2)
    assert gce.seen().ordered == 1


def place(**given: str) -> GceGroup:
    """A group in our zone."""
    where = {"project": "lab", "zone": "us-central1-a", "group": "gpus", **given}
    return GceGroup(kind="gce", **where)  # pyright: ignore[reportArgumentType]


def test_a_group_that_there_is_not_is_named(make_gce: MakeGce) -> None:
    """The error names field, value and remedy."""
    gce = make_gce(1)
    wrong = {"h100": place(group="gpu", endpoint=gce.world.address)}
    target = open_gce(wrong, fleet(), clock=lambda: NOW)
    with pytest.raises(
        InputError, match=r"pools.h100.nodes.group: 'gpu' is no managed instance group in us-central1-a"
    ):
        target.observe()


def test_a_google_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call may be made again."""
    monkeypatch.setattr(gce_calls, "_RETRY_S", 0.3)
    target = open_gce({"h100": place(endpoint="http://127.0.0.1:9")}, fleet(), clock=lambda: NOW)
    with pytest.raises(UnavailableError, match="Compute Engine cannot be reached"):
        target.observe()


def test_a_flex_start_longer_than_a_week_is_refused() -> None:
    """Google allows seven days."""
    with pytest.raises(InputError, match="longer than the seven days"):
        GceGroup(kind="gce", project="lab", zone="a", group="g", flex_start_hours=200)
