"""A person's word on a model: list, show, approve, reject, roll back. Every change is kept: who, when, why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion as MlflowVersion

from gangplan.clock import Clock
from gangplan.errors import GateError, InputError, NotFoundError, Refusal
from gangplan.forecast import registry
from gangplan.forecast.promotion import shadow
from gangplan.forecast.registry import APPROVED, CHALLENGER, CHAMPION, CROWNING, FORCED, REJECTED, ROLLED_BACK, Change
from gangplan.tracking import MODEL, Store


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A version as a reviewer sees it. WQL is in per cent of mean demand; `changes` the oldest first."""

    version: str
    aliases: tuple[str, ...]
    made_at: datetime
    run_id: str
    wql: float
    naive_wql: float
    coverage_80: float
    gate: str
    reason: str
    rejected: str | None
    changes: tuple[Change, ...]
    because: str
    compared_with: str | None


def list_versions(store: Store) -> tuple[ModelVersion, ...]:
    """Return all versions, the newest first."""
    aliases, changes = _aliases(store), registry.history(store)
    return tuple(_read(version, aliases, changes) for version in registry.versions(store))


def show_version(store: Store, version: str) -> ModelVersion:
    """Return one version with its changes.

    Raises
    ------
    NotFoundError
        When the registry has no such version.
    """
    for found in list_versions(store):
        if found.version == str(version):
            return found
    known = ", ".join(found.version for found in list_versions(store)) or "none yet: `gangplan train` makes one"
    raise NotFoundError(f"version: {version!r} is not in the registry: versions are {known}")


def challenger(store: Store) -> str:
    """Return the challenger's version, or say what makes one."""
    version = registry.alias(store, CHALLENGER)
    if version is None:
        raise NotFoundError(f"{MODEL}: no challenger in the registry: train one with `gangplan train`")
    return version


def approve(store: Store, version: str, *, by: str, why: str, clock: Clock, force: bool = False) -> ModelVersion:
    """Make a version the champion. What the gate refused or a reviewer rejected needs `force`."""
    _require_words(by, why)
    registry.sync(store, clock)
    found = show_version(store, version)
    if CHAMPION in found.aliases:
        raise Refusal(f"version {version} is the champion already")
    if not force and found.rejected is not None:
        raise GateError(f"version {version} was rejected ({found.rejected}): approve another, or force it")
    if not force and found.gate != "passed":
        raise GateError(f"version {version} did not pass the gate ({found.reason}): approve another, or force it")
    if not force:
        _require_shadow(store, found.version)
    action = FORCED if force else APPROVED
    registry.crown(store, _change(store, action, found.version, by, why, clock))
    return show_version(store, version)


def reject(store: Store, version: str, *, by: str, why: str, clock: Clock) -> ModelVersion:
    """Refuse a version, with the reason; the champion cannot be rejected, only rolled back."""
    _require_words(by, why)
    registry.sync(store, clock)
    found = show_version(store, version)
    if CHAMPION in found.aliases:
        raise Refusal(f"version {version} is the champion: use `gangplan review rollback`, then reject it")
    change = _change(store, REJECTED, found.version, by, why, clock)
    for name, value in (("by", by), ("at", change.at.isoformat()), ("why", why)):
        store.client.set_model_version_tag(MODEL, found.version, f"rejected_{name}", value)
    registry.record(store, change)
    if CHALLENGER in found.aliases:
        store.client.delete_registered_model_alias(MODEL, CHALLENGER)
    return show_version(store, version)


def rollback(store: Store, version: str | None = None, *, by: str, why: str, clock: Clock) -> ModelVersion:
    """Give the champion's place back to the one before it, or to the version named.

    Raises
    ------
    NotFoundError
        When there was no champion before this one, or no such version.
    """
    _require_words(by, why)
    registry.sync(store, clock)
    present = str(registry.champion(store).version)
    target = show_version(store, _before(store, present) if version is None else version)
    if target.version == present:
        raise Refusal(f"version {present} is the champion already")
    registry.crown(store, _change(store, ROLLED_BACK, target.version, by, why, clock))
    return show_version(store, target.version)


def _require_shadow(store: Store, version: str) -> None:
    """Refuse a version whose days beside the champion are not over."""
    found = shadow.standing(store, version)
    if found is not None and not found.done:
        stands = f"{found.days:.1f} of {found.needed:g} days, {found.forecasts} forecasts"
        raise GateError(f"version {version} is still in its shadow ({stands}): wait, or force it")


def _before(store: Store, present: str) -> str:
    """The champion before the present one: promotions pile up, and a rollback takes from the pile."""
    pile: list[str] = []
    for change in registry.history(store):
        if change.action == ROLLED_BACK and change.version in pile:
            del pile[len(pile) - pile[::-1].index(change.version) :]
        elif change.action in CROWNING:
            pile.append(change.version)
    while pile and pile[-1] == present:
        pile.pop()
    if not pile:
        raise NotFoundError(f"version {present} is the first champion: there is none to go back to")
    return pile[-1]


def _change(store: Store, action: str, version: str, by: str, why: str, clock: Clock) -> Change:
    """Say who decides what now."""
    before = registry.alias(store, CHAMPION)
    return Change(at=clock(), by=by, action=action, version=version, why=why, champion_before=before)


def _require_words(by: str, why: str) -> None:
    """A decision needs a name and a reason."""
    for field, value in (("by", by), ("why", why)):
        if not value.strip():
            raise InputError(field, value, "is empty: say who decides and why, it is kept with the version")


def _aliases(store: Store) -> dict[str, tuple[str, ...]]:
    """Which aliases each version has."""
    found = {name: registry.alias(store, name) for name in (CHAMPION, CHALLENGER)}
    return {version: tuple(name for name in found if found[name] == version) for version in found.values() if version}


def _read(version: MlflowVersion, aliases: dict[str, tuple[str, ...]], changes: tuple[Change, ...]) -> ModelVersion:
    """Read a version from its tags; one that was made by hand lacks figures, and says so."""
    tags: dict[str, str] = dict(version.tags)
    number = str(version.version)
    return ModelVersion(
        version=number,
        aliases=aliases.get(number, ()),
        made_at=datetime.fromtimestamp(version.creation_timestamp // 1000, UTC),
        run_id=str(version.run_id),
        wql=float(tags.get("wql", "nan")),
        naive_wql=float(tags.get("naive_wql", "nan")),
        coverage_80=float(tags.get("coverage_80", "nan")),
        gate=tags.get("gate", "not asked"),
        reason=tags.get("reason", "registered by hand"),
        rejected=tags.get("rejected_why"),
        changes=tuple(change for change in changes if change.version == number),
        because=tags.get("because", "not said"),
        compared_with=tags.get("compared_with"),
    )
