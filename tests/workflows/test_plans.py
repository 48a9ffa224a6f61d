"""Plans that are made once for who asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gangplan import plan
from gangplan.config import Settings
from gangplan.reserve import OperableLedger
from gangplan.testing import NOW, FakeClock, a_calendar, a_forecast, a_pool, memory_ledger
from gangplan.tracking import Store
from gangplan.types import Fleet, Forecast
from gangplan.workflows import Planning

POOL = a_pool(max_nodes=4)
FLEET = Fleet(pools=(POOL,), nodes={POOL.name: 4})


@pytest.fixture
def ahead() -> Forecast:
    """A forecast of one GPU."""
    return a_forecast({("vision", "throughput", "h100"): [1.0] * 24}, NOW)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A small plan's settings."""
    return Settings(home=tmp_path, horizon_hours=24, scenarios=1)


def test_a_plan_is_found_by_the_name_of_who_asked(ahead: Forecast, settings: Settings, mlflow_store: Store) -> None:
    """It is published when its making is taken up, once, and not over a newer one."""
    clock = FakeClock()
    ledger = memory_ledger(clock, a_calendar([POOL], hours=[4] * 24))
    where = Planning(store=mlflow_store, ledger=ledger, settings=settings, clock=clock)
    assert plan.plan_made_once(mlflow_store, "run-1") is None
    made = where.make(ahead, FLEET, hold=True, once="run-1")
    found = plan.plan_made_once(mlflow_store, "run-1")
    assert found is not None
    assert found.plan_id == made.plan_id
    where.settle(found, hold=True)
    assert not plan.is_published(mlflow_store, found)
    for _ in range(2):
        where.settle(found)
    assert ledger.published() == made.plan_id
    assert _publications(ledger) == 2  # the first calendar and this one

    held = where.make(ahead, FLEET, hold=True, once="run-2")
    newest = where.make(a_forecast({("vision", "throughput", "h100"): [2.0] * 24}, NOW), FLEET)
    where.settle(held)
    assert plan.read_published(mlflow_store).run_id == newest.run_id
    assert not plan.is_published(mlflow_store, held)


def _publications(ledger: OperableLedger) -> int:
    """Count the calendars that were published."""
    names: Iterator[str] = (name for event in ledger.audit() for name, _ in event.commands)
    return sum(name == "publish" for name in names)
