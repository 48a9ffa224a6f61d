"""The page about `gangplan kfp` does what it says: its commands are called one after another, on the tests' server."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from tests.command import caller
from tests.kfp.server.app import Double
from tests.kfp.test_guide import ROOT, blocks

from gangplan.tracking import Store
from gangplan_kfp.client import runs

PAGE = ROOT / "docs" / "kfp-client.md"


def test_the_page_runs(
    kfp_server: Double,
    ledger_url: str,
    mlflow_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A reader who pastes the blocks, in order, gets no error: two runs are there, and no schedule is left."""
    monkeypatch.setenv("GANGPLAN_MLFLOW", mlflow_store.uri)
    monkeypatch.setenv("GANGPLAN_LEDGER", ledger_url)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setattr(runs, "LOOK_EVERY_S", 0.0)
    monkeypatch.chdir(tmp_path)
    call = caller(monkeypatch, capsys)
    for line in filter(None, "\n".join(blocks(PAGE, "bash")).splitlines()):
        name, *words = shlex.split(line, comments=True)
        assert name == "gangplan"
        said = call(*words)
        assert said.code == 0, (line, said)
    followed, sent = kfp_server.backend.runs.values()
    assert (followed["state"], sent["display_name"]) == ("SUCCEEDED", "monday")
    assert kfp_server.backend.recurring_runs == {}
    made = [path for method, path in kfp_server.backend.calls if method == "POST" and path.endswith("/recurringruns")]
    assert len(made) == 2
