"""What train_demand_model and plan_capacity do: the cycle's stages, with a step's parameters and its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gangplan_kfp.support.settings import say, settings_from

if TYPE_CHECKING:
    from gangplan.types import Plan, Training


def train(settings: Mapping[str, Any], *, mlflow: str, home: str) -> Training:
    """Train, back-test, register; promote if the gate passes."""
    read = settings_from(settings, mlflow=mlflow, home=home)
    from gangplan import cycle  # takes seconds: a wrong setting is told before it

    return cycle.train(read, progress=_tell)


def make_plan(settings: Mapping[str, Any], *, mlflow: str, ledger: str, fleet: str, home: str) -> Plan:
    """Forecast, plan, keep the plan, publish the calendar."""
    read = settings_from(settings, mlflow=mlflow, ledger=ledger, fleet=fleet, home=home)
    from gangplan import cycle

    return cycle.make_plan(read, progress=_tell)


def _tell(done: float, total: float, text: str, /) -> None:
    """Print how far the stage is."""
    say(f"{done:g}/{total:g} {text}")
