"""`gangplan kfp compile | submit | schedule | status`, against a server that is generated from KFP's API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st
from tests.command import Call, caller, widen
from tests.kfp.server.app import Double
from tests.kfp.server.backend import Refused

from gangplan.errors import InputError
from gangplan.reserve import Ledger
from gangplan.types import PipelineOwner, request_from
from gangplan_kfp.client import Package, connect, read_package, runs, when_from
from gangplan_kfp.client.packages import Input
from gangplan_kfp.compile import COMPILED, compile_all

SECRETS = [
    "postgresql://ada:s3cret@db/ledger",
    "https://s3cret@host/x",
    "http://host?token=s3cret",
    "x http://a:s3cret@b",
]


@pytest.fixture
def call(home: Path, kfp_server: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command with an empty home, an empty KFP, a wide terminal, and no pause between two looks."""
    widen(monkeypatch, 200)
    monkeypatch.setattr(runs, "LOOK_EVERY_S", 0.0)
    return caller(monkeypatch, capsys)


def the_runs(kfp_server: Double) -> list[dict[str, Any]]:
    """The runs that the server has."""
    return list(kfp_server.backend.runs.values())


# ---------------------------------------------------------------- compile


def test_what_ships_is_compiled_once(call: Call, tmp_path: Path) -> None:
    """All files are those of the compiler; a second time nothing is written; --image names the image of each step."""
    compile_all(tmp_path / "golden")
    assert call("kfp", "compile", "--into", str(tmp_path / "out")).code == 0
    texts = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert texts == {path.name: path.read_text() for path in (tmp_path / "golden").iterdir()}
    assert set(texts) == {f"{name}.yaml" for name in COMPILED}
    assert "nothing to write" in call("kfp", "compile", "--into", str(tmp_path / "out")).out
    assert call("kfp", "compile", "reserve_gang", "--into", str(tmp_path / "one"), "--image", "x/y:7").code == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["reserve_gang.yaml"]
    spec = next(yaml.safe_load_all((tmp_path / "one" / "reserve_gang.yaml").read_text()))
    assert {each["container"]["image"] for each in spec["deploymentSpec"]["executors"].values()} == {"x/y:7"}


def test_an_unknown_name_is_refused_with_those_that_there_are(call: Call, tmp_path: Path) -> None:
    """Nothing is written."""
    said = call("kfp", "compile", "reserve_gangs", "--into", str(tmp_path / "out"))
    assert said.code == 2
    assert "name: 'reserve_gangs' is no pipeline or component of gangplan: use one of" in said.err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- submit


