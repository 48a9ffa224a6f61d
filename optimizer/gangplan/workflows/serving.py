"""Serving that follows the published plan: plan and forecast from the store, servers from targets.yaml, joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gangplan import plan as plans
from gangplan.clock import Clock
from gangplan.config import Settings, read_fleet
from gangplan.execute import (
    MinimumStep,
    Served,
    ServingTarget,
    keep_serving,
    open_serving,
    read_serving,
    take_back_serving,
)
from gangplan.tracking import open_store
from gangplan.types import Forecast, Plan


@dataclass(frozen=True, kw_only=True)
class Following:
    """The servers of a cluster, and the plan that they follow."""

    target: ServingTarget
    plan: Plan
    forecast: Forecast
    clock: Clock

    def once(self, *, dry_run: bool = False) -> Served:
        """Write what minimums can be written now, or let the cluster check them."""
        return keep_serving(self.target, self.plan, self.forecast, self.clock(), dry_run=dry_run)

    def take_back(self, steps: Sequence[MinimumStep]) -> Served:
        """Take steps back, the last first."""
        return take_back_serving(self.target, steps)

    def check(self) -> tuple[str, ...]:
        """Return what would keep servers from following the plan, each with its remedy."""
        return self.target.check()


def open_following(settings: Settings, serving: Sequence[Any], *, context: str = "") -> Following:
    """Open the servers that the list `serving` of targets.yaml names, for the newest published plan.

    Raises
    ------
    InputError
        An entry is wrong, or the kubeconfig has no such context.
    NotFoundError
        No plan is published.
    """
    entries = read_serving(serving, read_fleet(settings.fleet_file))
    store = open_store(settings)
    plan, forecast = plans.read_plan(store, plans.read_published(store).plan_id)
    target = open_serving(entries, plan.fleet, context=context)
    return Following(target=target, plan=plan, forecast=forecast, clock=settings.clock)


def serving_lines(served: Served) -> Iterator[str]:
    """Give a line for each step: what was done and why, what waits and for what."""
    for step in served.done:
        yield f"{step.text}: {step.why}"
    for step in served.left:
        yield f"{step.text}, waits: {step.waits_for}"
