"""What follows a pass of the plan on a cluster: answers to Kueue, MIG layouts, and the requests of running pods."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from gangplan import telemetry
from gangplan.errors import GangplanError
from gangplan.execute import Layouts, LayoutTarget, Resize, ResizeRules, answer_all, resize_all
from gangplan.kube import Api
from gangplan.types import Step
from gangplan.workflows.carrying_out import Pass

_log = logging.getLogger(__name__)

PROMETHEUS = "prometheus+"
"""How the source of telemetry begins that also knows what containers used."""


class AfterPass:
    """What is done on a cluster after each pass, by what the pass saw; `source` is where telemetry is read.

    One kind of work that fails, as for a right that is missing, holds up no other.
    """

    def __init__(self, api: Api, source: str) -> None:
        self._api, self._source = api, source
        self._rules: ResizeRules = {}
        self._told: dict[str, set[str]] = {}

    def once(self, made: Pass) -> None:
        """Answer those who ask Kueue for nodes, and take the next steps of layouts."""
        self._rules = made.targets.resize
        seen = made.carried.observed
        self._try("answers to Kueue", lambda: answer_all(self._api, made.plan, seen, made.grants, made.at))
        for group in made.targets.layouts:
            name = f"layouts of {', '.join(group.configs)}"
            self._try(name, lambda name=name, group=group: self._tell(name, _waits(self._arrange(group, made))))

    def _arrange(self, group: Layouts, made: Pass) -> tuple[Step, ...]:
        return LayoutTarget(self._api, group).carry_on(made.plan, made.carried.observed, made.grants, made.at)

    def _try(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except GangplanError as error:
            self._tell(name, {"failed": str(error)})

    def _tell(self, name: str, texts: dict[str, str]) -> None:
        """Say what holds work up, once for each reason."""
        for key in texts.keys() - self._told.get(name, set()):
            _log.warning("%s: %s", name, texts[key])
        self._told[name] = set(texts)

    def resize(self, now: datetime) -> tuple[Resize, ...]:
        """Resize the running pods of the classes that have a rule, where Prometheus knows what they used.

        Every change is returned, with why some wait.
        """
        if not self._rules or not self._source.startswith(PROMETHEUS):
            return ()
        changes = resize_all(self._api, telemetry.read_containers(self._source, now), self._rules)
        waits = {f"{one.pod.namespace}/{one.pod.name}": one.waits_for for one in changes if one.waits_for}
        self._tell("resize", {name: f"{name}: {why}" for name, why in waits.items()})
        return changes


def _waits(steps: Iterable[Step]) -> dict[str, str]:
    """Return why nodes wait, by the node and the kind of reason: the words of one reason change with the time."""
    return {f"{step.kind} {step.nodes} {step.waits_for[:30]}": step.waits_for for step in steps if step.waits_for}
