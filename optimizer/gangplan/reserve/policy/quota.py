"""How many GPUs of each accelerator tenants hold and may hold, now and at any later time.

A tenant with a quota holds at most `nominal + borrow`. The tenants of a cohort together hold at most the sum of their
nominal quotas; what a tenant does not lend counts as used by it. What is promised counts from its start to its end.

Source: Kueue's ClusterQueue and cohort quotas (borrowingLimit, lendingLimit).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate

from gangplan.reserve.policy.rules import ALL, Policy, Quota

_DUST = 1e-6
"""Tolerance in GPUs, since sums of fractions of GPUs are not exact."""


def _exact(gpus: float) -> float:
    """Round a sum of fractions of GPUs, so that adding and taking away the same leaves nothing."""
    return round(gpus, 9)


class Account:
    """GPUs in use over time: what runs counts from always to its end, what is promised from its start to its end."""

    __slots__ = ("_base", "_deltas", "_peaks", "_times", "_used")

    def __init__(self) -> None:
        self._base = 0.0
        self._deltas: dict[int, float] = {}
        self._times: list[int] | None = None
        self._used: list[float] = []
        self._peaks: dict[tuple[int, int], float] = {}  # cache of `peak`, emptied by a change

    def hold(self, gpus: float, end: int) -> None:
        """Count GPUs (negative: no longer) until `end`."""
        self._base = _exact(self._base + gpus)
        self._change(end, -gpus)

    def plan(self, gpus: float, start: int, end: int) -> None:
        """Count GPUs (negative: no longer) from `start` to `end`."""
        self._change(start, gpus)
        self._change(end, -gpus)

    def _change(self, at: int, by: float) -> None:
        left = _exact(self._deltas.get(at, 0.0) + by)
        if left:
            self._deltas[at] = left
        else:
            self._deltas.pop(at, None)
        self._times = None

    def profile(self) -> tuple[list[int], list[float]]:
        """Return the moments of change, and the GPUs in use before the first and from each on."""
        if self._times is None:
            self._times = sorted(self._deltas)
            self._used = list(accumulate((self._deltas[at] for at in self._times), initial=self._base))
            self._peaks = {}
        return self._times, self._used

    def at(self, moment: int) -> float:
        """Return the GPUs in use at one moment."""
        times, used = self.profile()
        return used[bisect_right(times, moment)]

    def peak(self, start: int, end: int) -> float:
        """Return the most GPUs in use at any time from `start` up to `end`."""
        times, used = self.profile()
        most = self._peaks.get((start, end))
        if most is None:
            first = bisect_right(times, start)
            most = max(used[first : bisect_left(times, end, first) + 1])
            self._peaks[start, end] = most
        return most

    def changes(self, start: int, end: int) -> list[int]:
        """Return the moments of change between `start` and `end`."""
        times, _ = self.profile()
        return [at for at in times[bisect_right(times, start) :] if at < end]

    def first(self, limit: float, length: int, after: int, until: int) -> int | None:
        """Return the first start from `after` to `until` from which at most `limit` are in use for `length`."""
        times, used = self.profile()
        index = bisect_right(times, after)
        start = after if used[index] <= limit else None
        for at, gpus in zip(times[index:], used[index + 1 :], strict=True):
            if start is not None and at >= start + length:
                return start
            if gpus > limit:
                start = None
            elif start is None:
                start = at
                if start > until:
                    return None
        return start


class Cohort:
    """Tenants that lend each other what they do not use of one accelerator."""

    def __init__(self, members: dict[str, tuple[Account, Quota]]) -> None:
        self.members = members
        self.nominal = sum(quota.nominal for _, quota in members.values())
        # Where all lend all, one account has the sum of all members, which is quick to look up.
        self.plain = all(quota.lend in (None, quota.nominal) for _, quota in members.values())
        self.account = Account()

    def allows(self, tenant: str, gpus: float, start: int, end: int) -> bool:
        """Tell whether a member may have so many more for this time."""
        return self.over(tenant, gpus, start, end) <= _DUST

    def over(self, tenant: str, gpus: float, start: int, end: int) -> float:
        """Return by how many GPUs the cohort would be over its limit if a member had so many more."""
        if self.plain:
            return self.account.peak(start, end) + gpus - self.nominal
        moments = {start}.union(*(account.changes(start, end) for account, _ in self.members.values()))
        return max(self._claimed(tenant, gpus, at) for at in moments) - self.nominal

    def _claimed(self, tenant: str, gpus: float, at: int) -> float:
        """Return the GPUs used, or kept by those who do not lend them, at a moment, with `gpus` more for a tenant."""
        claimed = 0.0
        for name, (account, quota) in self.members.items():
            kept = 0 if quota.lend is None else quota.nominal - quota.lend
            claimed += max(kept, account.at(at) + (gpus if name == tenant else 0))
        return claimed

    def first(self, tenant: str, gpus: float, length: int, after: int, until: int) -> int | None:
        """Return the first start at which a member may have so many more for `length`."""
        if self.plain:
            return self.account.first(self.nominal - gpus + _DUST, length, after, until)
        ends = {after}.union(*(account.changes(after, until + 1) for account, _ in self.members.values()))
        return next((at for at in sorted(ends) if self.allows(tenant, gpus, at, at + length)), None)


class Quotas:
    """The accounts of all tenants, and the limits that a policy sets on them."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.used: dict[str, dict[str, float]] = {}  # tenant: accelerator: GPUs held now
        self._accounts: dict[tuple[str, str], Account] = defaultdict(Account)
        self._cohorts: dict[tuple[str, str], Cohort] = {}
        self._limited = any(tenant.quotas for tenant in policy.tenants.values())
        self.owners_first = policy.owners_first and any(t.quotas and t.cohort for t in policy.tenants.values())

    # ------------------------------------------------------------ what is held and promised

    def hold(self, tenant: str, accelerator: str, gpus: float, end: int) -> None:
        """Count GPUs that a tenant holds (negative: no longer) until `end`."""
        used = self.used.setdefault(tenant, {})
        used[accelerator] = _exact(used.get(accelerator, 0.0) + gpus)
        for account in self._of(tenant, accelerator):
            account.hold(gpus, end)

    def plan(self, tenant: str, accelerator: str, gpus: float, start: int, end: int) -> None:
        """Count GPUs that a tenant is promised (negative: no longer)."""
        for account in self._of(tenant, accelerator):
            account.plan(gpus, start, end)

    def _of(self, tenant: str, accelerator: str) -> Iterable[Account]:
        """Return the accounts in which a tenant's GPUs count; none where nothing limits them."""
        if not self._limited or self.quota(tenant, accelerator) is None:
            return ()
        cohort = self.cohort(tenant, accelerator)
        own = self._accounts[tenant, accelerator]
        return (own,) if cohort is None or not cohort.plain else (own, cohort.account)

    # ------------------------------------------------------------ limits

    def quota(self, tenant: str, accelerator: str) -> Quota | None:
        """Return a tenant's quota of an accelerator; none: no limit."""
        quotas = self.policy.tenant(tenant).quotas
        return quotas.get(accelerator) or quotas.get(ALL)

    def cohort(self, tenant: str, accelerator: str) -> Cohort | None:
        """Return the cohort that a tenant shares an accelerator with."""
        name = self.policy.tenant(tenant).cohort
        if not name:
            return None
        if (name, accelerator) not in self._cohorts:
            members: dict[str, tuple[Account, Quota]] = {}
            for member, rules in self.policy.tenants.items():
                quota = self.quota(member, accelerator)
                if rules.cohort == name and quota is not None:
                    members[member] = (self._accounts[member, accelerator], quota)
            self._cohorts[name, accelerator] = Cohort(members)
        return self._cohorts[name, accelerator]

    def limit(self, tenant: str, accelerator: str) -> float:
        """Return the GPUs that a tenant may hold: its own, and what it may borrow of its cohort."""
        quota = self.quota(tenant, accelerator)
        return float("inf") if quota is None else _limit(quota, self.cohort(tenant, accelerator))

    def most(self, tenant: str, accelerator: str) -> float:
        """Return the GPUs that a tenant could ever hold."""
        limit, cohort = self.limit(tenant, accelerator), self.cohort(tenant, accelerator)
        if cohort is None or tenant not in cohort.members:
            return limit
        kept = sum(
            other.nominal - other.lend
            for name, (_, other) in cohort.members.items()
            if name != tenant and other.lend is not None
        )
        return min(limit, cohort.nominal - kept)

    def may_borrow(self, tenant: str, accelerator: str) -> bool:
        """Tell whether a tenant may have more than its own."""
        quota = self.quota(tenant, accelerator) if self._limited else None
        return quota is not None and quota.borrow != 0 and self.cohort(tenant, accelerator) is not None

    def allows(self, tenant: str, accelerator: str, gpus: float, start: int, end: int, *, own: bool = False) -> bool:
        """Tell whether a tenant may have so many more from `start` up to `end`; with `own` without borrowing."""
        quota = self.quota(tenant, accelerator) if self._limited else None
        if quota is None:
            return True
        cohort = self.cohort(tenant, accelerator)
        if cohort is not None and not cohort.allows(tenant, gpus, start, end):
            return False  # checked first, since its cached peak serves all members
        together = self._accounts[tenant, accelerator].peak(start, end) + gpus
        return together <= _limit(quota, cohort, own=own) + _DUST

    def first(
        self, tenant: str, accelerator: str, gpus: float, length: int, after: int, until: int, *, own: bool = False
    ) -> int | None:
        """Return the first start from `after` to `until` at which a tenant may have so many more for `length`."""
        quota = self.quota(tenant, accelerator) if self._limited else None
        if quota is None:
            return after
        cohort = self.cohort(tenant, accelerator)
        limit = _limit(quota, cohort, own=own) - gpus + _DUST
        if limit < 0:
            return None
        start = self._accounts[tenant, accelerator].first(limit, length, after, until)
        while start is not None and cohort is not None:
            agreed = cohort.first(tenant, gpus, length, start, until)
            if agreed is None or agreed == start:
                return agreed
            start = self._accounts[tenant, accelerator].first(limit, length, agreed, until)
        return start

    def lacking(self, tenant: str, accelerator: str, gpus: float, start: int, end: int) -> tuple[float, float]:
        """Return the GPUs that a tenant, and its cohort, must give back before it may have so many more."""
        quota = self.quota(tenant, accelerator) if self._limited else None
        if quota is None:
            return 0.0, 0.0
        cohort = self.cohort(tenant, accelerator)
        own = self._accounts[tenant, accelerator].peak(start, end) + gpus - _limit(quota, cohort)
        return max(0.0, own), 0.0 if cohort is None else max(0.0, cohort.over(tenant, gpus, start, end))

    def within_nominal(self, tenant: str, accelerator: str, gpus: float) -> bool:
        """Tell whether a tenant would hold no more than its own, with so many more."""
        quota = self.quota(tenant, accelerator)
        return quota is not None and self.held(tenant, accelerator) + gpus <= quota.nominal + _DUST

    def borrowed(self, tenant: str, accelerator: str) -> float:
        """Return the GPUs that a tenant holds beyond its own."""
        quota = self.quota(tenant, accelerator)
        return 0.0 if quota is None else max(0.0, self.held(tenant, accelerator) - quota.nominal)

    def held(self, tenant: str, accelerator: str) -> float:
        """Return the GPUs that a tenant holds now."""
        return self.used.get(tenant, {}).get(accelerator, 0.0)


def _limit(quota: Quota, cohort: Cohort | None, *, own: bool = False) -> float:
    """Return a quota with all that may be borrowed, or with `own` without."""
    if cohort is None or own:
        return quota.nominal
    return float("inf") if quota.borrow is None else quota.nominal + quota.borrow
