"""docs/execute-kubernetes.md tells the truth: its blocks for a cluster are executed, in order, on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from gangplan.kube import KUEUE
from tests.cluster.conftest import ROOT
from tests.cluster.execute.conftest import Field
from tests.cluster.servers import build
from tests.cluster.test_guide import script

PAGE = ROOT / "docs" / "execute-kubernetes.md"


def test_the_page_runs(ground: Field, tmp_path: Path) -> None:
    """On a pool, a tenant and a cohort of the test's own: the quota is that of the two nodes in the end."""
    pool, space = ground.pool(nodes=2), ground.space
    cohort = f"{space.name}-all"
    own = {"h100-owned": pool.name, "vision": space.name, "cohort gangplan": f"cohort {cohort}"}
    text = script(PAGE)
    for name, value in (own | {'cohort="gangplan"': f'cohort="{cohort}"'}).items():
        text = text.replace(name, value)
    kinds = {"cohorts": cohort, "clusterqueues": space.name, "resourceflavors": pool.name}
    space.made += [f"{KUEUE}/{kind}/{name}" for kind, name in reversed(kinds.items())]
    path = f"{Path(sys.executable).parent}:{Path(build.binary('kubectl')).parent}:{os.environ['PATH']}"
    given = {"PATH": path, "KUBECONFIG": str(space.kubeconfig)}
    ran = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("GANGPLAN_")} | given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    assert ground.nominal("cohorts", cohort) == [16]
    ground.admitted("first", 8, queue=cohort)
    names = {one["metadata"]["name"] for one in yaml.safe_load_all((tmp_path / "rights.yaml").read_text())}
    assert "gangplan-executor" in names
