"""`gangplan doctor`, and `gangplan apply --check`: what is wrong is named with what helps, before any plan exists."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest
from tests.cli.test_apply import POOLS, publish
from tests.command import Call, caller, widen

from gangplan.config import write_fleet
from gangplan.tracking import Store
from gangplan.types import Fleet


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command in an empty home, with no cluster at hand."""
    monkeypatch.setenv("GANGPLAN_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "no-kubeconfig"))
    widen(monkeypatch, 160)
    return caller(monkeypatch, capsys)


def levels(call: Call) -> dict[str, str]:
    """What the doctor says of each thing: good, note or bad."""
    return {each["what"]: each["level"] for each in call("doctor", "--json").json}


def test_an_empty_folder_is_told_what_comes_first(call: Call) -> None:
    """What is missing is named with the command that makes it, all of it at once, and the exit code says so."""
    said = call("doctor")
    assert said.code == 1
    assert said.err.strip() == "error: doctor: 2 things are wrong: see what helps"
    assert "write one with `gangplan init`" in said.out
    assert levels(call)["fleet"] == "bad"


def test_before_the_first_plan_targets_are_checked_already(call: Call, tmp_path: Path) -> None:
    """Both commands need a fleet and targets.yaml alone: no store, no plan."""
    write_fleet(tmp_path / "fleet.yaml", Fleet(pools=POOLS, nodes={"a": 1, "b": 3}))
    (tmp_path / "targets.yaml").write_text("pools:\n  a: {nodes: {kind: file}}\n")
    assert call("apply", "--check").out.strip() == "nothing is in the way"
    assert levels(call)["file"] == "good"


def test_all_is_well_once_a_plan_holds(call: Call, tmp_path: Path, mlflow_store: Store, now: datetime) -> None:
    """Without a plan that is a note; with one, the command ends with 0."""
    write_fleet(tmp_path / "fleet.yaml", Fleet(pools=POOLS, nodes={"a": 1, "b": 3}))
    assert levels(call)["plan"] == "note"
    publish(mlflow_store, now, a=3, b=2)
    assert call("doctor").code == 0
    found = levels(call)
    assert (found["MLflow"], found["plan"], found["targets.yaml"]) == ("good", "good", "note")


def test_an_engine_that_cannot_be_opened_hides_nothing_else(call: Call, tmp_path: Path) -> None:
    """The cluster is away: it is named, and so are the servers and nodes on it; the fleet file is looked at."""
    write_fleet(tmp_path / "fleet.yaml", Fleet(pools=POOLS, nodes={"a": 1, "b": 3}))
    targets = "pools:\n  a: {nodes: {kind: file}}\n  b: {nodes: {kind: fixed}}\npower: {pools: [b]}\n"
    (tmp_path / "targets.yaml").write_text(targets)
    found = levels(call)
    assert (found["file"], found["cluster"], found["power"]) == ("good", "bad", "bad")
    assert "cluster: " in call("apply", "--check").out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pools:\n  z: {nodes: {kind: file}}\n", "pools[z]: 'z' is not in the fleet"),
        ("pools:\n  a: {nodes: {kind: file}}\npower: {pools: [z]}\n", "power.pools.0"),
    ],
)
def test_a_wrong_line_of_targets_is_named(call: Call, tmp_path: Path, text: str, words: str) -> None:
    """Pool or field, line and remedy stand in the finding; the other things are looked at."""
    write_fleet(tmp_path / "fleet.yaml", Fleet(pools=POOLS, nodes={"a": 1, "b": 3}))
    (tmp_path / "targets.yaml").write_text(text)
    found = {each["what"]: each for each in call("doctor", "--json").json}
    assert words in found["targets.yaml"]["said"]
    assert re.search(r"use one of a, b \(.*targets.yaml line \d\)", found["targets.yaml"]["remedy"])
    assert found["fleet"]["level"] == "good"


def test_wrong_settings_are_a_finding(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are named, with exit code 1: nothing else can be looked at."""
    monkeypatch.setenv("GANGPLAN_HORIZON_HOURS", "3")
    said = call("doctor", "--json")
    assert said.code == 1
    assert [each["what"] for each in said.json] == ["settings"]
    assert "horizon_hours" in said.json[0]["said"]
