"""`gangplan policy`: rules are shown, tried, set with who and why, looked back at; wrong files write nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command import Call, caller, widen

from gangplan.reserve.policy.file import policy_from_yaml
from gangplan.reserve.policy.rules import Policy

FILE = """
tenants:
  vision: {weight: 2, cohort: research, quotas: {h100-lab: {nominal: 4, borrow: 2}}}
  search: {cohort: research, quotas: {h100-lab: {nominal: 4}}}
"""
ASK = ("reserve", "--pods", "1", "--gpus", "4", "--accelerator", "h100-lab", "--duration", "1h", "--tenant")
SET = ("--by", "ada", "--why", "two teams now")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home folder of a test's commands."""
    return tmp_path / "home"


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command as a shell would, in this process, with a fleet of 2 x 4 GPUs."""
    monkeypatch.setenv("GANGPLAN_HOME", str(home))
    widen(monkeypatch, 160)

    run = caller(monkeypatch, capsys)
    assert run("init").code == 0
    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A policy file of two tenants in a cohort."""
    path = tmp_path / "policy.yaml"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("words", [("diff", "4"), ("diff", "0", "4"), ("show", "4"), ("diff", "9" * 30)])
def test_number_that_is_not_in_the_history(call: Call, words: tuple[str, ...]) -> None:
    """A number beyond the history is refused with those that there are."""
    said = call("policy", *words)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "give 0 to 0" in said.err


@pytest.mark.parametrize("command", ["show", "check", "set", "history", "diff"])
def test_help_shows_an_example(call: Call, command: str) -> None:
    """Every command explains itself with an example of its own."""
    said = call("policy", command, "--help")
    assert said.code == 0
    assert f"gangplan policy {command}" in said.out.split("Example:")[1]


def test_default_policy_is_shown(call: Call) -> None:
    """Before any policy was set, the default is shown, in words and as a file that reads back the same."""
    said = call("policy", "show")
    assert "no tenants are named" in said.out
    assert "normal 100" in said.out
    assert policy_from_yaml(call("policy", "show", "--yaml").out) == Policy()
    assert call("policy", "history", "--json").json == []
    assert "no policy was ever set" in call("policy", "history").out


def test_set_holds_and_is_kept_with_who_and_why(call: Call, file: Path) -> None:
    """A policy that is set holds, is printed back, and stands in the history with its difference."""
    said = call("policy", "set", str(file), *SET, "--json")
    assert (said.code, [change["field"] for change in said.json["changes"]]) == (
        0,
        ["tenants[vision]", "tenants[search]"],
    )
    assert policy_from_yaml(call("policy", "show", "--yaml").out) == policy_from_yaml(FILE)
    (kept,) = call("policy", "history", "--json").json
    assert (kept["number"], kept["by"], kept["why"]) == (1, "ada", "two teams now")
    assert [change["field"] for change in kept["changes"]] == ["tenants[vision]", "tenants[search]"]
    assert "two teams now" in call("policy", "history").out


def test_setting_the_same_again_writes_nothing(call: Call, file: Path) -> None:
    """A file that changes nothing makes no second entry in the history."""
    call("policy", "set", str(file), *SET)
    again = call("policy", "set", str(file), *SET)
    assert (again.code, "no difference" in again.out) == (0, True)
    assert len(call("policy", "history", "--json").json) == 1


def test_check_says_what_would_change_and_changes_nothing(call: Call, file: Path) -> None:
    """A check shows the difference, the doubts and who is touched; the policy in force stays."""
    assert call(*ASK, "vision").code == 0
    assert call(*ASK, "vision").code == 0
    file.write_text("tenants: {vision: {quotas: {h100-lab: {nominal: 4}, h200: {nominal: 1}}}}")
    said = call("policy", "check", str(file), "--json")
    assert said.code == 0
    assert [change["field"] for change in said.json["changes"]] == ["tenants[vision]"]
    assert "no pool has this accelerator" in said.json["doubts"][0]
    assert said.json["effects"] == ["vision holds 8 h100-lab, may hold 4: it keeps them until they are released"]
    words = call("policy", "check", str(file)).out
    assert "look at:" in words
    assert "it means:" in words
    assert call("policy", "history", "--json").json == []


