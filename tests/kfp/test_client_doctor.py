"""`gangplan kfp doctor`: each thing that a step or a pipeline needs, with what helps where it is wrong."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tests.command import Call, caller
from tests.kfp.server.app import Double

from gangplan.kube import Api, connect
from gangplan.tracking import Store
from gangplan_kfp.client.doctor import rights


@pytest.fixture
def call(home: Path, kfp_server: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command as a user who is not root, with this environment's python3 first on PATH."""
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    return caller(monkeypatch, capsys)


def findings(call: Call, *words: str) -> dict[str, dict[str, str]]:
    """What the doctor says, by what it looked at."""
    return {each["what"]: each for each in call("kfp", "doctor", *words, "--json").json}


def test_all_that_steps_need_is_there(call: Call, ledger_url: str, mlflow_store: Store, monkeypatch: Any) -> None:
    """Exit code 0; a ledger in a file is a warning, as each pod would have its own."""
    monkeypatch.setenv("GANGPLAN_MLFLOW", mlflow_store.uri)
    said = call("kfp", "doctor")
    assert said.code == 0, said
    found = findings(call)
    good = {what for what, each in found.items() if each["level"] == "good"}
    assert good == {"kfp", "kfp-kubernetes", "gangplan_kfp", "held", "user", "ledger", "MLflow", "KFP server"}
    assert "each pod would have one of its own" in found["ledger of pods"]["said"]
    assert found["KFP server"]["said"].endswith(": 2.17.0")


def test_each_thing_that_is_wrong_is_named_with_its_remedy(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit code 1: no python3, a ledger and an MLflow that do not answer, a KFP that was named and is not there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GANGPLAN_NOW", "")
    monkeypatch.setenv("GANGPLAN_LEDGER", "postgresql://ada:s3cret@127.0.0.1:1/db")
    monkeypatch.setenv("GANGPLAN_MLFLOW", "http://ada:s3cret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = call("kfp", "doctor", "--host", "http://ada:s3cret@127.0.0.1:1")
    assert said.code == 1
    assert said.err.strip().endswith("error: kfp: 4 things are wrong: see what helps")
    assert "s3cret" not in said.out + said.err
    found = findings(call, "--host", "http://127.0.0.1:1")
    bad = {what: each["said"] for what, each in found.items() if each["level"] == "bad"}
    assert set(bad) == {"python3", "ledger", "MLflow", "KFP server"}
    assert "check --host" in bad["KFP server"]


def test_a_python_without_gangplan_cannot_hold(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """KFP starts `python3` of PATH: a base image's own would be found first."""
    python = tmp_path / "python3"
    python.write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} -I -S "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    held = findings(call)["held"]
    assert held["level"] == "bad"
    assert str(python) in held["said"]
    assert "No module named 'gangplan_kfp'" in held["said"]
    assert "first on PATH" in held["remedy"]


def test_versions_that_were_not_tried_are_a_note(
    call: Call, kfp_server: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SDK that is too old, and a server that tells no number."""
    real = metadata.version
    monkeypatch.setattr("gangplan_kfp.client.doctor.version", lambda name: "2.13.0" if name == "kfp" else real(name))
    kfp_server.backend.version = "unknown"
    found = findings(call)
    assert (found["kfp"]["level"], found["kfp"]["said"]) == ("note", "2.13.0: not tried")
    assert found["KFP server"]["level"] == "note"
    assert "2.14 to 2.17" in found["kfp"]["remedy"]


def test_a_step_needs_no_kfp_server(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address it is a note; root is wrong only in a pod."""
    monkeypatch.setenv("GANGPLAN_KFP_HOST", "")
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    found = findings(call)
    assert (found["KFP server"]["level"], found["user"]["level"]) == ("note", "note")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    found = findings(call, "--host", "http://127.0.0.1:1")
    assert (found["KFP server"]["level"], found["user"]["level"]) == ("bad", "bad")
    assert found["rights"]["level"] == "bad"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[Api, set[str]]]:
    """An API server that answers which rights there are, all but those of a set; and that set."""
    lacking: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked = body["spec"]["resourceAttributes"]
            right = f"{asked['verb']} {asked['resource']}/{asked.get('subresource', '')}"
            data = json.dumps({**body, "status": {"allowed": right.rstrip("/") not in lacking}}).encode()
            self.send_response(201)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    config = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    yield connect(kubeconfig=str(tmp_path / "kubeconfig")), lacking
    server.shutdown()
    server.server_close()


def test_rights_of_the_steps_account(cluster: tuple[Api, set[str]]) -> None:
    """What run_on_gang lacks is named by kind and verb; Jobs and pods are always needed, other kinds where used."""
    api, lacking = cluster
    assert [each.level for each in rights(api, "vision")] == ["good"]
    lacking |= {"create jobs", "get pods/log", "delete trainjobs"}
    found = {each.what: each for each in rights(api, "vision")}
    assert {what: each.level for what, each in found.items()} == {
        "rights on jobs.batch": "bad",
        "rights on pods/log": "bad",
        "rights on trainjobs.trainer.kubeflow.org": "note",
    }
    assert found["rights on jobs.batch"].said == "missing in vision: create"
