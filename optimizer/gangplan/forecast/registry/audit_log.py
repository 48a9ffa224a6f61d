"""Every change of an alias with who, when and why; and the one way to make it, which a kill cannot leave half done.

A change is first written down as pending, then made, then added to the history. Each of these is one tag of its own on
the registered model, which is never written over. What was pending when a process was killed is finished by the next
one that looks. An alias that the history does not explain was moved by hand, in MLflow's page or by a program: it stays
moved, and is recorded when it is first seen.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from gangplan.clock import Clock
from gangplan.forecast.registry.model_versions import Alias, alias
from gangplan.tracking import MODEL, Store

BY_TAG, WHY_TAG = "gangplan.by", "gangplan.why"
"""Tags by which somebody who moves an alias by hand may say who and why: MLflow keeps neither."""

GATE = "gate"
"""Who decides when no person did."""

_AUDIT, _PENDING = "audit.", "pending"


class Action(StrEnum):
    """What was decided about a version."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    WAITING = "waiting"
    APPROVED = "approved"
    FORCED = "approved by force"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled back to"
    MADE_BY_HAND = "made champion by hand"
    TAKEN_BY_HAND = "taken away by hand"

    @property
    def makes_champion(self) -> bool:
        """Whether the version is the champion afterwards."""
        return self in _MAKES_CHAMPION


_MAKES_CHAMPION = (Action.PROMOTED, Action.APPROVED, Action.FORCED, Action.ROLLED_BACK, Action.MADE_BY_HAND)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One decision about an alias: who, when, why, and which version was champion before it."""

    at: datetime
    by: str
    action: Action
    version: str
    why: str
    champion_before: str | None


def record_decision(store: Store, action: Action, version: str, *, by: str, why: str, at: datetime) -> Change:
    """Keep a decision in the model's history; where it makes a champion, move the alias as well."""
    before = alias(store, Alias.CHAMPION)
    change = Change(at=at, by=by, action=action, version=version, why=why, champion_before=before)
    key = _key(_tags(store), change, uuid.uuid4().hex[:8])
    if action.makes_champion:
        _set_tag(store, f"{_PENDING}.{key}", json.dumps({**_body(change), "key": key}, sort_keys=True))
        finish_pending(store)
    else:
        _write(store, key, change)
    return change


def finish_pending(store: Store) -> None:
    """Carry out the changes that are pending; done twice, or by two at once, it is the same."""
    for name, text in sorted(_tags(store).items()):
        if name.startswith(_PENDING):
            _finish(store, name, json.loads(text))


def _finish(store: Store, pending: str, body: dict[str, Any]) -> None:
    """Carry out a change, and take it off what is pending."""
    key, version = body.pop("key"), body["version"]
    for name in ("by", "at", "why"):
        store.client.set_model_version_tag(MODEL, version, f"promoted_{name}", body[name])
    store.client.set_registered_model_alias(MODEL, Alias.CHAMPION, version)
    if alias(store, Alias.CHALLENGER) == version:
        store.client.delete_registered_model_alias(MODEL, Alias.CHALLENGER)
    _set_tag(store, key, json.dumps(body, sort_keys=True))
    store.client.delete_registered_model_tag(MODEL, pending)


def history(store: Store) -> tuple[Change, ...]:
    """Return all decisions, the oldest first."""
    return _changes(_tags(store))


def record_manual_changes(store: Store, clock: Clock) -> Change | None:
    """Finish what was pending; then record the champion that was set or taken away by hand, if one was."""
    finish_pending(store)
    present = alias(store, Alias.CHAMPION)
    tags = _tags(store)  # after the alias: a change that is under way shows here as pending or as done
    recorded = _champion_of(_changes(tags))
    if any(name.startswith(_PENDING) for name in tags) or present == recorded:
        return None
    change = _by_hand(store, present, recorded, clock)
    _write(store, _key(tags, change, "seen"), change)  # two that see it at once write the same tag
    return change


def champion_line(changes: Iterable[Change]) -> list[str]:
    """Return the versions that have been champion, the oldest first, without those that were rolled back from."""
    versions: list[str] = []
    for change in changes:
        if not change.action.makes_champion:
            continue
        if change.version in versions:
            del versions[versions.index(change.version) :]
        versions.append(change.version)
    return versions


def _by_hand(store: Store, present: str | None, recorded: str | None, clock: Clock) -> Change:
    """Describe a change by hand, in the words of who made it where they left some."""
    version = present or str(recorded)
    tags = dict(store.client.get_model_version(MODEL, version).tags)
    return Change(
        at=clock(),
        by=tags.get(BY_TAG, "somebody, by hand"),
        action=Action.MADE_BY_HAND if present else Action.TAKEN_BY_HAND,
        version=version,
        why=tags.get(WHY_TAG, f"the alias was moved in MLflow (which keeps no name; the tag {BY_TAG} would)"),
        champion_before=recorded,
    )


def _champion_of(changes: tuple[Change, ...]) -> str | None:
    """Return the version that the history says is champion."""
    moved = [row for row in changes if row.action.makes_champion or row.action is Action.TAKEN_BY_HAND]
    return moved[-1].version if moved and moved[-1].action.makes_champion else None


def _write(store: Store, key: str, change: Change) -> None:
    _set_tag(store, key, json.dumps(_body(change), sort_keys=True))


def _set_tag(store: Store, key: str, value: str) -> None:
    store.client.set_registered_model_tag(MODEL, key, value)  # pyright: ignore[reportUnknownMemberType]


def _key(tags: dict[str, str], change: Change, last: str) -> str:
    """Return a tag's name that sorts by time; a random last part keeps two changes at once apart."""
    count = sum(key.startswith(_AUDIT) for key in tags)
    return f"{_AUDIT}{count + 1:06d}.{change.action.replace(' ', '-')}.{change.version}.{last}"


def _tags(store: Store) -> dict[str, str]:
    """All tags of the registered model, as of one moment."""
    models = store.client.search_registered_models(f"name = '{MODEL}'")
    return dict(cast("dict[str, str]", models[0].tags)) if models else {}  # pyright: ignore[reportUnknownMemberType]


def _changes(tags: dict[str, str]) -> tuple[Change, ...]:
    """Return the changes that were written down; what two processes decided for the gate at once is one."""
    changes: dict[tuple[str, ...], Change] = {}
    for key, text in sorted(tags.items()):
        if key.startswith(_AUDIT):
            change = _read(text)
            changes.setdefault((change.action, change.version) if change.by == GATE else (key,), change)
    return tuple(changes.values())


def _body(change: Change) -> dict[str, Any]:
    return {**asdict(change), "at": change.at.isoformat()}


def _read(text: str) -> Change:
    body: dict[str, Any] = json.loads(text)
    at, action = datetime.fromisoformat(body.pop("at")), Action(body.pop("action"))
    return Change(at=at, action=action, **body)
