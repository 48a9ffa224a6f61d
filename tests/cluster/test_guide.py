"""docs/kubernetes.md tells the truth: its blocks for a cluster are executed, in order, on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from tests.cluster.conftest import ROOT, Space, until
from tests.cluster.objects import condition, jobs

PAGE = ROOT / "docs" / "kubernetes.md"


def script(page: Path = PAGE) -> str:
    """Put a page's blocks for a cluster into one shell script."""
    parts = ["set -euo pipefail"]
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence" and token.info.split()[1:] == ["cluster"]:
            bash = token.info.startswith("bash")
            parts.append(token.content if bash else f"python - <<'END_OF_PYTHON'\n{token.content}END_OF_PYTHON")
    return "\n".join(parts)


def test_the_page_runs(space: Space, queue: str, tmp_path: Path) -> None:
    """A reader who pastes the blocks gets no error, and the two Jobs that they start complete."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ledger = f"kueue://gangplan/{space.name}/queue"
    own = {"PATH": path, "KUBECONFIG": str(space.kubeconfig), "GANGPLAN_LEDGER": ledger, "COLUMNS": "120"}
    ran = subprocess.run(
        ["bash", "-c", script()],
        cwd=tmp_path,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    for name in ("train", "train-2"):
        until(lambda name=name: condition(space.api.get(f"{jobs(space.name)}/{name}"), "Complete") == "True")
    kinds = {one["kind"] for one in yaml.safe_load_all((tmp_path / "gangplan.yaml").read_text())}
    assert kinds == {"Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