def test_show_says_what_each_tenant_holds(call: Call, file: Path) -> None:
    """Beside its quotas a tenant's row says what it holds now and may at most; one that is not named has a row too."""
    call("policy", "set", str(file), *SET)
    assert call(*ASK, "vision").code == 0
    assert call(*ASK, "guest").code == 0
    rows = {row["tenant"]: row for row in call("policy", "show", "--json").json["tenants"]}
    assert (rows["vision"]["nominal"], rows["vision"]["most"], rows["vision"]["holds"]) == (4, 6, 4)
    assert (rows["search"]["most"], rows["search"]["holds"]) == (8, 0)
    assert (rows["guest"]["named"], rows["guest"]["most"], rows["guest"]["holds"]) == (False, None, 4)
    words = call("policy", "show").out
    assert "guest (not named)" in words
    assert "two teams now" in words


def test_holder_is_told_that_it_must_leave(call: Call, file: Path) -> None:
    """A gang of a higher class takes preemptible slots: the holder's status says by when, why, and for whom."""
    file.write_text("preemption: {margin: 100, grace: 0s, notice: 2m}")
    call("policy", "set", str(file), *SET)
    low = ("--key", "sweep", "--priority-class", "low", "--preemptible", "--checkpoint", "5m")
    assert call(*ASK, "vision", "--pods", "1", "--gpus", "4", *low, "--json").json["notice"] is None
    urgent = call(*ASK, "search", "--key", "fix", "--priority-class", "high", "--pods", "1", "--gpus", "4", "--json")
    assert (urgent.code, urgent.json["promised"]) == (3, True)
    notice = {row["key"]: row["notice"] for row in call("status", "--json").json}["sweep"]
    assert (notice["until"], notice["beneficiary"]) == (urgent.json["eta"], "fix")
    assert "must leave by" in call("explain", "--key", "sweep").out
    assert "must leave by" in call("status").out


def test_diff_between_numbers_and_files(call: Call, file: Path) -> None:
    """Two policies are compared by their numbers in the history, 0 being the default, or by files."""
    call("policy", "set", str(file), *SET)
    file.write_text(FILE + "depth: 64\n")
    call("policy", "set", str(file), "--by", "ada", "--why", "shorter line")

    def fields(*words: str) -> list[str]:
        return [change["field"] for change in call("policy", "diff", *words, "--json").json["changes"]]

    assert fields() == ["depth"]
    assert fields("0") == ["tenants[vision]", "tenants[search]", "depth"]
    assert fields("1", "0") == ["tenants[vision]", "tenants[search]"]
    assert fields("2", str(file)) == []
    assert policy_from_yaml(call("policy", "show", "1", "--yaml").out) == policy_from_yaml(FILE)
    assert "128" in call("policy", "diff").out


@pytest.mark.parametrize(
    ("words", "text", "field"),
    [
        (("check",), "depth: 0", "depth"),
        (("check",), "tenants: {vision: {wieght: 2}}", "tenants[vision].wieght"),
        (("set", *SET), "tenants: [", "policy"),
        (("set", *SET), "ageing: soon", "ageing"),
        (("set", "--by", "ada"), FILE, "--why"),
        (("set", "--by", "ada", "--why", ""), FILE, "--why"),
        (("set", "--by", "a\nb", "--why", "x"), FILE, "--by"),
    ],
)
def test_wrong_file_is_one_line_and_writes_nothing(
    call: Call, file: Path, words: tuple[str, ...], text: str, field: str
) -> None:
    """A wrong file or call names its field on one line, exits with 2, and the policy in force stays."""
    file.write_text(text)
    said = call("policy", words[0], str(file), *words[1:])
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert field in said.err
    assert call("policy", "history", "--json").json == []


def test_missing_file_says_how_to_start(call: Call) -> None:
    """A policy file that is not there names the command that prints one."""
    said = call("policy", "check", "nowhere.yaml")
    assert said.code == 2
    assert "policy show --yaml" in said.err
