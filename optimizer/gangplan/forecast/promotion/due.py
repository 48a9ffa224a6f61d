"""What is due in the registry: hand-made changes recorded, shadows that are over decided, a person asked once."""

from __future__ import annotations

from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.forecast import registry
from gangplan.forecast.evaluation import CHAMPION_TOLERANCE
from gangplan.forecast.promotion import review, shadow
from gangplan.forecast.promotion.decide import GATE
from gangplan.forecast.promotion.shadow import ShadowStanding
from gangplan.forecast.registry import Change
from gangplan.tracking import MODEL, Store
from gangplan.types import Usage

ASKED = "asked"
"""The tag of a version about which a person was asked."""


def settle(store: Store, usage: Usage, *, settings: Settings, clock: Clock) -> Change | None:
    """Record what was done by hand, let the challenger forecast, decide on it when its days are over.

    Where a person decides (`promotion`), the gate only ever rejects. Returns the decision, if one was made.
    """
    by_hand = registry.sync(store, clock)
    shadow.observe(store, usage, settings)
    version = registry.alias(store, registry.CHALLENGER)
    found = None if version is None else shadow.standing(store, version, usage)
    if version is None or found is None or found.gap is None or not found.done or not _waits(store, version):
        return by_hand
    if found.gap.change > CHAMPION_TOLERANCE - 1:
        return review.reject(store, version, by=GATE, why=f"in the shadow: {found.words}", clock=clock).changes[-1]
    if settings.promotion == "person":
        return by_hand
    registry.crown(store, _promotion(store, version, found, clock))
    return registry.history(store)[-1]


def open_questions(store: Store) -> tuple[str, ...]:
    """Return the version that waits for a person and about which none was asked yet, and mark it as asked.

    That is the challenger, if it passed the gate, its days in the shadow are over and nobody has decided on it.
    """
    version = registry.alias(store, registry.CHALLENGER)
    if version is None or not _waits(store, version):
        return ()
    found = shadow.standing(store, version)
    tags = dict(store.client.get_model_version(MODEL, version).tags)
    if tags.get(ASKED) or (found is not None and not found.done):
        return ()
    store.client.set_model_version_tag(MODEL, version, ASKED, "yes")
    return (version,)


def _waits(store: Store, version: str) -> bool:
    """Tell whether a version passed the gate and nothing was decided since."""
    last = review.show_version(store, version)
    return last.gate == "passed" and bool(last.changes) and last.changes[-1].action == registry.WAITING


def _promotion(store: Store, version: str, found: ShadowStanding, clock: Clock) -> Change:
    """Say why a version leaves its shadow as champion."""
    before = registry.alias(store, registry.CHAMPION)
    why = f"in the shadow: {found.words}"
    return Change(at=clock(), by=GATE, action=registry.PROMOTED, version=version, why=why, champion_before=before)
