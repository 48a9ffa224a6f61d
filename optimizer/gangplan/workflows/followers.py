"""What follows the published plan beside nodes and quotas: servers' minimums, power caps, answers to Kueue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from gangplan import plan
from gangplan.config import Settings
from gangplan.execute import ServingTarget, answer_all, keep_serving
from gangplan.kube import Api, connect
from gangplan.tracking import open_store
from gangplan.types import Forecast, PlanId
from gangplan.workflows.carrying_out import Pass
from gangplan.workflows.power import bring_caps

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Followers:
    """Brings to the plan what follows it, by what the last pass saw.

    `api` is the cluster, where targets.yaml names no other by its context. `may_begin` is called before each piece of
    work, and `may_write` before each try of a write: what they raise (UnavailableError) keeps it back.
    """

    settings: Settings
    api: Api
    may_begin: Callable[[], None]
    may_write: Callable[[], None]
    _forecast: tuple[PlanId, Forecast] | None = field(default=None, init=False)
    _serving: tuple[object, ServingTarget] | None = field(default=None, init=False)
    _apis: dict[str, Api] = field(default_factory=dict[str, Api], init=False)

    def serve(self, made: Pass) -> None:
        """Write the minimums of the servers that targets.yaml names."""
        if not made.targets.serving:
            return
        self.may_begin()
        served = keep_serving(self._target(made), made.plan, self._forecast_of(made.plan.plan_id), made.at)
        for step in served.done:
            fields = {"step": "minimum", "server": step.key, "before": step.before, "after": step.after}
            _log.info("done: %s", step.text, extra={**fields, "why": step.why})

    def cap(self, made: Pass) -> None:
        """Label nodes with the plan's power caps."""
        if made.plan.caps is None:
            return
        self.may_begin()
        for step in bring_caps(made.plan, self._api(made), self.settings.clock()):
            fields = {"step": "power cap", "pool": step.pool, "nodes": [step.node], "why": step.why}
            _log.info("done: power cap", extra={**fields, "before": step.before, "after": step.after})

    def answer(self, made: Pass) -> None:
        """Answer those who ask Kueue for nodes which the plan will bring."""
        self.may_begin()
        for answer in answer_all(self._api(made), made.plan, made.carried.observed, made.grants, made.at):
            if answer.new:
                fields = {"request": f"{answer.request.namespace}/{answer.request.name}", "said": answer.said.value}
                _log.info("answered: %s", answer.message, extra=fields)

    def _api(self, made: Pass) -> Api:
        context = made.targets.cluster
        if context not in self._apis:
            self._apis[context] = (connect(context) if context else self.api).guarded(self.may_write)
        return self._apis[context]

    def _target(self, made: Pass) -> ServingTarget:
        key = (made.targets.serving, made.targets.cluster, made.plan.fleet.pools)
        if self._serving is None or self._serving[0] != key:
            self._serving = key, ServingTarget(made.targets.serving, made.plan.fleet, self._api(made))
        return self._serving[1]

    def _forecast_of(self, plan_id: PlanId) -> Forecast:
        if self._forecast is None or self._forecast[0] != plan_id:
            self._forecast = plan_id, plan.read_plan(open_store(self.settings), plan_id)[1]
        return self._forecast[1]
