"""What follows the published plan beside nodes, quotas and servers: power caps, answers to Kueue, MIG layouts, pods."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gangplan import telemetry
from gangplan.config import Settings
from gangplan.execute import LayoutTarget, answer_all, resize_all
from gangplan.kube import Api, connect
from gangplan.types import Step
from gangplan.workflows.carrying_out import Pass
from gangplan.workflows.power import bring_caps

_log = logging.getLogger(__name__)

PROMETHEUS = "prometheus+"
"""How the source of telemetry begins that also knows what containers used."""


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
    _told: dict[str, set[str]] = field(default_factory=dict[str, set[str]], init=False)
    _apis: dict[str, Api] = field(default_factory=dict[str, Api], init=False)

    def cap(self, made: Pass) -> None:
        """Label the nodes of the pools that `power` names with the plan's caps for the gangs on them.

        A plan without caps takes away the labels that an earlier one left.
        """
        if not made.targets.power.pools:
            return
        self.may_begin()
        pools = made.targets.power.pools
        for step in bring_caps(made.plan, self._api(made), self.settings.clock(), pools=pools):
            fields = {"step": "power cap", "pool": step.pool, "nodes": [step.node], "why": step.why}
            _log.info("done: power cap", extra={**fields, "before": step.before, "after": step.after})

    def arrange(self, made: Pass) -> None:
        """Take the next steps of the MIG layouts."""
        for group in made.targets.layouts:
            self.may_begin()
            target = LayoutTarget(self._api(made), group)
            steps = target.carry_on(made.plan, made.carried.observed, made.grants, made.at)
            self._wait(f"layouts of {', '.join(group.configs)}", _waits(steps))

    def resize(self, made: Pass) -> None:
        """Resize the running pods of the classes that have a rule, where Prometheus knows what they used."""
        source, rules = self.settings.telemetry, made.targets.resize
        if not rules or not source.startswith(PROMETHEUS):
            return
        self.may_begin()
        changes = resize_all(self._api(made), telemetry.read_containers(source, self.settings.clock()), rules)
        waits = {f"{each.pod.namespace}/{each.pod.name}": each.waits_for for each in changes if each.waits_for}
        self._wait("resize", {name: f"{name}: {why}" for name, why in waits.items()})

    def _wait(self, name: str, texts: dict[str, str]) -> None:
        """Say what holds work up, once for each reason."""
        for key in texts.keys() - self._told.get(name, set()):
            _log.warning("%s: %s", name, texts[key])
        self._told[name] = set(texts)

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


def _waits(steps: Iterable[Step]) -> dict[str, str]:
    """Return why nodes wait, by the node and the kind of reason: the words of one reason change with the time."""
    return {f"{step.kind} {step.nodes} {step.waits_for[:30]}": step.waits_for for step in steps if step.waits_for}
