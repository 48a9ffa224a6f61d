"""A review of a policy before it holds: what it changes, what may be a mistake, and what it means for who holds now."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from gangplan.reserve.policy.file import Body, policy_body
from gangplan.reserve.policy.quota import Quotas
from gangplan.reserve.policy.rules import ALL, Policy
from gangplan.types import Pool, Reservation, ReservationState

Holdings = dict[str, dict[str, float]]
"""GPUs held now, by tenant and accelerator."""

_NAMED = ("tenants", "quotas", "priority_classes")
_ABSENT = {"borrow": "no limit", "lend": "all", "cohort": "none", "quotas": "no limit", "ageing": "off"}


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """One field that differs between two policies; `before` or `after` is None where there is no such field."""

    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.field}: {self.shown(self.before)} -> {self.shown(self.after)}"

    def shown(self, value: Any) -> str:
        """Return a value in words: what is left out says what that means."""
        if value is None:
            return _ABSENT.get(self.field.rpartition(".")[2], "-")
        return _flow(value)


def policy_changes(old: Policy, new: Policy) -> tuple[FieldChange, ...]:
    """Return the fields in which two policies differ, in the order of the file."""
    return tuple(_differences("", policy_body(old), policy_body(new)))


def policy_doubts(policy: Policy, pools: Iterable[Pool]) -> tuple[str, ...]:
    """Say what is allowed but may be a mistake: unknown accelerators, cohorts of one, more quota than GPUs."""
    gpus: Counter[str] = Counter()
    for pool in pools:
        gpus[pool.accelerator] += pool.max_nodes * pool.gpus_per_node
    return (*_unknown(policy, gpus), *_cohorts_of_one(policy), *_too_many(policy, gpus), *_nothing(policy, gpus))


def policy_effects(policy: Policy, reservations: Iterable[Reservation], pools: Iterable[Pool]) -> tuple[str, ...]:
    """Say what a policy would mean for those who hold and wait now."""
    reservations, pools = tuple(reservations), tuple(pools)
    limits = Quotas(policy)
    over = [
        f"{tenant} holds {gpus:g} {name}, may hold {limits.most(tenant, name):g}: it keeps them until they are released"
        for tenant, held in holdings(reservations, pools).items()
        for name, gpus in held.items()
        if gpus > limits.most(tenant, name)
    ]
    waiting = [reservation for reservation in reservations if reservation.state.waits]
    return (*over, *_classes_gone(policy, waiting), *_never(limits, waiting, pools))


def holdings(reservations: Iterable[Reservation], pools: Iterable[Pool]) -> Holdings:
    """Return the GPUs that each tenant holds now; a part of a divided GPU counts as that part."""
    known = {pool.name: pool for pool in pools}
    held: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for reservation in reservations:
        request = reservation.request
        if reservation.state is ReservationState.GRANTED:
            for placement in reservation.placements:
                pool = known.get(placement.pool)
                name = pool.accelerator if pool else request.accelerators[0]
                held[request.tenant][name] += placement.gpus / (pool.slots_per_gpu if pool else 1)
    return {tenant: dict(gpus) for tenant, gpus in held.items()}


# ---------------------------------------------------------------- differences


def _differences(path: str, old: Body, new: Body) -> Iterator[FieldChange]:
    """Yield what differs; a part that only one of them has is one difference."""
    bracket = path.rpartition(".")[2] in _NAMED
    for name in dict.fromkeys((*old, *new)):
        field = f"{path}[{name}]" if bracket else f"{path}.{name}" if path else name
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(field, cast(Body, before), cast(Body, after))
        elif before != after:
            yield FieldChange(field=field, before=before, after=after)


def _flow(value: Any) -> str:
    """Write a value as a file would, on one line."""
    if isinstance(value, dict):
        parts = cast(Body, value).items()
        return "{" + ", ".join(f"{name}: {_flow(part)}" for name, part in parts) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


# ---------------------------------------------------------------- doubts


def _unknown(policy: Policy, gpus: Counter[str]) -> Iterator[str]:
    """Name the quotas of accelerators that no pool has."""
    for tenant, rules in policy.tenants.items():
        for name in rules.quotas:
            if gpus and name != ALL and name not in gpus:
                known = ", ".join(sorted(gpus))
                yield f"tenants[{tenant}].quotas[{name}]: no pool has this accelerator; there are {known}"


def _cohorts_of_one(policy: Policy) -> Iterator[str]:
    """Name the cohorts of a single tenant, which has nobody to borrow from."""
    for cohort, count in Counter(rules.cohort for rules in policy.tenants.values()).items():
        if cohort and count == 1:
            (tenant,) = (name for name, rules in policy.tenants.items() if rules.cohort == cohort)
            yield f"tenants[{tenant}].cohort: nobody else is in {cohort}, so there is nothing to borrow or lend"


def _too_many(policy: Policy, gpus: Counter[str]) -> Iterator[str]:
    """Name the accelerators whose nominal quotas add up to more than there can be."""
    for name, most in sorted(gpus.items()):
        nominal = sum(
            quota.nominal
            for rules in policy.tenants.values()
            if (quota := rules.quotas.get(name) or rules.quotas.get(ALL))
        )
        if nominal > most:
            yield f"quotas of {name}: the nominal ones add up to {nominal}, the pools never have more than {most}"


def _nothing(policy: Policy, gpus: Counter[str]) -> Iterator[str]:
    """Name the tenants that can never hold one GPU of any accelerator."""
    limits = Quotas(policy)
    for tenant in policy.tenants:
        if gpus and all(limits.most(tenant, name) <= 0 for name in gpus):
            yield f"tenants[{tenant}].quotas: it may never hold a GPU of any accelerator"


# ---------------------------------------------------------------- effects


def _classes_gone(policy: Policy, waiting: list[Reservation]) -> Iterator[str]:
    """Name the priority classes that waiting requests ask for and the policy does not have."""
    asked = Counter(each.request.priority_class for each in waiting if each.request.priority_class)
    for name, count in asked.items():
        if name not in policy.priority_classes:
            yield f"priority_classes: {name} is gone, and {count} waiting name it"


def _never(limits: Quotas, waiting: list[Reservation], pools: tuple[Pool, ...]) -> Iterator[str]:
    """Name the waiting gangs that are larger than their tenants may ever hold."""
    parts = {(pool.accelerator, pool.slot): pool.slots_per_gpu for pool in pools}
    for request in (reservation.request for reservation in waiting):
        tenant, most = request.tenant, {name: limits.most(request.tenant, name) for name in request.accelerators}
        if all(request.gpus / parts.get((name, request.slot), 1) > limit for name, limit in most.items()):
            may = ", ".join(f"{limit:g} {name}" for name, limit in most.items())
            key = request.request_key
            yield f"{key!r} of {tenant} asks for {request.gpus} and could never start: it may hold {may}"
