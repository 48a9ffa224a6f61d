"""Editors and type checkers know what an author may write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).parent / "typed" / "sample.py"
CHECKER = ROOT / ".envs" / "core" / "bin" / "basedpyright"


@pytest.mark.skipif(not CHECKER.exists(), reason="the type checker is in the core environment")
def test_wrong_lines_are_found_and_no_others(tmp_path: Path) -> None:
    """`@task.gang`, `gang`, `hold` and `slots` are typed: each line that is marked as wrong is, and no other."""
    settings = {
        "include": [str(SAMPLE)],
        "extraPaths": [str(ROOT / folder) for folder in ("optimizer", "plugins")],
        "typeCheckingMode": "standard",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [str(CHECKER), "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    said = json.loads(ran.stdout)["generalDiagnostics"]
    found = {one["range"]["start"]["line"] + 1: one["message"] for one in said if one["severity"] == "error"}
    wrong = {number for number, line in enumerate(SAMPLE.read_text().splitlines(), 1) if "# wrong" in line}
    assert set(found) == wrong, found
