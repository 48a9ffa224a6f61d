"""One quota written as a compare-and-swap on flavor, resource and old value; nothing else of the object is touched."""

from __future__ import annotations

from gangplan.errors import ConflictError, InputError, RejectedError
from gangplan.execute.kubernetes.own_writes import OwnWrites
from gangplan.execute.kubernetes.quotas import PoolQuota, Quotas
from gangplan.execute.kubernetes.seen import COHORT, QUEUE, Cell, seen_cohort, seen_queue
from gangplan.kube import KUEUE, Api, Object, writing
from gangplan.types import Step, StepKind

_PATHS = {QUEUE: "clusterqueues", COHORT: "cohorts"}


def write_quota(api: Api, quotas: Quotas, step: Step, own: OwnWrites, *, take_over: bool, dry_run: bool) -> None:
    """Set a pool's quota at one place from the step's `before` to its `after`; what has the new value stays as it is.

    Raises
    ------
    ConflictError
        The quota is neither of the two.
    RejectedError
        Another manager owns it, others may grant the same slots, or Kueue refuses it.
    """
    found = next((each for each in quotas.of(step.pool) if each.place.shown == step.place), None)
    if found is None:
        raise InputError.unknown("place", step.place, f"no quota of pool {step.pool}", _names(quotas, step.pool))
    if found.slots == step.after:
        return
    if found.slots != step.before:
        raise ConflictError(f"{step.place}: pool {step.pool} has {found.slots} slots there, not {step.before}")
    _require_ours(found, take_over=take_over)
    if step.kind is StepKind.RAISE_QUOTA:
        _require_alone(quotas, step)
        own.require_known(quotas.of(step.pool), step)
    slots = step.after - found.of_others
    if slots < 0:
        raise RejectedError(
            f"{step.place}: {found.of_others} slots of pool {step.pool} are its queues' own, more than {step.after}: "
            "set their nominalQuota to 0, so that the cohort's is the pool's"
        )
    written = _swap(api, found, slots, dry_run=dry_run)
    if not dry_run:
        own.wrote(found.place, step, slots, written.get("metadata", {}).get("generation", 0))


def cell_now(api: Api, quota: PoolQuota) -> Cell | None:
    """Return what the object of a quota has now, not what a copy of it had; None where it has none any more."""
    read = seen_queue if quota.place.kind == QUEUE else seen_cohort
    return read(api.get(_path(quota))).cells.get(quota.key)


def _path(quota: PoolQuota) -> str:
    return f"{KUEUE}/{_PATHS[quota.place.kind]}/{quota.place.name}"


def _names(quotas: Quotas, pool: str) -> list[str]:
    return [each.place.shown for each in quotas.of(pool)]


def _require_ours(found: PoolQuota, *, take_over: bool) -> None:
    if found.place.owner and not take_over:
        raise RejectedError(
            f"{found.place.shown}: field manager {found.place.owner} owns its resourceGroups and would write its own "
            "value again: take them out of its source, or set quota.take_over: true in targets.yaml"
        )


def _require_alone(quotas: Quotas, step: Step) -> None:
    strangers = quotas.strangers(step.pool)
    if strangers:
        each = ", ".join(f"{place.shown} {slots}" for place, slots in strangers)
        raise RejectedError(
            f"{step.place}: not raised, since others may grant slots of pool {step.pool}, too ({each}): "
            "name them in targets.yaml, or set their quota of this flavor to 0"
        )


def _swap(api: Api, found: PoolQuota, slots: int, *, dry_run: bool) -> Object:
    """Write the value where flavor, resource and old value are those that were read; return what the object is then."""
    cell = found.cell
    where = f"{cell.path}/resources/{cell.index}"
    patch: list[Object] = [
        {"op": "test", "path": f"{cell.path}/name", "value": found.flavor},
        {"op": "test", "path": f"{where}/name", "value": found.resource},
        {"op": "test", "path": f"{where}/nominalQuota", "value": cell.raw},
        {"op": "replace", "path": f"{where}/nominalQuota", "value": str(slots)},
    ]
    try:
        return api.patch(_path(found), patch, **writing(dry_run=dry_run))
    except RejectedError:  # a test that failed, or a value that Kueue refuses: the object says which
        now = cell_now(api, found)
        if now is not None and (now.raw, now.path, now.index) == (cell.raw, cell.path, cell.index):
            raise
        if now is not None and now.slots == slots:  # it was taken already
            return Object()
        shown = "none" if now is None else now.slots
        raise ConflictError(
            f"{found.place.shown}: its quota of {found.flavor} is {shown} now, not {cell.slots}"
        ) from None
