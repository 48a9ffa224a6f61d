"""Decisions on a model, by the gate or a person, each kept with who, when and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion as MlflowVersion

from gangplan.clock import Clock
from gangplan.config import Settings
from gangplan.errors import GateError, InputError, NotFoundError, Refusal
from gangplan.forecast import registry
from gangplan.forecast.evaluation import CHAMPION_TOLERANCE
from gangplan.forecast.promotion import shadow
from gangplan.forecast.registry import GATE, Action, Alias, Change
from gangplan.tracking import MODEL, Store
from gangplan.types import Usage

ASKED = "asked"
"""The tag of a version about which a person was asked."""

DECIDED = "decided"
"""The tag of a version that was compared with no champion, with what was decided about it after its training."""

APART, TWIN = "apart", "twin"
"""The tags that say how far a version's forecast is from the champion's, and whether it is its twin."""


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

    @property
    def decision(self) -> Change | None:
        """The last decision on it; none while it waits for its days beside the champion, or for a person."""
        open_still = (Action.WAITING, Action.TAKEN_BY_HAND)
        return next((change for change in reversed(self.changes) if change.action not in open_still), None)


def list_versions(store: Store) -> tuple[ModelVersion, ...]:
    """Return all versions, the newest first."""
    holders, changes = {name: registry.alias(store, name) for name in Alias}, registry.history(store)
    return tuple(_read(version, holders, changes) for version in registry.versions(store))


def show_version(store: Store, version: str) -> ModelVersion:
    """Return one version with its changes."""
    shown = {candidate.version: candidate for candidate in list_versions(store)}
    if str(version) in shown:
        return shown[str(version)]
    known = ", ".join(shown) or "none yet: `gangplan train` makes one"
    raise NotFoundError(f"version: {version!r} is not in the registry: versions are {known}")


def challenger(store: Store) -> str:
    """Return the challenger's version, or say what makes one."""
    version = registry.alias(store, Alias.CHALLENGER)
    if version is None:
        raise NotFoundError(f"{MODEL}: no challenger in the registry: train one with `gangplan train`")
    return version


def approve(store: Store, version: str, *, by: str, why: str, clock: Clock, force: bool = False) -> ModelVersion:
    """Make a version the champion. What the gate refused or a reviewer rejected needs `force`."""
    candidate = _candidate(store, version, by, why, clock)
    if Alias.CHAMPION in candidate.aliases:
        raise Refusal(f"version {version} is the champion already")
    if not force:
        _require_approvable(store, candidate)
    action = Action.FORCED if force else Action.APPROVED
    registry.record_decision(store, action, candidate.version, by=by, why=why, at=clock())
    return show_version(store, version)


def reject(store: Store, version: str, *, by: str, why: str, clock: Clock) -> ModelVersion:
    """Refuse a version, with the reason; the champion cannot be rejected, only rolled back."""
    candidate = _candidate(store, version, by, why, clock)
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
    """Give the champion's place back to the one before it, or to the version named."""
    target = _candidate(store, version, by, why, clock)
    present = str(registry.champion(store).version)
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


def _candidate(store: Store, version: str | None, by: str, why: str, clock: Clock) -> ModelVersion:
    """Return the version to decide on, by default the champion before; refuse a decision without a name or a reason."""
    for field, value in (("by", by), ("why", why)):
        if not value.strip():
            raise InputError(field, value, "is empty: say who decides and why, it is kept with the version")
    registry.record_manual_changes(store, clock)
    return show_version(store, _before(store, str(registry.champion(store).version)) if version is None else version)


def _read(version: MlflowVersion, holders: dict[Alias, str | None], changes: tuple[Change, ...]) -> ModelVersion:
    """Read a version from its tags; one that was made by hand lacks figures, and says so."""
    tags: dict[str, str] = dict(version.tags)
    number = str(version.version)
    return ModelVersion(
        version=number,
        aliases=tuple(name.value for name, holder in holders.items() if holder == number),
        made_at=datetime.fromtimestamp(version.creation_timestamp // 1000, UTC),
        run_id=str(version.run_id),
        wql=float(tags.get("wql", "nan")),
        naive_wql=float(tags.get("naive_wql", "nan")),
        coverage_80=float(tags.get("coverage_80", "nan")),
        gate=tags.get("gate", "not asked"),
        reason=tags.get(DECIDED, tags.get("reason", "registered by hand")),
        rejected=tags.get("rejected_why"),
        changes=tuple(change for change in changes if change.version == number),
        because=tags.get("because", "not said"),
        compared_with=tags.get("compared_with"),
    )


def decide_after_training(store: Store, version: str, *, settings: Settings, at: datetime) -> None:
    """Promote a version, let it wait or refuse it, once: a training that is resumed finds the decision made.

    Where there is no champion, what is still open about the versions before it is decided first: of several trainings
    at once the lowest version is the first model, whichever of them decides.
    """
    registry.finish_pending(store)
    decided = {change.version for change in registry.history(store)}
    trained = [one for one in reversed(registry.versions(store)) if "gate" in one.tags]
    open_before = [one for one in trained if int(one.version) < int(version) and str(one.version) not in decided]
    if registry.alias(store, Alias.CHAMPION) is None:
        for other in open_before:
            _decide(store, other, settings, at)
    if version not in decided:
        _decide(store, store.client.get_model_version(MODEL, version), settings, at)


def _decide(store: Store, version: MlflowVersion, settings: Settings, at: datetime) -> None:
    """Decide on a version that was trained, and record it, unless another process just did."""
    number, tags = str(version.version), dict[str, str](version.tags)
    before, champion = registry.history(store), registry.alias(store, Alias.CHAMPION)
    if champion == number or any(change.version == number for change in before):
        return
    action, why = _decision(tags, settings, champion, before)
    if "compared_with" not in tags:
        store.client.set_model_version_tag(MODEL, number, DECIDED, why)
    if not _challenger_in_shadow(store):
        store.client.set_registered_model_alias(MODEL, Alias.CHALLENGER, number)
    registry.record_decision(store, action, number, by=GATE, why=why, at=at)


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
        return reject(store, version, by=GATE, why=why, clock=clock).changes[-1]
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


def _decision(
    tags: Mapping[str, str], settings: Settings, champion: str | None, before: Sequence[Change]
) -> tuple[Action, str]:
    """Return what is decided, and why: nobody is promoted past the gate, a shadow or a person that come first.

    A person is not asked to choose between two that forecast the same: the champion stays.
    """
    passed, reason, rival = tags["gate"] == "passed", tags["reason"], tags.get("compared_with")
    if champion is None:
        whose, says = "there is no champion" if before else "first model", "gate passed" if passed else "the gate says"
        return Action.PROMOTED, f"{whose}, promoted by default: {says}: {reason}"
    if rival is None:
        return Action.REFUSED, (
            f"not compared with the champion, version {champion}: another training made it meanwhile; train again"
        )
    if not passed:
        return Action.REFUSED, reason
    if settings.promotion == "person" and TWIN in tags:
        return (
            Action.REFUSED,
            f"it forecasts as the champion, version {rival}, does ({tags[APART]} apart): nobody is asked",
        )
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
    shown = show_version(store, version)
    return shown.gate == "passed" and bool(shown.changes) and shown.changes[-1].action is Action.WAITING
