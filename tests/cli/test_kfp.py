"""`gangplan kfp ...` where KFP is not installed, and the names that a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.command import Call, caller

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command in this process."""
    return caller(monkeypatch, capsys)


@pytest.mark.parametrize("words", [("compile",), ("submit", "reserved_training"), ("schedule", "--list"), ("status",)])
def test_a_missing_extra_is_named(call: Call, words: tuple[str, ...]) -> None:
    """The core has the commands and no KFP; what to install is said in one line."""
    if find_spec("kfp"):
        pytest.skip("kfp is installed here: tests/kfp has these commands")
    said = call("kfp", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err == "error: extra: 'kfp' is not installed (kfp is missing): pip install 'gangplan[kfp]'\n"


def test_each_command_has_an_example(call: Call) -> None:
    """The help of each ends with one."""
    for name in ("compile", "submit", "schedule", "status", "doctor"):
        assert f"gangplan kfp {name}" in " ".join(call("kfp", name, "--help").out.split())


def test_a_shell_completes_the_names_of_pipelines() -> None:
    """They are found without KFP, which takes seconds to import."""
    command = Path(sys.executable).parent / "gangplan"
    words = {"_GANGPLAN_COMPLETE": "complete_bash", "COMP_WORDS": "gangplan kfp submit res", "COMP_CWORD": "3"}
    ran = subprocess.run([command], env=os.environ | words, capture_output=True, text=True, check=True)
    compiled = {path.stem for path in (ROOT / "kfp_components" / "compiled").glob("res*.yaml")}
    assert set(ran.stdout.split()) == compiled
