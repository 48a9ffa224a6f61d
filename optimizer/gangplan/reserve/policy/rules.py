"""The rules of a ledger as data: who may hold how much, and who goes first.

Shares follow Ghodsi et al., "Dominant Resource Fairness", NSDI 2011; quotas, cohorts, borrowing and lending follow
Kueue's ClusterQueues; ageing follows Slurm's multifactor priority.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from gangplan.errors import InputError
from gangplan.types import require_at_least, require_name, require_positive, require_whole

ALL = "*"
"""In place of an accelerator: each one that has no quota of its own."""

_STRICT: dict[str, str] = {"extra": "forbid"}  # a misspelt field of the policy file is refused


@dataclass(frozen=True, kw_only=True)
class Quota:
    """GPUs of one accelerator that a tenant may hold.

    `nominal` is its own; `borrow` is how much more it may take of its cohort (None: no limit); `lend` is how much of
    its own the cohort may use while it does not (None: all).
    """

    nominal: int
    borrow: int | None = None
    lend: int | None = None

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        require_whole("quota.nominal", self.nominal, 0)
        require_whole("quota.borrow", self.borrow or 0, 0)
        require_whole("quota.lend", self.lend or 0, 0, self.nominal)


@dataclass(frozen=True, kw_only=True)
class TenantPolicy:
    """A tenant's weight in fair sharing, its cohort, and its quotas by accelerator; no quota means no limit."""

    weight: float = 1.0
    cohort: str = ""
    quotas: dict[str, Quota] = field(default_factory=dict[str, Quota])

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        require_positive("weight", self.weight)
        if self.cohort:
            require_name("cohort", self.cohort)
        for name, quota in self.quotas.items():
            if name != ALL:
                require_name("quotas", name)
            alone = {"borrow": quota.borrow, "lend": quota.lend} if not self.cohort else {}
            for field_name, value in alone.items():
                if value is not None:
                    raise InputError(f"quotas[{name}].{field_name}", value, "needs a cohort: name one, or leave it out")


@dataclass(frozen=True, kw_only=True)
class Preemption:
    """Who may take slots from whom, and with how much notice.

    `by_priority`: a gang may take them from preemptible gangs whose priority is at least `margin` lower. `reclaim`: a
    tenant may take its own nominal quota back from preemptible gangs that borrow it. `notice` is the least time from
    the notice to the end (a gang's own `checkpoint` may be longer). Nobody takes slots within `grace` of their grant.
    """

    by_priority: bool = True
    reclaim: bool = True
    margin: int = 1
    notice: timedelta = timedelta(minutes=2)
    grace: timedelta = timedelta(minutes=10)

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        require_whole("preemption.margin", self.margin, 1)
        require_at_least("preemption.notice", self.notice.total_seconds(), 0)
        require_at_least("preemption.grace", self.grace.total_seconds(), 0)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The rules of a ledger. The default: no quotas, equal weights, one point of priority for each hour waited.

    `ageing`: how long a wait is worth one point of priority. `depth`: how many at the head of the line have a promised
    start (conservative backfill); a larger number makes a tick slower. `drain`: how long gangs have to leave a draining
    node. `claim`: how long a gang that was moved from a lost node has to claim its new slots.
    `back_within`: how long a lost node is expected back, so that what is promised on it is kept, and others fit before.
    `owners_first`: who stays within its nominal quota is served before all who have to borrow; else points and shares
    alone decide.
    """

    tenants: dict[str, TenantPolicy] = field(default_factory=dict[str, TenantPolicy])
    priority_classes: dict[str, int] = field(default_factory=lambda: {"low": 50, "normal": 100, "high": 200})
    ageing: timedelta | None = timedelta(hours=1)
    depth: int = 128
    preemption: Preemption = Preemption()
    drain: timedelta = timedelta(minutes=10)
    claim: timedelta = timedelta(minutes=5)
    back_within: timedelta = timedelta(hours=1)
    owners_first: bool = True

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    def __post_init__(self) -> None:
        for name in self.tenants:
            require_name("tenants", name)
        for name, priority in self.priority_classes.items():
            require_name("priority_classes", name)
            require_whole(f"priority_classes[{name}]", priority, -1_000_000)
        if self.ageing is not None:
            require_positive("ageing", self.ageing.total_seconds())
        require_whole("depth", self.depth, 1, 100_000)
        require_at_least("drain", self.drain.total_seconds(), 0)
        require_at_least("claim", self.claim.total_seconds(), 0)
        require_at_least("back_within", self.back_within.total_seconds(), 0)

    def tenant(self, name: str) -> TenantPolicy:
        """Return a tenant's rules; a tenant that is not named has the default ones."""
        return self.tenants.get(name, _PLAIN)


_PLAIN = TenantPolicy()
