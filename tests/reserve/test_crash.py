"""Killing clients, leaders and the server at random points loses nothing that was told, and doubles nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.effort import effort

pytestmark = pytest.mark.present("what the killed held ends by itself")
ROOT = Path(__file__).parents[2]


@pytest.mark.searches
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_kill_9_loses_and_doubles_nothing(tmp_path: Path, database: str) -> None:
    """After many kills all that was acknowledged stands, leases ended, and the log replays."""
    kills = str(effort(20, 300))
    command = [sys.executable, "-m", "tests.reserve.support.crash", "--kills", kills, "--seed", "7", "--pace", "0.08"]
    command += ["--folder", str(tmp_path), "--database", database]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90 + 4 * int(kills), check=False)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["grants"] > int(kills) / 4, found
    assert found["expired"] > 0, found
    assert found["acknowledged"] >= found["grants"] / 2, found
    assert found["killed who led"] > 0, found
    assert found.get("killed servers", 0) > 0 or database == "sqlite", found
