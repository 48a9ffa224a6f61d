"""A person's decisions on a model: list, show, approve, reject, roll back. Each is kept with who, when and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion as MlflowVersion

from gangplan.clock import Clock
from gangplan.errors import GateError, InputError, NotFoundError, Refusal
from gangplan.forecast import registry
from gangplan.forecast.promotion import shadow
from gangplan.forecast.registry import Action, Alias, Change
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
    shown = list_versions(store)
    for candidate in shown:
        if candidate.version == str(version):
            return candidate
    known = ", ".join(each.version for each in shown) or "none yet: `gangplan train` makes one"
    raise NotFoundError(f"version: {version!r} is not in the registry: versions are {known}")


def challenger(store: Store) -> str:
    """Return the challenger's version, or say what makes one."""
    version = registry.alias(store, Alias.CHALLENGER)
    if version is None:
        raise NotFoundError(f"{MODEL}: no challenger in the registry: train one with `gangplan train`")
    return version


def approve(store: Store, version: str, *, by: str, why: str, clock: Clock, force: bool = False) -> ModelVersion:
    """Make a version the champion. What the gate refused or a reviewer rejected needs `force`."""
    _require_reason(by, why)
    registry.record_manual_changes(store, clock)
    candidate = show_version(store, version)
    if Alias.CHAMPION in candidate.aliases:
        raise Refusal(f"version {version} is the champion already")
    if not force:
        _require_approvable(store, candidate)
    action = Action.FORCED if force else Action.APPROVED
    registry.record_decision(store, action, candidate.version, by=by, why=why, at=clock())
    return show_version(store, version)


def reject(store: Store, version: str, *, by: str, why: str, clock: Clock) -> ModelVersion:
    """Refuse a version, with the reason; the champion cannot be rejected, only rolled back."""
    _require_reason(by, why)
    registry.record_manual_changes(store, clock)
    candidate = show_version(store, version)
    if Alias.CHAMPION in candidate.aliases:
        raise Refusal(f"version {version} is the champion: use `gangplan review rollback`, then reject it")
    at = clock()
    for name, value in (("by", by), ("at", at.isoformat()), ("why", why)):
        store.client.set_model_version_tag(MODEL, candidate.version, f"rejected_{name}", value)
    registry.record_decision(store, Action.REJECTED, candidate.version, by=by, why=why, at=at)
    if Alias.CHALLENGER in candidate.aliases:
        store.client.delete_registered_model_alias(MODEL, Alias.CHALLENGER)
    return show_version(store, version)


def rollback(store: Store, version: str | None = None, *, by: str, why: str, clock: Clock) -> ModelVersion:
    """Give the champion's place back to the one before it, or to the version named.

    Raises
    ------
    NotFoundError
        When there was no champion before this one, or no such version.
    """
    _require_reason(by, why)
    registry.record_manual_changes(store, clock)
    present = str(registry.champion(store).version)
    target = show_version(store, _before(store, present) if version is None else version)
    if target.version == present:
        raise Refusal(f"version {present} is the champion already")
    registry.record_decision(store, Action.ROLLED_BACK, target.version, by=by, why=why, at=clock())
    return show_version(store, target.version)


def _require_approvable(store: Store, candidate: ModelVersion) -> None:
    """Refuse a version that was rejected, did not pass the gate, or whose days beside the champion are not over."""
    version = candidate.version
    if candidate.rejected is not None:
        raise GateError(f"version {version} was rejected ({candidate.rejected}): approve another, or force it")
    if candidate.gate != "passed":
        raise GateError(f"version {version} did not pass the gate ({candidate.reason}): approve another, or force it")
    standing = shadow.standing(store, version)
    if standing is not None and not standing.done:
        stands = f"{standing.days:.1f} of {standing.needed:g} days, {standing.forecasts} forecasts"
        raise GateError(f"version {version} is still in its shadow ({stands}): wait, or force it")


def _before(store: Store, present: str) -> str:
    """Return the champion before the present one. Champions pile up; a rollback takes those above its version off."""
    pile: list[str] = []
    for change in registry.history(store):
        if change.action is Action.ROLLED_BACK and change.version in pile:
            del pile[len(pile) - pile[::-1].index(change.version) :]
        elif change.action.makes_champion:
            pile.append(change.version)
    while pile and pile[-1] == present:
        pile.pop()
    if not pile:
        raise NotFoundError(f"version {present} is the first champion: there is none to go back to")
    return pile[-1]


def _require_reason(by: str, why: str) -> None:
    """Refuse a decision without a name or a reason."""
    for field, value in (("by", by), ("why", why)):
        if not value.strip():
            raise InputError(field, value, "is empty: say who decides and why, it is kept with the version")


def _aliases(store: Store) -> dict[str, tuple[str, ...]]:
    """Return the aliases of each version that has one."""
    holders = {name: registry.alias(store, name) for name in Alias}
    return {
        holder: tuple(name.value for name in Alias if holders[name] == holder) for holder in holders.values() if holder
    }


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
