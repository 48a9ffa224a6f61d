"""docs/execute-devices.md tells the truth: its blocks for a cluster are executed on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from markdown_it import MarkdownIt

from tests.cluster.conftest import ROOT, Space

PAGE = ROOT / "docs" / "execute-devices.md"


def test_the_page_runs(space: Space, tmp_path: Path) -> None:
    """A gang of claims is held and given back; on a cluster without such devices it has none of them."""
    fences = [one for one in MarkdownIt().parse(PAGE.read_text()) if one.type == "fence"]
    blocks = [one.content for one in fences if one.info == "python cluster"]
    assert len(blocks) == 1
    ran = subprocess.run(
        [sys.executable, "-c", blocks[0]],
        cwd=tmp_path,
        env={**os.environ, "KUBECONFIG": str(space.kubeconfig), "NAMESPACE": space.name},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "of 2 have their devices; pods name train-0, train-1" in ran.stdout
    assert list(space.api.items(f"/apis/resource.k8s.io/v1/namespaces/{space.name}/resourceclaims")) == []
