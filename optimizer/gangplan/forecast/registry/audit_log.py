# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (MLflow's registry calls carry no types)
"""Every change of an alias, kept with who, when and why; and the one way to change one, which a kill cannot halve.

A change is first written down as pending, then made, then added to the history: one tag each on the registered model,
never written over. What was pending when a process was killed is finished by the next one that looks. An alias that the
history does not explain was moved by hand, in MLflow's page or by a program: that is honoured, and recorded when it is
first seen.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from gangplan.clock import Clock
from gangplan.forecast.registry.model_versions import CHALLENGER, CHAMPION, alias
from gangplan.tracking import MODEL, Store

PROMOTED, REFUSED, WAITING = "promoted", "refused", "waiting"
APPROVED, FORCED, REJECTED, ROLLED_BACK = "approved", "approved by force", "rejected", "rolled back to"
BY_HAND, TAKEN_AWAY = "made champion by hand", "taken away by hand"
CROWNING = (PROMOTED, APPROVED, FORCED, ROLLED_BACK, BY_HAND)

BY_TAG, WHY_TAG = "gangplan.by", "gangplan.why"
"""Tags by which somebody who moves an alias by hand may say who and why: MLflow keeps neither."""

_AUDIT, _PENDING = "audit.", "pending"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One decision about an alias: who, when, why, and which version was champion before it."""

    at: datetime
    by: str
    action: str
    version: str
    why: str
    champion_before: str | None


def crown(store: Store, change: Change) -> None:
    """Make a version the champion, and keep who, when and why with it and in the model's history."""
    body = {**_body(change), "key": _key(_tags(store), change, uuid.uuid4().hex[:8])}
    store.client.set_registered_model_tag(MODEL, _PENDING, json.dumps(body, sort_keys=True))
    finish(store)


def finish(store: Store) -> None:
    """Carry out the change that is pending, if there is one; done twice, or by two at once, it is the same."""
    pending = _tags(store).get(_PENDING)
    if pending is None:
        return
    body: dict[str, Any] = json.loads(pending)
    key, version = body.pop("key"), body["version"]
    for name in ("by", "at", "why"):
        store.client.set_model_version_tag(MODEL, version, f"promoted_{name}", body[name])
    store.client.set_registered_model_alias(MODEL, CHAMPION, version)
    if alias(store, CHALLENGER) == version:
        store.client.delete_registered_model_alias(MODEL, CHALLENGER)
    store.client.set_registered_model_tag(MODEL, key, json.dumps(body, sort_keys=True))
    store.client.delete_registered_model_tag(MODEL, _PENDING)


def record(store: Store, change: Change) -> None:
    """Add a decision to the model's history."""
    _write(store, _key(_tags(store), change, uuid.uuid4().hex[:8]), change)


def history(store: Store) -> tuple[Change, ...]:
    """Return all decisions, the oldest first."""
    return _changes(_tags(store))


def sync(store: Store, clock: Clock) -> Change | None:
    """Finish what was pending; then record the champion that was set or taken away by hand, if one was."""
    finish(store)
    present = alias(store, CHAMPION)
    tags = _tags(store)  # after the alias: a change that is under way shows here as pending or as done
    crowned = _crowned(_changes(tags))
    if _PENDING in tags or present == crowned:
        return None
    change = _by_hand(store, present, crowned, clock)
    _write(store, _key(tags, change, "seen"), change)  # two that see it at once write the same tag
    return change


def reign(changes: Iterable[Change]) -> list[str]:
    """Return the versions that have been champion, the oldest first, without those that were rolled back from."""
    versions: list[str] = []
    for change in changes:
        if change.action not in CROWNING:
            continue
        if change.version in versions:
            del versions[versions.index(change.version) :]
        versions.append(change.version)
    return versions


def _by_hand(store: Store, present: str | None, crowned: str | None, clock: Clock) -> Change:
    """Say what was found, in the words of who did it where they left some."""
    version = present or str(crowned)
    tags = dict(store.client.get_model_version(MODEL, version).tags)
    return Change(
        at=clock(),
        by=tags.get(BY_TAG, "somebody, by hand"),
        action=BY_HAND if present else TAKEN_AWAY,
        version=version,
        why=tags.get(WHY_TAG, f"the alias was moved in MLflow (which keeps no name; the tag {BY_TAG} would)"),
        champion_before=crowned,
    )


def _crowned(changes: tuple[Change, ...]) -> str | None:
    """Which version the history says is champion."""
    for change in reversed(changes):
        if change.action in CROWNING:
            return change.version
        if change.action == TAKEN_AWAY:
            return None
    return None


def _write(store: Store, key: str, change: Change) -> None:
    """Write a decision under its tag."""
    store.client.set_registered_model_tag(MODEL, key, json.dumps(_body(change), sort_keys=True))


def _key(tags: dict[str, str], change: Change, last: str) -> str:
    """Return a tag's name that sorts by time; with a random last part nobody else takes it, not even at once."""
    count = sum(key.startswith(_AUDIT) for key in tags)
    return f"{_AUDIT}{count + 1:06d}.{change.action.replace(' ', '-')}.{change.version}.{last}"


def _tags(store: Store) -> dict[str, str]:
    """All tags of the registered model, as of one moment."""
    found = store.client.search_registered_models(f"name = '{MODEL}'")
    return dict(found[0].tags) if found else {}


def _changes(tags: dict[str, str]) -> tuple[Change, ...]:
    """Read the decisions from their tags."""
    return tuple(_read(text) for key, text in sorted(tags.items()) if key.startswith(_AUDIT))


def _body(change: Change) -> dict[str, Any]:
    """Return a decision's fields as JSON has them."""
    return {**asdict(change), "at": change.at.isoformat()}


def _read(text: str) -> Change:
    """Read a decision from its tag."""
    body: dict[str, Any] = json.loads(text)
    at = datetime.fromisoformat(body.pop("at"))
    return Change(at=at, **body)
