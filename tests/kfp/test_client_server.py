"""The calls that gangplan makes of KFP, and KFP's own client, against a server that is generated from KFP's API."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import pytest
from tests.kfp.server.app import Double
from tests.kfp.server.backend import Refused
from tests.kfp.server.definitions import messages, routes

from gangplan.errors import ForbiddenError, GangplanError, InputError, NotFoundError, RejectedError, UnavailableError
from gangplan_kfp.client import connect, read_package

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / "kfp_components" / "compiled" / "reserved_training.yaml"


@pytest.fixture
def client(kfp_server: Double) -> kfp.Client:
    """KFP's own client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kfp.Client(host=kfp_server.url)


def test_the_double_has_every_call_and_message_of_the_definitions() -> None:
    """What the generated client can call has a route; what it knows as a message has a model."""
    operations = {route.operation for route in routes()}
    services = [service for name, service in vars(kfp_server_api).items() if name.endswith("ServiceApi")]
    calls = {name for service in services for name in vars(service) if not name.startswith("_")}
    assert {name for name in calls if not name.endswith("_with_http_info")} == operations
    assert {name for name in dir(kfp_server_api) if name.startswith("V2beta1")} <= set(messages())


def test_kfps_own_client_submits_and_follows_a_run(client: kfp.Client) -> None:
    """The SDK's way through the API works against the double: experiment, run, its end; and a recurring run."""
    made = client.create_run_from_pipeline_package(str(TRAINING), {"pods": 1}, run_name="mine", experiment_name="new")
    assert client.wait_for_run_completion(made.run_id, timeout=60, sleep_duration=0).state == "SUCCEEDED"
    assert client.list_runs(sort_by="created_at desc").runs[0].display_name == "mine"
    experiment = client.get_experiment(experiment_name="new").experiment_id
    body: dict[str, Any] = {"pipeline_package_path": str(TRAINING), "interval_second": 3600, "no_catchup": True}
    again = client.create_recurring_run(experiment, "hourly", **body)
    assert client.get_recurring_run(again.recurring_run_id).status == "ENABLED"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pipeline_spec": None}, "Neither a pipeline spec"),
        ({"state": "NO_STATE"}, "RUNTIME_STATE_UNSPECIFIED"),
        ({"pipeline_spec": {"no": "spec"}}, "Invalid IR spec"),
        ({"experiment_id": "unknown"}, "not found"),
        ({"runtime_config": {"parameters": {"pods": "two"}}}, "another type"),
        ({"runtime_config": {"parameters": {"gpus": 2}}}, "not an input"),
        ({"unknown": 1}, "extra_forbidden"),
    ],
)
def test_the_double_refuses_what_kfp_refuses(client: Any, change: dict[str, Any], words: str) -> None:
    """Unknown fields, wrong enums, no pipeline and wrong arguments get an error in KFP's form."""
    body = {"display_name": "mine", "pipeline_spec": read_package(str(TRAINING)).spec} | change
    with pytest.raises(kfp_server_api.ApiException, match=words):
        client.runs.run_service_create_run(body)


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        (Refused(401, 16, "no token"), ForbiddenError, r"wants a login \(401\): no token: log in as KFP's client does"),
        (Refused(403, 7, "not you"), ForbiddenError, r"does not allow it \(403\): not you: ask for rights"),
        (Refused(404, 5, "gone"), NotFoundError, r"has no such thing \(404\): gone"),
        (Refused(400, 3, "nonsense"), RejectedError, r"refuses it \(400\): nonsense"),
    ],
)
def test_a_refusal_is_our_error_with_kfps_words(
    kfp_server: Double, refusal: Refused, error: type[GangplanError], words: str
) -> None:
    """Each status has its own error, in one line with what helps, already at the first call."""
    kfp_server.backend.failures = [refusal]
    with pytest.raises(error, match=words):
        connect(kfp_server.url)


def test_what_fails_once_is_asked_again(kfp_server: Double) -> None:
    """A read is repeated after a 503; a write is not, since its first try may have had its effect."""
    server = connect(kfp_server.url)
    kfp_server.backend.failures = [Refused(503, 14, "restarting")]
    assert list(server.runs()) == []
    kfp_server.backend.failures = [Refused(500, 13, "lost")]
    with pytest.raises(UnavailableError, match=r"failed \(500\): lost: try again"):
        server.create_run(kfp_server_api.V2beta1Run(display_name="mine"))
    assert kfp_server.backend.calls[-3:] == [("GET", "/apis/v2beta1/runs")] * 2 + [("POST", "/apis/v2beta1/runs")]


def test_a_server_that_does_not_answer_is_not_waited_for(kfp_server: Double) -> None:
    """A call that hangs ends by our limit, and nothing at an address is told at once."""
    server = connect(kfp_server.url, patience_s=1)
    kfp_server.backend.slow = "list_runs"
    with pytest.raises(UnavailableError, match="did not answer within 1 s"):
        list(server.runs())
    with pytest.raises(UnavailableError, match=r"does not answer \(.*refused\): check --host"):
        connect("http://127.0.0.1:1")


def test_a_page_to_log_in_is_not_taken_for_kfp(kfp_server: Double) -> None:
    """A proxy that answers everything with its own page would look like a KFP without runs."""
    kfp_server.backend.page = b"<html>log in</html>"
    with pytest.raises(InputError, match="something else than the API of Kubeflow Pipelines, such as a page to log in"):
        connect(kfp_server.url)


def test_a_token_in_a_file_logs_in(kfp_server: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KFP's own variable names the file; a token that was renewed meanwhile is used by the next call."""
    kfp_server.backend.token = "first"  # noqa: S105 - made up
    with pytest.raises(ForbiddenError, match="401"):
        connect(kfp_server.url)
    file = tmp_path / "token"
    file.write_text("first")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    server = connect(kfp_server.url)
    kfp_server.backend.token = "second"  # noqa: S105 - made up
    file.write_text("second")
    assert list(server.runs()) == []


@pytest.mark.usefixtures("kfp_server")
def test_without_any_address_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """KFP's client would try this machine's port 80."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(InputError, match="give --host or set GANGPLAN_KFP_HOST"):
        connect("")


def test_lists_are_read_page_by_page(kfp_server: Double) -> None:
    """More runs than a page holds come whole, the newest first; a name finds its own."""
    server = connect(kfp_server.url)
    spec = read_package(str(TRAINING)).spec
    for number in range(103):
        kfp_server.backend.create_run({"display_name": f"run {number}", "pipeline_spec": spec})
    assert [run.display_name for run in server.runs()] == [f"run {number}" for number in reversed(range(103))]
    assert [run.display_name for run in server.runs("run 7")] == ["run 7"]