def test_a_shipped_pipeline_is_sent_with_checked_arguments(call: Call, kfp_server: Double) -> None:
    """The run has the arguments with their types; its experiment is made once."""
    words = ("--set", "pods=1", "--set", "accelerators=[h100, a100]", "--set", "settings={scenarios: 3}")
    said = call("kfp", "submit", "reserved_training", *words, "--experiment", "night", "--run-name", "one", "--json")
    assert said.code == 0, said
    run = kfp_server.backend.runs[said.json["id"]]
    assert run["display_name"] == "one"
    assert run["runtime_config"]["parameters"] == {
        "pods": 1,
        "accelerators": ["h100", "a100"],
        "settings": {"scenarios": 3},
    }
    assert call("kfp", "submit", "reserved_training", "--experiment", "night", "--image", "x/y:7").code == 0
    names = [each["display_name"] for each in kfp_server.backend.experiments.values()]
    assert sorted(names) == ["Default", "night"]
    named, dated = the_runs(kfp_server)
    assert dated["display_name"].startswith("reserved-training 20")
    executors = dated["pipeline_spec"].get("pipeline_spec", dated["pipeline_spec"])["deploymentSpec"]["executors"]
    assert {each["container"]["image"] for each in executors.values()} == {"x/y:7"}
    assert named["experiment_id"] == dated["experiment_id"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("gpus=2", "set: 'gpus' is no input of reserved-training: use one of"),
        ("pods", "set: 'pods' has no value: write it like pods=2"),
        ("pods=two", "pods: 'two' is no whole number: give it like 2"),
        ("pods=1.5", "pods: '1.5' is no whole number"),
        ("accelerators=h100", "accelerators: 'h100' is no list: give it like '[h100, a100]'"),
        ("accelerators=[2026-03-01]", "is no list"),
        ("settings=[1]", "settings: '[1]' is no mapping"),
        ("settings={a: .nan}", "is no mapping"),
        *((f"mlflow={url}", "carries a password, and KFP shows arguments to all") for url in SECRETS),
        (f"settings={{x: '{SECRETS[0]}'}}", "settings: "),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_sent(
    call: Call, kfp_server: Double, argument: str, words: str
) -> None:
    """Name, value and remedy; no call reaches the server, and no secret the screen."""
    said = call("kfp", "submit", "reserved_training", "--set", argument)
    assert (said.code, kfp_server.backend.calls) == (2, [])
    assert words in said.err
    assert "s3cret" not in said.out + said.err


def test_arguments_are_given_once_and_none_is_missing(call: Call) -> None:
    """A component's own file has inputs without defaults."""
    assert (
        "gives pods a second time"
        in call("kfp", "submit", "reserved_training", "--set", "pods=1", "--set", "pods=2").err
    )
    said = call("kfp", "submit", "reserve_gang", "--set", "tenant=vision")
    assert said.code == 2
    assert "is missing: reserve-gang needs it, give it with --set" in said.err


@given(
    st.integers(-(2**53), 2**53), st.booleans(), st.lists(st.text(st.characters(codec="ascii"))), st.floats(-1e9, 1e9)
)
def test_arguments_come_back_as_they_were(whole: int, yes: bool, texts: list[str], number: float) -> None:
    """What JSON writes is read as it was, whatever it is."""
    kinds = {"w": "NUMBER_INTEGER", "y": "BOOLEAN", "l": "LIST", "n": "NUMBER_DOUBLE", "s": "STRUCT"}
    inputs = {name: Input(name=name, type=kind, default=None, required=True) for name, kind in kinds.items()}
    values = {"w": whole, "y": yes, "l": texts, "n": number, "s": {"a": [whole, texts]}}
    package = Package(name="any", spec={}, inputs=inputs)
    try:
        assert package.arguments(f"{name}={json.dumps(value)}" for name, value in values.items()) == values
    except InputError as error:
        assert "carries a password" in error.remedy  # noqa: PT017 - such texts come by chance


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("a: 1", "is no compiled pipeline"), ("- {", "is no compiled pipeline")],
)
def test_a_file_that_is_no_pipeline_is_refused(call: Call, tmp_path: Path, text: str | None, words: str) -> None:
    """It is not there, or KFP's compiler did not write it; a name without .yaml is taken for a name."""
    file = tmp_path / "mine.yaml"
    if text:
        file.write_text(text)
    said = call("kfp", "submit", str(file))
    assert said.code == 2
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert "is no pipeline: give a compiled YAML file, or one of" in call("kfp", "submit", "mine").err


def test_a_file_with_a_secret_in_its_defaults_is_refused(call: Call, kfp_server: Double, tmp_path: Path) -> None:
    """It would be shown with each run; another value in its place is sent."""
    assert call("kfp", "compile", "reserved_training", "--into", str(tmp_path)).code == 0
    file = tmp_path / "reserved_training.yaml"
    documents = list(yaml.safe_load_all(file.read_text()))
    documents[0]["root"]["inputDefinitions"]["parameters"]["mlflow"]["defaultValue"] = SECRETS[0]
    file.write_text(yaml.safe_dump_all(documents))
    said = call("kfp", "submit", str(file))
    assert (said.code, kfp_server.backend.calls) == (2, [])
    assert "mlflow: 'postgresql://db/ledger' carries a password" in said.err
    assert call("kfp", "submit", str(file), "--set", "mlflow=http://mlflow:5000").code == 0
    assert "the image was chosen when it was compiled" in call("kfp", "submit", str(file), "--image", "x").err


def test_a_run_is_followed_to_its_end(call: Call, kfp_server: Double) -> None:
    """Each change is a line; a server that fails meanwhile is waited for; success is exit code 0, failure is 1."""
    kfp_server.backend.course = ("RUNNING", "RUNNING", "SUCCEEDED")
    said = call("kfp", "submit", "reserved_training", "--wait")
    assert said.code == 0, said
    lines = said.out.splitlines()
    assert lines[:2] == ["PENDING", next(line for line in lines if line.startswith("RUNNING: "))]
    assert "SUCCEEDED" in lines[2]
    kfp_server.backend.course, kfp_server.backend.error = ("RUNNING", "FAILED"), "step train failed"
    said = call("kfp", "submit", "reserved_training", "--wait", "--json")
    assert said.code == 1
    assert said.json["state"] == "FAILED"
    assert said.err.strip().endswith("ended as FAILED: step train failed")


