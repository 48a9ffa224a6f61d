"""What the command says of a gang beside granting it: what-if, resize, lost nodes, notices, the calendar, ETAs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from inspect import signature
from pathlib import Path

import pytest
from tests.command import Call, caller, widen

from gangplan.cli.reserve import _options
from gangplan.config import load_settings, present
from gangplan.reserve import Ledger, open_ledger
from gangplan.reserve.policy.rules import Policy, Preemption
from gangplan.testing import NOW, a_request
from gangplan.types import GangRequest, PodSet

TWO = ("--tenant", "vision", "--pods", "2", "--gpus", "4", "--accelerator", "h100-lab", "--duration", "1h")
ONE = (*TWO[:3], "1", *TWO[4:])


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command as a shell would, in this process, with a fleet of 2 x 4 GPUs."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path / "home"))
    widen(monkeypatch, 200)

    run = caller(monkeypatch, capsys)
    assert run("init").code == 0
    return run


def opened() -> Ledger:
    """Open the ledger of the commands."""
    return open_ledger(load_settings().ledger_url)


def test_what_if_tells_the_start_and_writes_nothing(call: Call) -> None:
    """A free fleet: at once. A held one: when its holder's lease ends, and why. Neither is in the ledger."""
    free = call("what-if", *TWO, "--json").json
    assert (free["at_once"], free["reason"]) == (True, None)
    assert datetime.fromisoformat(free["eta"]) == NOW
    held = call("reserve", *TWO, "--key", "first", "--json").json
    later = call("what-if", *TWO, "--json").json
    assert (later["eta"], later["at_once"]) == (held["expires_at"], False)
    assert later["reason"]["limit"] == "capacity"
    said = call("what-if", *TWO).out
    assert held["expires_at"] in said
    assert "vision first" in said
    assert call("what-if", *ONE, "--earliest", held["expires_at"], "--json").json["reason"]["limit"] == "window"
    assert [row["key"] for row in call("status", "--json").json] == ["first"]


def test_a_gang_is_resized_by_its_key(call: Call) -> None:
    """More pods, fewer pods; what does not fit is an expected no, what the request does not allow is bad input."""
    call("reserve", *ONE, "--key", "elastic", "--max-pods", "3")
    assert call("resize", "--key", "elastic", "--pods", "2", "--json").json["gpus"] == 4  # as asked for
    placed = call("status", "--json").json[0]["placements"]
    assert sorted((place["node"], place["pods"]) for place in placed) == [("h100-lab-0", 1), ("h100-lab-1", 1)]
    full = call("resize", "--key", "elastic", "--pods", "3")
    assert (full.code, full.err.count("\n")) == (3, 1)
    assert "do not fit" in full.err
    wrong = call("resize", "--key", "elastic", "--pods", "4")
    assert (wrong.code, "pods[0]" in wrong.err) == (2, True)
    stale = call("resize", "--key", "elastic", "--pods", "1", "--token", "99")
    assert stale.code == 3
    assert len(call("resize", "--key", "elastic", "--pods", "1", "--json").json["placements"]) == 1
    call("release", "--key", "elastic")
    assert call("resize", "--key", "elastic", "--pods", "1").code == 3


def test_what_waits_cannot_be_resized(call: Call) -> None:
    """Only a running gang has pods to give or to get."""
    call("reserve", *TWO, "--key", "first")
    call("reserve", *TWO, "--key", "second")
    said = call("resize", "--key", "second", "--pods", "1")
    assert said.code == 3
    assert "holds no slots (waiting)" in said.err


def test_speed_slot_and_deadline_reach_the_ledger(call: Call) -> None:
    """Twice as fast takes half the time; a slot that no pool has, and a deadline that is over, are refused."""
    granted = call("reserve", *ONE, "--speed", "h100-lab=2", "--slot", "gpu", "--json").json
    lasts = datetime.fromisoformat(granted["expires_at"]) - datetime.fromisoformat(granted["granted_at"])
    assert lasts == timedelta(minutes=30)
    assert "use one of gpu" in call("reserve", *ONE, "--slot", "1/4").err
    assert "deadline" in call("reserve", *ONE, "--deadline", "2020-01-01T00:00:00Z").err


@pytest.mark.present("the command waits until the last start that would do is over")
def test_an_expired_request_is_not_a_grant(call: Call) -> None:
    """Who waited for slots that came too late gets exit code 3, so that no work starts after it.

    On a slow machine the last start is past before it is asked for, which is refused: it is then set later.
    """
    call("reserve", *TWO, "--key", "first")
    code, ahead = 2, 0.5
    while code == 2:
        latest = (present() + timedelta(seconds=ahead)).isoformat()
        said = call("reserve", *TWO, "--key", "late", "--latest", latest, "--wait", "60s", "--json")
        code, ahead = said.code, 2 * ahead
    assert (said.code, said.json["state"]) == (3, "expired")


def test_a_lost_node_is_told_with_its_gangs(call: Call) -> None:
    """A drained node gives notice, a ready one takes it back, a lost one moves its gang or lets it wait."""
    call("reserve", *ONE, "--key", "first")
    drained = call("node", "drain", "h100-lab-0", "--why", "driver update", "--json").json
    assert [(gang["key"], gang["notice"]["why"]) for gang in drained["gangs"]] == [
        ("first", "node h100-lab-0 is draining")
    ]
    listed = call("node", "list", "--json").json["h100-lab-0"]
    assert listed == {"state": "draining", "begin": None, "back": None, "why": "driver update"}
    assert "granted, must leave" in call("status").out
    assert call("node", "ready", "h100-lab-0", "--json").json["gangs"][0]["notice"] is None
    assert "all nodes are ready" in call("node", "list").out
    moved = call("node", "lost", "h100-lab-0", "--json").json["gangs"][0]
    assert (moved["state"], moved["placements"][0]["node"], moved["interruptions"]) == ("granted", "h100-lab-1", 1)
    out = call("node", "lost", "h100-lab-1").out
    assert "interrupted" in out
    waits = call("explain", "--key", "first")
    assert "lost its nodes" in waits.out
    assert "2 x" in waits.out


