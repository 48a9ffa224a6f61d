"""The guide's blocks run as they stand, those that ask a cloud against the clouds of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from markdown_it import MarkdownIt
from tests.execute.cloud.conftest import REGION, MakeEc2, MakeGce, fleet
from tests.plan.builders import wave

from gangplan import plan
from gangplan.config import read_fleet, write_fleet
from gangplan.execute.opening import Opening, open_engines
from gangplan.execute.targets_file import read_targets
from gangplan.testing import a_forecast, a_plan
from gangplan.tracking import Store

PAGE = Path(__file__).resolve().parents[3] / "docs" / "execute-clouds.md"


def test_the_guide_runs(make_ec2: MakeEc2, mlflow_store: Store, now: datetime, tmp_path: Path) -> None:
    """A plan is carried out on an Auto Scaling group; the prices are those that were told."""
    ec2 = make_ec2(1)
    home = tmp_path / ".gangplan"
    home.mkdir()
    (home / "mlflow").symlink_to(tmp_path / "mlflow")
    write_fleet(home / "fleet.yaml", fleet())
    nodes = f"{{kind: ec2, region: {REGION}, group: {ec2.group}}}"
    (home / "targets.yaml").write_text(f"pools: {{h100: {{nodes: {nodes}}}}}")
    ahead = a_forecast({("vision", "throughput", "h100"): wave(12, 0.5, 24)}, now)
    kept = plan.log_plan(a_plan(now, {"h100": [3] * 24}, fleet().pools), ahead, mlflow_store)
    plan.mark(mlflow_store, kept, "published", "by a test")
    ec2.world.spot_prices = [("us-east-1a", "2026-03-01T00:00:00Z", "19.75")]

    fences = [token for token in MarkdownIt().parse(PAGE.read_text()) if token.type == "fence"]
    script = "\n".join(token.content for token in fences if token.info.split()[:1] == ["bash"])
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
    assert "nothing is in the way" in ran.stdout
    assert ec2.seen().ordered == 3
    prices = {pool.name: pool.price_per_node_hour for pool in read_fleet(home / "fleet.yaml").pools}
    assert prices == {"h100": 55.04, "spot": 19.75}


def test_the_targets_file_opens_both_clouds(
    make_ec2: MakeEc2, make_gce: MakeGce, now: datetime, tmp_path: Path
) -> None:
    """Each kind has its engine, which orders the pool's nodes."""
    for kind, more in (
        ("ec2", f"region: {REGION}, group: {make_ec2(2).group}"),
        ("gce", f"project: lab, zone: us-central1-a, group: gpus, endpoint: '{make_gce(2).world.address}'"),
    ):
        file = tmp_path / f"{kind}.yaml"
        file.write_text(f"pools: {{h100: {{nodes: {{kind: {kind}, {more}}}}}}}")
        targets = read_targets(file, fleet())
        (engine,) = open_engines(Opening(targets=targets, fleet=fleet(), fleet_file=file, clock=lambda: now))
        (nodes,) = engine.target.observe().nodes
        assert (engine.target.name, engine.orders, nodes.ordered) == (kind, frozenset({"h100"}), 2)
        engine.target.close()
