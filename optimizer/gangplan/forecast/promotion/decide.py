"""What becomes of a version: after its training, when its days in the shadow are over, and what a person is asked."""

from __future__ import annotations

from datetime import datetime

from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.forecast import registry
from gangplan.forecast.evaluation import CHAMPION_TOLERANCE, GateResult
from gangplan.forecast.promotion import review, shadow
from gangplan.forecast.registry import Action, Alias, Change
from gangplan.tracking import MODEL, Store
from gangplan.types import Usage

GATE = "gate"
"""Who decides when no person did."""

ASKED = "asked"
"""The tag of a version about which a person was asked."""


def decide_after_training(store: Store, version: str, gate: GateResult, *, settings: Settings, at: datetime) -> None:
    """Promote a version, let it wait or refuse it, once: a training that is resumed finds the decision made."""
    registry.finish_pending(store)
    if any(change.version == version for change in registry.history(store)):
        return
    first = registry.alias(store, Alias.CHAMPION) is None
    reason = store.client.get_model_version(MODEL, version).tags["reason"]
    action, why = _decision(gate, reason, settings, first=first)
    if not _challenger_in_shadow(store):
        store.client.set_registered_model_alias(MODEL, Alias.CHALLENGER, version)
    registry.record_decision(store, action, version, by=GATE, why=why, at=at)


def decide_challenger(store: Store, usage: Usage, *, settings: Settings, clock: Clock) -> Change | None:
    """Record what was done by hand, let the challenger forecast, decide on it when its days are over.

    Where a person decides (`promotion`), the gate only ever rejects. Returns the decision, if one was made.
    """
    by_hand = registry.record_manual_changes(store, clock)
    shadow.observe(store, usage, settings)
    version = registry.alias(store, Alias.CHALLENGER)
    standing = None if version is None else shadow.standing(store, version, usage)
    if version is None or standing is None or standing.gap is None or not standing.done or not _waits(store, version):
        return by_hand
    why = f"in the shadow: {standing.words}"
    if standing.gap.change > CHAMPION_TOLERANCE - 1:
        return review.reject(store, version, by=GATE, why=why, clock=clock).changes[-1]
    if settings.promotion == "person":
        return by_hand
    return registry.record_decision(store, Action.PROMOTED, version, by=GATE, why=why, at=clock())


def open_questions(store: Store) -> tuple[str, ...]:
    """Return the version that waits for a person and about which none was asked yet, and mark it as asked.

    That is the challenger, if it passed the gate, its days in the shadow are over and nobody has decided on it.
    """
    version = registry.alias(store, Alias.CHALLENGER)
    if version is None or not _waits(store, version):
        return ()
    standing = shadow.standing(store, version)
    tags = dict(store.client.get_model_version(MODEL, version).tags)
    if tags.get(ASKED) or (standing is not None and not standing.done):
        return ()
    store.client.set_model_version_tag(MODEL, version, ASKED, "yes")
    return (version,)


def _decision(gate: GateResult, reason: str, settings: Settings, *, first: bool) -> tuple[Action, str]:
    """Return what is decided, and why: nobody is promoted past the gate, a shadow or a person that come first."""
    if first:
        return Action.PROMOTED, reason
    if not gate.passed:
        return Action.REFUSED, reason
    if settings.shadow_days > 0:
        return Action.WAITING, f"the gate passed; {settings.shadow_days:g} days beside the champion come first"
    if settings.promotion == "person":
        return Action.WAITING, "the gate passed; a person decides: `gangplan review approve` or `reject`"
    return Action.PROMOTED, reason


def _challenger_in_shadow(store: Store) -> bool:
    """Tell whether the challenger passed the gate and is still in its shadow: then a later one does not take over."""
    present = registry.alias(store, Alias.CHALLENGER)
    if present is None:
        return False
    tags = dict(store.client.get_model_version(MODEL, present).tags)
    return tags.get("gate") == "passed" and float(tags.get("shadow_days", "0")) > 0 and "rejected_why" not in tags


def _waits(store: Store, version: str) -> bool:
    """Tell whether a version passed the gate and nothing was decided since."""
    shown = review.show_version(store, version)
    return shown.gate == "passed" and bool(shown.changes) and shown.changes[-1].action is Action.WAITING
