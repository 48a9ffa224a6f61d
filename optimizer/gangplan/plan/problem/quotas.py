"""Tenants' quotas as ceilings on what their work may hold at a time: its own share with borrowing, and the cohort's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gangplan.errors import InputError
from gangplan.plan.problem.policy import ANY, TenantQuota


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """GPUs that some workloads may hold together on some groups."""

    name: str
    workloads: tuple[int, ...]
    groups: tuple[int, ...]
    gpus: float


def ceilings(
    quotas: Mapping[str, TenantQuota], tenants: Sequence[str], accelerators: Sequence[str], most: Mapping[str, float]
) -> tuple[Ceiling, ...]:
    """Give every ceiling that can bind.

    `tenants` are by workload, `accelerators` by group; `most` are the GPUs of the whole fleet by accelerator. A tenant
    may hold its nominal share and what it borrows; a cohort's tenants together no more than their nominal shares.
    """
    found: list[Ceiling] = []
    members: dict[tuple[str, str], list[str]] = {}
    for tenant, quota in quotas.items():
        for accelerator, share in quota.shares.items():
            _check(tenant, accelerator, share.nominal, most)
            if quota.cohort:
                members.setdefault((quota.cohort, accelerator), []).append(tenant)
            if not quota.cohort or share.borrow is not None:
                gpus = share.nominal + (share.borrow or 0.0)
                found.append(_ceiling(f"{tenant}/{accelerator}", [tenant], accelerator, gpus, tenants, accelerators))
    for (cohort, accelerator), names in members.items():
        gpus = sum(quotas[name].shares[accelerator].nominal for name in names)
        found.append(_ceiling(f"{cohort}/{accelerator}", names, accelerator, gpus, tenants, accelerators))
    return tuple(one for one in found if one.workloads and one.groups)


def _check(tenant: str, accelerator: str, nominal: float, most: Mapping[str, float]) -> None:
    """Refuse a share of what the fleet does not have."""
    if accelerator in most and nominal > most[accelerator]:
        raise InputError(
            f"quotas[{tenant}].shares[{accelerator}].nominal",
            nominal,
            f"is more than the {most[accelerator]:g} GPUs that the fleet may run: lower it, or raise max_nodes",
        )


def _ceiling(
    name: str, who: Sequence[str], accelerator: str, gpus: float, tenants: Sequence[str], accelerators: Sequence[str]
) -> Ceiling:
    """Find the workloads and the groups that a ceiling is over."""
    return Ceiling(
        name=name,
        workloads=tuple(w for w, tenant in enumerate(tenants) if tenant in who),
        groups=tuple(g for g, kind in enumerate(accelerators) if accelerator in (ANY, kind)),
        gpus=gpus,
    )
