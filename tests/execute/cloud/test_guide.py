"""The guide's blocks that ask a cloud run as they stand, after those before them, against the clouds of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from markdown_it import MarkdownIt
from tests.execute.cloud.aws import StrictAws

from gangplan.config import read_fleet

PAGE = Path(__file__).resolve().parents[3] / "docs" / "execute-clouds.md"


def test_the_guide_runs(aws: StrictAws, tmp_path: Path) -> None:
    """A reader who pastes the blocks, in order, gets no error; the prices are those that were told."""
    fences = [token for token in MarkdownIt().parse(PAGE.read_text()) if token.type == "fence"]
    script = "\n".join(token.content for token in fences if token.info.split()[:1] == ["bash"])
    aws.spot_prices = [("us-east-1a", "2026-03-01T00:00:00Z", "19.75")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "COLUMNS": "160", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    prices = {pool.name: pool.price_per_node_hour for pool in read_fleet(tmp_path / ".gangplan" / "fleet.yaml").pools}
    assert prices == {"h100": 55.04, "spot": 19.75}