def test_a_wait_outlives_a_server_that_is_away(kfp_server: Double) -> None:
    """It goes on when the server is back, and ends with its error when it stays away."""
    server = connect(kfp_server.url)
    run = runs.submit(server, read_package("reserved_training"), {}, experiment="Default", name="mine")
    kfp_server.backend.failures = [Refused(503, 14, "upgrade")] * 4  # each look is tried four times
    heard: list[str] = []
    assert runs.wait(server, run.id, lambda now: heard.append(now.state), pause=lambda _: None).state == "SUCCEEDED"
    assert heard[0] == "PENDING"


# ---------------------------------------------------------------- schedule


def test_a_schedule_is_made_once_and_replaced_when_it_changes(call: Call, kfp_server: Double) -> None:
    """The same call changes nothing; another time replaces it; one run at a time, and nothing is made up for."""
    there = kfp_server.backend.recurring_runs

    def done(*words: str) -> str:
        said = call("kfp", "schedule", "reserved_training", *words, "--json")
        assert said.code == 0, said
        assert len(there) == 1
        return said.json["done"]

    assert done("--cron", "0 3 * * *") == "made"
    (first,) = there
    assert done("--cron", "0 3 * * *") == "unchanged"
    assert list(there) == [first]
    made = there[first]
    assert (made["display_name"], made["max_concurrency"], made["no_catchup"]) == ("reserved-training", "1", True)
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert done("--every", "1h") == "replaced"
    assert list(there) != [first]
    assert done("--every", "60m", "--set", "pods=1") == "replaced"
    assert done("--every", "1h", "--set", "pods=1", "--disable") == "disabled"
    assert done("--every", "1h", "--set", "pods=1") == "enabled"
    assert done("--disable") == "disabled"


def test_schedules_are_listed_and_deleted(call: Call, kfp_server: Double) -> None:
    """Each has its name; deleting twice is as once; one that is not there cannot be disabled."""
    assert call("kfp", "schedule", "reserved_training", "--every", "1d", "--name", "daily").code == 0
    assert call("kfp", "schedule", "apply_plan", "--set", "run_id=any", "--every", "1h", "--disable").code == 0
    listed = {row["name"]: row for row in call("kfp", "schedule", "--list", "--json").json["schedules"]}
    assert {name: (row["when"], row["enabled"]) for name, row in listed.items()} == {
        "daily": ("every 1d", True),
        "apply-plan": ("every 1h", False),
    }
    assert "daily" in call("kfp", "schedule", "--list").out
    assert "deleted" in call("kfp", "schedule", "--name", "daily", "--delete").out
    assert "there is no such schedule" in call("kfp", "schedule", "--name", "daily", "--delete").out
    assert call("kfp", "schedule", "apply_plan", "--delete").code == 0
    assert kfp_server.backend.recurring_runs == {}
    said = call("kfp", "schedule", "--name", "daily", "--disable")
    assert (said.code, said.err) == (3, "error: there is no schedule 'daily': see `gangplan kfp schedule --list`\n")


def test_a_replacement_that_was_cut_off_is_finished_by_the_next_call(call: Call, kfp_server: Double) -> None:
    """Two of one name are left by a lost connection: the one that is wanted stays."""
    for every in ("1h", "2h"):
        assert call("kfp", "schedule", "reserved_training", "--every", every, "--name", every).code == 0
    for each in kfp_server.backend.recurring_runs.values():
        each["display_name"] = "reserved-training"
    assert call("kfp", "schedule", "reserved_training", "--every", "1h", "--json").json["done"] == "unchanged"
    (left,) = kfp_server.backend.recurring_runs.values()
    assert left["trigger"] == {"periodic_schedule": {"interval_second": "3600"}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "cron: '' is missing: give --cron or --every"),
        (("--cron", "0 3 * * *", "--every", "1h"), "give either --cron or --every"),
        (("--cron", "0 3 * *"), "is no cron expression: give five fields"),
        (("--cron", "0 3 * * $"), "is no cron expression"),
        (("--every", "0s"), "is no whole number of seconds above 0"),
        (("--every", "hour"), "every: 'hour' is not a duration"),
        (("--every", "1h", "--set", "pods=x"), "pods: 'x' is no whole number"),
    ],
)
def test_a_wrong_schedule_is_refused_before_anything_is_sent(
    call: Call, kfp_server: Double, words: tuple[str, ...], said: str
) -> None:
    """Field, value and remedy; nothing is sent."""
    answer = call("kfp", "schedule", "reserved_training", *words)
    assert (answer.code, kfp_server.backend.calls) == (2, [])
    assert said in answer.err


