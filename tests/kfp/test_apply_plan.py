"""The step apply_plan: one pass of the published plan, which fails where an engine refuses a step."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from gangplan import plan
from gangplan.config import read_fleet, write_fleet
from gangplan.testing import a_forecast, a_plan, a_pool
from gangplan.tracking import Store
from gangplan.types import Fleet
from gangplan_kfp.components import apply_plan

POOLS = (a_pool("h100-a", max_nodes=4), a_pool("h100-b", max_nodes=2))


@pytest.fixture
def published(home: Path, mlflow_store: Store, now: datetime) -> str:
    """The URI of a store whose published plan has three nodes of one pool, and none of the other."""
    write_fleet(home / "fleet.yaml", Fleet(pools=POOLS, nodes={"h100-a": 1, "h100-b": 2}))
    ahead = a_forecast({("vision", "throughput", "h100"): [4.0] * 24}, now)
    kept = plan.log_plan(a_plan(now, {"h100-a": [3] * 24, "h100-b": [0] * 24}, POOLS), ahead, mlflow_store)
    plan.mark(mlflow_store, kept, "published", "by a test")
    return mlflow_store.uri


def test_a_pass_takes_the_steps_and_shows_them(published: str, home: Path, runs: Path) -> None:
    """A dry run changes nothing; then the fleet file has the plan's numbers; once more finds nothing to do."""
    shown = apply_plan(run_id="run-1", mlflow=published, dry_run=True)
    assert (shown.outputs["reached"], shown.outputs["done"]) == (False, 2)
    assert read_fleet(home / "fleet.yaml").nodes == {"h100-a": 1, "h100-b": 2}
    done = apply_plan(run_id="run-2", mlflow=published)
    assert (done.outputs["reached"], done.outputs["done"], done.outputs["waiting"]) == (True, 2, 0)
    assert read_fleet(home / "fleet.yaml").nodes == {"h100-a": 3, "h100-b": 0}
    assert "| done | h100-a | order | 1 | 3 |" in Path(done.outputs["steps"].path).read_text()
    assert apply_plan(run_id="run-3", mlflow=published).outputs["done"] == 0


def test_a_refused_step_fails_the_run(published: str, home: Path, runs: Path) -> None:
    """What could be done is done all the same."""
    smaller = (a_pool("h100-a", max_nodes=2), POOLS[1])
    write_fleet(home / "fleet.yaml", Fleet(pools=smaller, nodes={"h100-a": 1, "h100-b": 2}))
    with pytest.raises(RuntimeError, match="apply-plan"):
        apply_plan(run_id="run-1", mlflow=published)
    assert read_fleet(home / "fleet.yaml").nodes == {"h100-a": 1, "h100-b": 0}
