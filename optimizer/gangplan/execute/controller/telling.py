"""What a pass came to, for those who watch: figures, lines of the log, and a few words on the Lease."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from itertools import chain, islice

from gangplan.execute.carrying import Carried
from gangplan.execute.controller.metrics import Family, Metrics
from gangplan.execute.pool_state import PoolState, pool_states, slots_of
from gangplan.types import Grant, Step

_log = logging.getLogger(__name__)

_NAMED = 20
"""So many waiting and refused steps stand on the Lease; all are in the log."""

_WORDS = 300
POOL = ("pool",)
PASS_FIGURES = (
    Family("gangplan_planned_nodes", "gauge", "Nodes that the plan has in this hour.", POOL),
    Family("gangplan_ordered_nodes", "gauge", "Nodes that the engine was told to have.", POOL),
    Family("gangplan_usable_nodes", "gauge", "Nodes on which new pods can run.", POOL),
    Family("gangplan_granted_slots", "gauge", "Slots that gangs hold.", POOL),
    Family("gangplan_quota_slots", "gauge", "Slots that may be granted.", POOL),
    Family("gangplan_steps_total", "counter", "Steps that were tried, by outcome.", ("kind", "outcome")),
    Family("gangplan_waiting_steps", "gauge", "Steps that wait.", POOL),
    Family("gangplan_refused_steps", "gauge", "Steps that an engine refused in the last pass.", POOL),
    Family("gangplan_passes_total", "counter", "Passes in which all was looked at."),
    Family("gangplan_pass_seconds", "gauge", "Seconds that the last pass took."),
    Family("gangplan_unreachable_engines", "gauge", "Engines that did not answer in the last pass."),
)


class Teller:
    """Tells of passes; what waits or was refused is logged when it changes, and not again at every pass."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._logged: dict[object, str] = {}

    def tell(self, carried: Carried, grants: Iterable[Grant], plan_id: str, now: datetime, seconds: float) -> str:
        """Set the figures, log what is new, and return what stands on the Lease; the pass took so many `seconds`."""
        self._figures(carried, pool_states(carried.goals, carried.observed, grants, now))
        self._metrics.set("gangplan_pass_seconds", seconds)
        self._metrics.add("gangplan_passes_total")
        self._lines(carried)
        return _words(carried, plan_id, now)

    def _figures(self, carried: Carried, states: Iterable[PoolState]) -> None:
        states = tuple(states)
        pools = {(state.goal.pool,): state for state in states}
        nodes = {pool: 0 if state.nodes is None else state.nodes.ordered for pool, state in pools.items()}
        replace = self._metrics.replace
        replace("gangplan_planned_nodes", {pool: state.goal.now for pool, state in pools.items()})
        replace("gangplan_ordered_nodes", nodes)
        replace("gangplan_usable_nodes", {pool: state.usable for pool, state in pools.items()})
        replace("gangplan_granted_slots", {pool: sum(map(slots_of, state.grants)) for pool, state in pools.items()})
        quotas = {pool: sum(quota.slots for quota in state.quotas) for pool, state in pools.items() if state.quotas}
        replace("gangplan_quota_slots", quotas)
        replace("gangplan_waiting_steps", Counter((step.pool,) for step in carried.left))
        replace("gangplan_refused_steps", Counter((taken.step.pool,) for taken in carried.refused))
        self._metrics.set("gangplan_unreachable_engines", len(carried.unreachable))
        for step in carried.done:
            self._metrics.add("gangplan_steps_total", step.kind.value, "done")
        for taken in carried.refused:
            self._metrics.add("gangplan_steps_total", taken.step.kind.value, "refused")

    def _lines(self, carried: Carried) -> None:
        for step in carried.done:
            _log.info("done: %s", step.kind.value, extra=_fields(step))
        told: dict[object, str] = {}
        for taken in carried.refused:
            told["refused", _place(taken.step)] = taken.words
            if self._is_new(told):
                _log.warning("refused: %s", taken.words, extra=_fields(taken.step))
        for step in carried.left:
            told["waits", _place(step)] = step.waits_for
            if self._is_new(told):
                _log.info("waits: %s", step.waits_for, extra={**_fields(step), "held_by": step.held_by[:_NAMED]})
        for engine, why in carried.unreachable.items():
            told["away", engine] = why
            if self._is_new(told):
                _log.warning("away: %s", why, extra={"engine": engine})
        self._logged = told

    def _is_new(self, told: dict[object, str]) -> bool:
        """Tell whether what was noted last is other than in the pass before."""
        key, words = next(reversed(told.items()))
        return self._logged.get(key) != words


def _place(step: Step) -> tuple[str, str, str]:
    return step.kind.value, step.pool, step.place


def _fields(step: Step) -> dict[str, object]:
    fields: dict[str, object] = {"step": step.kind.value, "pool": step.pool, "why": step.why}
    fields |= {"before": step.before, "after": step.after}
    if step.place:
        fields["place"] = step.place
    if step.nodes:
        fields["nodes"] = step.nodes[:_NAMED]
    return fields


def _words(carried: Carried, plan_id: str, now: datetime) -> str:
    """Return the pass in short, as JSON."""
    refused = (f"{of.step.pool}: {of.step.kind.value} was refused: {of.words}" for of in carried.refused)
    waiting = (f"{step.pool}: {step.kind.value} waits for {step.waits_for}" for step in carried.left)
    body = {
        "at": now.isoformat(timespec="seconds"),
        "plan": plan_id,
        "reached": carried.reached,
        "done": len(carried.done),
        "waiting": len(carried.left),
        "refused": len(carried.refused),
        "unreachable": carried.unreachable,
        "first": [words[:_WORDS] for words in islice(chain(refused, waiting), _NAMED)],
    }
    return json.dumps(body)