def test_seconds_are_kfps_first_field() -> None:
    """KFP reads five fields as seconds to months: gangplan's are minutes to weekdays, as cron has them."""
    assert when_from("*/5 * * * MON-FRI", "").cron == "0 */5 * * * MON-FRI"
    assert when_from("30 0 3 * * *", "").cron == "30 0 3 * * *"


# ---------------------------------------------------------------- status


def test_runs_are_shown_with_their_gangs(
    call: Call, kfp_server: Double, ledger: Callable[[], Ledger], wish: dict[str, Any]
) -> None:
    """The newest first; each gang with its state, and the one that waits with ETA and reason."""
    ids = [call("kfp", "submit", "reserved_training", "--run-name", name, "--json").json["id"] for name in "ab"]
    with ledger() as book:
        for run in ids:
            asked = {name: value for name, value in wish.items() if name not in ("pods", "gpus_per_pod")}
            pods = [(wish["pods"], wish["gpus_per_pod"], None, None)]
            request = request_from({**asked, "request_key": f"kfp/{run}/gang", "pod_sets": pods})
            book.submit(request, attempt=f"{PipelineOwner(run=run)}/gang/1")
    rows = call("kfp", "status", "--json").json
    assert [row["name"] for row in rows] == ["b", "a"]
    assert [row["gangs"][0]["state"] for row in rows] == ["waiting", "granted"]
    table = call("kfp", "status").out
    assert "waiting" in table
    assert "too few GPUs are free" in " ".join(table.split())
    one = call("kfp", "status", "a")
    assert one.code == 0
    assert "granted" in one.out
    assert call("kfp", "status", ids[0], "--json").json["gangs"][0]["key"] == f"kfp/{ids[0]}/gang"
    assert call("kfp", "status", "--limit", "1", "--json").json[0]["name"] == "b"


def test_an_unknown_run_is_named(call: Call) -> None:
    """Neither an id nor a name; and an empty KFP has no runs."""
    said = call("kfp", "status", "nobody")
    assert (said.code, said.err) == (3, "error: no run has the id or the name 'nobody': see `gangplan kfp status`\n")
    assert call("kfp", "status").out == "there are no runs\n"


def test_runs_are_shown_without_the_ledger(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that does not answer hides no run, and is named."""
    assert call("kfp", "submit", "reserved_training", "--run-name", "mine").code == 0
    monkeypatch.setenv("GANGPLAN_LEDGER", "postgresql://ada:s3cret@127.0.0.1:1/db")
    monkeypatch.setenv("GANGPLAN_NOW", "")
    said = call("kfp", "status")
    assert said.code == 0
    assert "mine" in said.out
    assert "note: no gangs are shown" in said.err
    assert "s3cret" not in said.err


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "reserved_training"),
        ("schedule", "--list"),
        ("status",),
        ("schedule", "reserved_training", "--every", "1h"),
    ],
)
def test_a_server_that_says_no_is_one_line(call: Call, kfp_server: Double, words: tuple[str, ...]) -> None:
    """No login, no rights, nobody there: one line with what helps, and an exit code; no password of the address."""
    kfp_server.backend.token = "t"  # noqa: S105 - made up
    said = call("kfp", *words)
    assert (said.code, len(said.err.splitlines())) == (3, 1)
    assert "wants a login (401)" in said.err
    said = call("kfp", *words, "--host", "http://ada:s3cret@127.0.0.1:1")
    assert (said.code, len(said.err.splitlines())) == (4, 1)
    assert "s3cret" not in said.err
