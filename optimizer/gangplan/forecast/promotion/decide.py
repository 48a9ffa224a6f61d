"""What becomes of a version when it has been trained, and when its days in the shadow are over."""

from __future__ import annotations

from datetime import datetime

from gangplan.config import Settings
from gangplan.forecast import registry
from gangplan.forecast.evaluation import Verdict
from gangplan.forecast.registry import Change
from gangplan.tracking import MODEL, Store

GATE = "gate"
"""Who promotes when no person did."""


def after_training(store: Store, version: str, verdict: Verdict, *, settings: Settings, moment: datetime) -> None:
    """Promote, keep waiting or refuse a version, once; a training that is taken up finds it done."""
    registry.finish(store)
    if any(change.version == version for change in registry.history(store)):
        return
    before = registry.alias(store, registry.CHAMPION)
    tags = dict(store.client.get_model_version(MODEL, version).tags)
    action, why = _outcome(verdict, tags["reason"], settings, first=before is None)
    if not _in_shadow(store):
        store.client.set_registered_model_alias(MODEL, registry.CHALLENGER, version)
    change = Change(at=moment, by=GATE, action=action, version=version, why=why, champion_before=before)
    if action == registry.PROMOTED:
        registry.crown(store, change)
    else:
        registry.record(store, change)


def _outcome(verdict: Verdict, reason: str, settings: Settings, *, first: bool) -> tuple[str, str]:
    """What is done, and why: nothing is promoted past the gate, a shadow or a person that it has to pass."""
    if first:
        return registry.PROMOTED, reason
    if not verdict.passed:
        return registry.REFUSED, reason
    if settings.shadow_days > 0:
        return registry.WAITING, f"the gate passed; {settings.shadow_days:g} days beside the champion come first"
    if settings.promotion == "person":
        return registry.WAITING, "the gate passed; a person decides: `gangplan review approve` or `reject`"
    return registry.PROMOTED, reason


def _in_shadow(store: Store) -> bool:
    """Tell whether the challenger passed the gate and is still in its shadow: then a later one does not take over."""
    present = registry.alias(store, registry.CHALLENGER)
    if present is None:
        return False
    tags = dict(store.client.get_model_version(MODEL, present).tags)
    return tags.get("gate") == "passed" and float(tags.get("shadow_days", "0")) > 0 and "rejected_why" not in tags
