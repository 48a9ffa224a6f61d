"""Tenants' quotas as ceilings on the GPUs that their work, and that of their cohort, may use at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gangplan.errors import InputError
from gangplan.plan.problem.policy import TenantQuota
from gangplan.types import ANY


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """GPUs that some workloads may use together on some groups of pools, each by its index."""

    name: str
    workloads: tuple[int, ...]
    groups: tuple[int, ...]
    gpus: float


def ceilings(
    quotas: Mapping[str, TenantQuota], tenants: Sequence[str], accelerators: Sequence[str], most: Mapping[str, float]
) -> tuple[Ceiling, ...]:
    """Return every ceiling that can bind.

    A tenant may use its nominal share and what it borrows; all tenants of a cohort, the sum of their nominal shares.

    Parameters
    ----------
    tenants : the tenant of each workload
    accelerators : the accelerator of each group
    most : GPUs that the whole fleet may have, by accelerator

    Raises
    ------
    InputError
        A nominal share is more than the fleet may have.
    """
    limits: list[Ceiling] = []
    members: dict[tuple[str, str], list[str]] = {}
    for tenant, quota in quotas.items():
        for accelerator, share in quota.shares.items():
            _check(tenant, accelerator, share.nominal, most)
            if quota.cohort:
                members.setdefault((quota.cohort, accelerator), []).append(tenant)
            if not quota.cohort or share.borrow is not None:
                gpus = share.nominal + (share.borrow or 0.0)
                limits.append(_ceiling(f"{tenant}/{accelerator}", [tenant], accelerator, gpus, tenants, accelerators))
    for (cohort, accelerator), names in members.items():
        gpus = sum(quotas[name].shares[accelerator].nominal for name in names)
        limits.append(_ceiling(f"{cohort}/{accelerator}", names, accelerator, gpus, tenants, accelerators))
    return tuple(ceiling for ceiling in limits if ceiling.workloads and ceiling.groups)


def _check(tenant: str, accelerator: str, nominal: float, most: Mapping[str, float]) -> None:
    """Refuse a nominal share of more than the fleet may have."""
    if accelerator in most and nominal > most[accelerator]:
        raise InputError(
            f"quotas[{tenant}].shares[{accelerator}].nominal",
            nominal,
            f"is more than the {most[accelerator]:g} GPUs that the fleet may run: lower it, or raise max_nodes",
        )


def _ceiling(
    name: str,
    members: Sequence[str],
    accelerator: str,
    gpus: float,
    tenants: Sequence[str],
    accelerators: Sequence[str],
) -> Ceiling:
    """Make the ceiling of some tenants on one accelerator: find their workloads and its groups."""
    return Ceiling(
        name=name,
        workloads=tuple(w for w, tenant in enumerate(tenants) if tenant in members),
        groups=tuple(g for g, kind in enumerate(accelerators) if accelerator in (ANY, kind)),
        gpus=gpus,
    )