def test_a_drain_is_planned_and_a_lost_node_expected_back(call: Call) -> None:
    """By a time or by how long from now; the list says from when until when, and a wrong time is named."""
    call("reserve", *ONE, "--key", "first")
    planned = call("node", "drain", "h100-lab-0", "--at", "30m", "--back", "2026-03-02T12:00:00Z", "--json").json
    assert [(gang["key"], gang["notice"]) for gang in planned["gangs"]] == [("first", None)]
    call("node", "lost", "h100-lab-1", "--back", "15m")
    assert call("node", "list", "--json").json == {
        "h100-lab-0": {
            "state": "draining",
            "begin": "2026-03-02T09:30:00+00:00",
            "back": "2026-03-02T12:00:00+00:00",
            "why": "",
        },
        "h100-lab-1": {"state": "lost", "begin": None, "back": "2026-03-02T09:15:00+00:00", "why": ""},
    }
    assert "2026-03-02T12:00:00" in call("node", "list").out
    call("--now", "2026-03-02T09:10:00Z", "node", "lost", "h100-lab-1", "--back", "15m")
    assert call("node", "list", "--json").json["h100-lab-1"]["back"] == "2026-03-02T09:25:00+00:00"
    wrong = call("node", "drain", "h100-lab-0", "--at", "tomorrow")
    assert (wrong.code, "--at" in wrong.err, wrong.err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize("node", ["h100-lab-2", "h100", "b200-0"])
def test_a_node_that_is_not_there_is_refused(call: Call, node: str) -> None:
    """The name and what there is are said on one line, and no node is marked."""
    said = call("node", "lost", node)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert node in said.err
    assert call("node", "list", "--json").json == {}


def test_a_notice_is_shown(call: Call) -> None:
    """A gang that must leave says by when, why and for whom."""
    with opened() as ledger:
        rules = Preemption(grace=timedelta(0))
        ledger.set_policy(Policy(preemption=rules), by="ada", why="urgent work goes first")
    call("reserve", *TWO, "--key", "sweep", "--preemptible", "--priority-class", "low")
    urgent = call("reserve", *TWO, "--key", "fix", "--priority-class", "high", "--json").json
    told = call("status", "--json").json[0]["notice"]
    assert (told["until"], told["beneficiary"]) == (urgent["eta"], "fix")
    assert f"must leave by {told['until']}" in " ".join(call("status").out.split())


def test_the_calendar_has_bars(call: Call) -> None:
    """Half of the GPUs held is half of a bar full, then all of it hollow."""
    call("reserve", *ONE)
    said = call("calendar").out
    rows = [line for line in said.splitlines() if line.startswith("│ h100-lab")]
    assert [(row.count("\u2588"), row.count("\u2591")) for row in rows] == [(12, 12), (0, 24)]


def test_eta_errors_are_shown_once_somebody_waited(
    call: Call, now: datetime, move_clock: Callable[[datetime], None]
) -> None:
    """A gang that started sooner than promised counts; one that never waited does not."""
    call("reserve", *TWO, "--key", "first")
    assert "first ETAs" not in call("status").out
    call("reserve", *TWO, "--key", "second")
    move_clock(now + timedelta(seconds=10))
    call("release", "--key", "first")
    out = call("status").out
    assert "first ETAs of 1 that waited: off by 60 min" in out
    assert "100% started no later than told" in out


def test_each_field_of_a_request_is_an_option() -> None:
    """The options are the request's fields, but for labels, which programs give."""
    spelled = {"key": "request_key", "accelerator": "accelerators", "earliest": "earliest_start"}
    spelled |= {"latest": "latest_start"} | dict.fromkeys(("pods", "gpus", "min_pods", "max_pods"), "pod_sets")
    options = {spelled.get(name, name) for name in signature(_options).parameters}
    assert options == set(GangRequest.__dataclass_fields__) - {"labels", "claim_within"}  # no command claims


def test_status_and_audit_tell_whose_a_grant_is_and_that_nobody_claimed_it(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By owner and try, for all or for one owner; what a name holds cannot steer a terminal."""
    here = {"tenant": "vision", "accelerators": ("h100-lab",), "pod_sets": (PodSet(count=1, gpus_per_pod=4),)}
    with opened() as ledger:
        claimable = a_request("big", claim_within=timedelta(minutes=2), **here)
        ledger.submit(claimable, "airflow/train/monday%2B00/big/2")
        ledger.submit(a_request("odd", **here), "airflow/od%1bd/x/1")
    out = call("status").out
    assert "airflow/train/monday+00/big, try 2" in out
    assert "granted, not claimed yet" in out
    assert "airflow/od%1bd/x, try 1" in out
    assert [row["key"] for row in call("status", "--owner", "airflow/train/", "--json").json] == ["big"]
    shown = call("explain", "--key", "big").out
    assert "to be claimed by" in shown
    monkeypatch.setenv("GANGPLAN_NOW", (NOW + timedelta(minutes=2)).isoformat())
    (gone,) = call("status", "--state", "expired", "--json").json
    assert (gone["attempt"], gone["claim_by"]) == ("airflow/train/monday%2B00/big/2", gone["ended_at"])
    assert "expired, nobody claimed it" in call("status").out
    audit = " ".join(call("ledger", "audit", "--key", "big").out.split())
    assert "attempt=airflow/train/monday%2B00/big/2" in audit
    assert "nobody claimed it" in audit
