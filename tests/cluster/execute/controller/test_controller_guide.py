"""docs/controller.md tells the truth: its blocks are executed, in order, on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gangplan.execute import PASS_FIGURES
from gangplan.workflows.execution.controlling import FAMILIES
from tests.cluster.conftest import ROOT, Space
from tests.cluster.servers.process import free_ports
from tests.cluster.test_guide import script

PAGE = ROOT / "docs" / "controller.md"


def test_the_page_runs(space: Space, queue: str, tmp_path: Path) -> None:
    """A controller starts, says that it leads, ends with 0; the manifests have all objects."""
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(space.kubeconfig),
        "GANGPLAN_LEDGER": f"kueue://gangplan/{space.name}/queue",
        "NAMESPACE": space.name,
        "PORT": str(free_ports(1)[0]),
    }
    ran = subprocess.run(
        ["bash", "-c", script(PAGE)],
        cwd=tmp_path,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, (
        f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}\n{(tmp_path / 'controller.log').read_text()}"
    )
    lines = ran.stdout.splitlines()
    assert lines[0] in ("leads", "stands by")
    assert '"message": "stopped"' in ran.stdout


def test_the_page_names_all_figures() -> None:
    """Those of a pass, and those of the process."""
    text = PAGE.read_text()
    assert {family.name for family in PASS_FIGURES} < {family.name for family in FAMILIES}
    assert [family.name for family in FAMILIES if f"`{family.name}`" not in text] == []
