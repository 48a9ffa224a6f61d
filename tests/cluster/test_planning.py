"""Plans beside a ledger on Kueue, which has no rules to plan by and no calendar to publish to."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from gangplan import plan
from gangplan.clock import floor_hour
from gangplan.config import Settings
from gangplan.testing import a_forecast, a_pool, a_request
from gangplan.tracking import Store
from gangplan.types import Fleet, ReservationState
from gangplan.workflows.plans import Planning
from tests.cluster.conftest import Space


def test_a_plan_is_made_kept_and_published_with_the_nodes_that_reservations_need(
    space: Space, tmp_path: Path, mlflow_store: Store
) -> None:
    """A flavor named like its pool: a plan for no demand keeps the held nodes, whatever the cluster calls them."""
    flavor = space.flavor(topology="gangplan")
    space.queue({flavor: 16})
    ledger = space.ledger()
    held = ledger.submit(a_request("now", duration=timedelta(hours=2)))
    assert held.state is ReservationState.GRANTED
    pool = a_pool(flavor, accelerator="h100", max_nodes=4, gpus_per_node=8)
    ahead = a_forecast({("vision", "throughput", "h100"): [0.0] * 24}, floor_hour(space.clock()))
    settings = Settings(home=tmp_path, horizon_hours=24, scenarios=1)
    planning = Planning(store=mlflow_store, ledger=ledger, settings=settings, clock=space.clock)  # type: ignore[arg-type]
    made = planning.make(ahead, Fleet(pools=(pool,), nodes={flavor: 2}))
    assert list(made.nodes.sort("hour")["nodes"][:4]) == [1, 1, 1, 0]
    assert plan.read_plan(mlflow_store)[0].plan_id == made.plan_id
    published = plan.plan_before(mlflow_store, made.issued_at + timedelta(hours=1))
    assert published is not None
    assert published.plan_id == made.plan_id
