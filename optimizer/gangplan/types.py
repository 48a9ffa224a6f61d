"""The values that the stages hand over: frozen, keyword-only, checked when they are made.

    Usage -> Forecast -> Plan -> CapacityCalendar -> Reservation -> Outcome -> Beliefs -> (the next Forecast)

Tables inside them are Polars frames with the schemas of `gangplan.tables`. Polars itself comes with the extras
`forecast` and `plan`; the reservation's values need nothing but the standard library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from math import ceil
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, NewType

from gangplan.clock import require_utc
from gangplan.errors import InputError

if TYPE_CHECKING:
    import polars as pl

ReservationId = NewType("ReservationId", str)
PlanId = NewType("PlanId", str)
Token = NewType("Token", int)
"""A fencing token: grows with every grant, never repeats."""

QUANTILES = (0.1, 0.5, 0.9, 0.95, 0.99)
"""The levels that every demand model predicts."""

SERIES = ("tenant", "workload_class", "accelerator")
"""The columns that name a demand series."""

WHOLE_GPU = "gpu"
"""The slot of a pool whose GPUs are not divided."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,62}")


class WorkloadClass(StrEnum):
    """What a workload is bound by, and so how it may be served."""

    LATENCY = "latency"  # serving: capacity ahead of demand
    THROUGHPUT = "throughput"  # training: may be deferred within a window
    COST = "cost"  # batch: the cheapest capacity, may be interrupted


class PoolKind(StrEnum):
    """How the nodes of a pool are paid for and whether they may be taken away."""

    OWNED = "owned"
    COMMITTED = "committed"
    ON_DEMAND = "on_demand"
    SPOT = "spot"


class ReservationState(StrEnum):
    """Where a reservation stands."""

    WAITING = "waiting"
    GRANTED = "granted"
    INTERRUPTED = "interrupted"  # its nodes went away: it waits, ahead of all others, for slots in their place
    RELEASED = "released"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PREEMPTED = "preempted"  # its slots were taken for another gang, after notice

    @property
    def final(self) -> bool:
        """Whether nothing can change this state any more."""
        return self not in _LIVE_STATES

    @property
    def waits(self) -> bool:
        """Whether it waits for slots."""
        return self in (ReservationState.WAITING, ReservationState.INTERRUPTED)


_LIVE_STATES = (ReservationState.WAITING, ReservationState.GRANTED, ReservationState.INTERRUPTED)


class Level(StrEnum):
    """How close together the pods of a gang stand."""

    NODE = "node"
    NVLINK = "nvlink"  # one NVLink domain: `nodes_per_nvlink` nodes in a row
    RACK = "rack"  # `nodes_per_rack` nodes in a row
    ZONE = "zone"  # a pool is in one zone, and a gang in one pool: always so


class NodeState(StrEnum):
    """Whether a node may carry gangs."""

    READY = "ready"
    DRAINING = "draining"  # takes no gang; those on it have until their drain deadline
    LOST = "lost"  # gone, and what ran on it


class Limit(StrEnum):
    """Which limit holds a waiting request."""

    QUOTA = "quota"  # its tenant, or its cohort, has used up what it may hold
    CAPACITY = "capacity"  # the slots exist, others hold them
    CALENDAR = "calendar"  # the plan has no such capacity in the time asked for
    TOPOLOGY = "topology"  # enough slots, but not together
    WINDOW = "window"  # its earliest start is still to come
    ORDER = "order"  # it would fit, but would delay one ahead of it


_LONGEST = timedelta(days=3650)
_LAST = datetime(3000, 1, 1, tzinfo=UTC)
_MOST = 1_000_000


def require_type(field_name: str, value: object, kind: type | tuple[type, ...], words: str) -> None:
    """Refuse a value of another type; a bool is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(field_name, value, f"must be {words}, not {type(value).__name__}")


def require_whole(field_name: str, value: int, least: int, most: int = _MOST) -> None:
    """Refuse what is not a whole number from `least` to `most`."""
    require_type(field_name, value, int, "a whole number")
    if not least <= value <= most:
        raise InputError(field_name, value, f"must be a whole number of at least {least} and at most {most}")


def require_text(field_name: str, value: str, least: int = 0) -> None:
    """Refuse what is not a text of up to 512 printable characters."""
    require_type(field_name, value, str, "a text")
    if not least <= len(value) <= 512:
        raise InputError(field_name, value, f"must be {least} to 512 characters")
    if not value.isprintable():
        raise InputError(field_name, value, "must hold no control characters")


def require_span(field_name: str, value: timedelta) -> None:
    """Refuse a duration that is not positive, or longer than ten years."""
    require_type(field_name, value, timedelta, "a timedelta")
    require_positive(field_name, value.total_seconds())
    if value > _LONGEST:
        raise InputError(field_name, value, f"must be at most {_LONGEST.days} days")


def require_items(field_name: str, value: tuple[object, ...], kind: type, words: str) -> None:
    """Refuse what is not a tuple of 1 to 64 values of one type."""
    require_type(field_name, value, tuple, f"a tuple of {words}")
    if not 1 <= len(value) <= 64:
        shown = f"{len(value)} of them" if value else "[]"
        raise InputError(field_name, shown, f"is empty or too long: give 1 to 64 {words}, the preferred first")
    for item in value:
        require_type(field_name, item, kind, words)


def require_name(field_name: str, value: str) -> str:
    """Return `value`, or refuse what is not a plain name."""
    require_type(field_name, value, str, "a name")
    if not _NAME.fullmatch(value):
        raise InputError(field_name, value, "is not a name: use 1 to 63 letters, digits, '.', '_' or '-'")
    return value


def require_slot(field_name: str, value: str) -> None:
    """Refuse what names no kind of slot."""
    require_type(field_name, value, str, "a name")
    if not _SLOT.fullmatch(value):
        raise InputError(field_name, value, "names no slot: give gpu, a MIG profile as 1g.10gb or a fraction as 1/4")


def require_positive(field_name: str, value: float) -> None:
    """Refuse zero, negative numbers and what is not a number."""
    if not value > 0 or value == float("inf"):
        raise InputError(field_name, value, "must be a number greater than 0")


def require_at_least(field_name: str, value: float, least: float) -> None:
    """Refuse numbers below `least` and what is not a number."""
    if not value >= least or value == float("inf"):
        raise InputError(field_name, value, f"must be a number of at least {least:g}")


# ---------------------------------------------------------------- telemetry and forecast


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was asked of the GPUs: the telemetry of one span of hours.

    `demand` is hourly and counts GPUs as asked for (running and queued); a missing hour is a null, never a zero.
    """

    source: str
    sha256: str
    start: datetime
    end: datetime
    demand: pl.DataFrame
    jobs: pl.DataFrame
    nodes: pl.DataFrame
    queue: pl.DataFrame
    requests: pl.DataFrame
    events: pl.DataFrame
    run_id: str | None = None
    announced: pl.DataFrame | None = None  # tables.ANNOUNCED: what people said; its events are in `events` too


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Quantiles of hourly GPU demand by series, from `issued_at` on.

    `corrected_by` is the run id of the beliefs that are already in the quantiles, so that feedback adds to them.
    `stands_out` says which series' next hours were corrected by the nowcast, and why.
    """

    issued_at: datetime
    model: str
    quantiles: pl.DataFrame
    run_id: str | None = None
    corrected_by: str | None = None
    stands_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training:
    """One retraining: what was registered, how it did in the back-test, and whether it steers now.

    WQL is in per cent of mean demand; `notes` say in words which series the model could not learn, and why.
    """

    run_id: str
    version: str
    wql: float
    naive_wql: float
    coverage_80: float
    promoted: bool
    reason: str
    backtest: pl.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Beliefs:
    """What feedback has learned about the forecast's error: per series a level factor and a width factor."""

    made_at: datetime
    corrections: pl.DataFrame
    run_id: str | None = None


# ---------------------------------------------------------------- fleet and plan


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Nodes of one kind: GPUs per node, price in money per node-hour, limits in nodes.

    A pool whose GPUs are divided names the part (a MIG profile as 1g.10gb, a fraction as 1/4) as its `slot`, and how
    many of them a GPU has; requests that name this slot are counted in it. `price_factors` and `carbon_factors` are 24
    multiples by hour of the day (UTC) of the price and of the carbon intensity; a committed pool's nodes, once taken,
    are paid for through the whole horizon; a node runs at least `minimum_up_hours`. How long a node takes from its
    order to its first work may be given as a distribution, by its median and its 95 % quantile in minutes: orders are
    then placed that 95 % ahead, and `lead_time_hours`, from which on new nodes are counted with, must cover it.
    """

    name: str
    accelerator: str
    gpus_per_node: int
    kind: PoolKind
    price_per_node_hour: float
    min_nodes: int = 0
    max_nodes: int
    lead_time_hours: int = 0
    startup_minutes_p50: float = 0.0
    startup_minutes_p95: float = 0.0
    interruption_per_hour: float = 0.0
    region: str = "local"
    zone: str = "local-a"
    nodes_per_rack: int = 8
    nodes_per_nvlink: int = 1
    slot: str = WHOLE_GPU
    slots_per_gpu: int = 1
    minimum_up_hours: int = 0
    price_factors: tuple[float, ...] = ()
    power_kw_per_node: float = 0.0
    carbon_g_per_kwh: float = 0.0
    carbon_factors: tuple[float, ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # a misspelt field of the fleet file is refused

    def __post_init__(self) -> None:
        prefix = f"pools[{self.name}]"
        require_name("pools.name", self.name)
        require_name(f"{prefix}.accelerator", self.accelerator)
        require_at_least(f"{prefix}.gpus_per_node", self.gpus_per_node, 1)
        require_at_least(f"{prefix}.price_per_node_hour", self.price_per_node_hour, 0)
        require_at_least(f"{prefix}.min_nodes", self.min_nodes, 0)
        require_at_least(f"{prefix}.max_nodes", self.max_nodes, self.min_nodes)
        require_at_least(f"{prefix}.lead_time_hours", self.lead_time_hours, 0)
        require_at_least(f"{prefix}.nodes_per_rack", self.nodes_per_rack, 1)
        require_at_least(f"{prefix}.nodes_per_nvlink", self.nodes_per_nvlink, 1)
        require_slot(f"{prefix}.slot", self.slot)
        require_at_least(f"{prefix}.slots_per_gpu", self.slots_per_gpu, 1)
        if self.slot == WHOLE_GPU and self.slots_per_gpu != 1:
            raise InputError(f"{prefix}.slots_per_gpu", self.slots_per_gpu, "must be 1 where the slot is a whole gpu")
        if not 0 <= self.interruption_per_hour < 1:
            raise InputError(f"{prefix}.interruption_per_hour", self.interruption_per_hour, "must be from 0 to below 1")
        for name in ("minimum_up_hours", "power_kw_per_node", "carbon_g_per_kwh", "startup_minutes_p50"):
            require_at_least(f"{prefix}.{name}", getattr(self, name), 0)
        self._check_startup(prefix)
        for name in ("price_factors", "carbon_factors"):
            self._check_factors(f"{prefix}.{name}", getattr(self, name))

    def _check_startup(self, prefix: str) -> None:
        """Refuse quantiles out of order, and a lead time that does not cover them."""
        median, most = self.startup_minutes_p50, self.startup_minutes_p95
        require_at_least(f"{prefix}.startup_minutes_p95", most, median)
        if most > 0 and median <= 0:
            raise InputError(f"{prefix}.startup_minutes_p50", median, "must be given too, and be greater than 0")
        if most > 60 * self.lead_time_hours:
            raise InputError(
                f"{prefix}.lead_time_hours",
                self.lead_time_hours,
                f"is shorter than the {most:g} minutes that 95 of 100 starts take: set it to {ceil(most / 60)}",
            )

    def _check_factors(self, name: str, factors: tuple[float, ...]) -> None:
        """Refuse what is not one factor for each hour of the day."""
        if len(factors) not in (0, 24):
            raise InputError(
                name, f"{len(factors)} factors", "must be 24, one for each hour of the day in UTC, or none"
            )
        for factor in factors:
            require_at_least(name, factor, 0)

    @property
    def slots_per_node(self) -> int:
        """What a node has to give: its GPUs, or their parts."""
        return self.gpus_per_node * self.slots_per_gpu


@dataclass(frozen=True, kw_only=True)
class Term:
    """What nodes of a committed pool cost when they are bought for so many months, in money per node-hour."""

    pool: str
    months: int
    price_per_node_hour: float

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        require_name("terms.pool", self.pool)
        require_whole(f"terms[{self.pool}].months", self.months, 1, 120)
        require_at_least(f"terms[{self.pool}].price_per_node_hour", self.price_per_node_hour, 0)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The pools there are and the nodes that each runs now.

    `terms` are the offers to buy nodes of committed pools; `committed_until` says on which day the nodes of a committed
    pool that run now are no longer paid for (a pool that is not named: never).
    """

    pools: tuple[Pool, ...]
    nodes: dict[str, int] = field(default_factory=dict[str, int])
    terms: tuple[Term, ...] = ()
    committed_until: dict[str, date] = field(default_factory=dict[str, date])

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        names = [pool.name for pool in self.pools]
        if not names:
            raise InputError("pools", "[]", "is empty: name at least one pool")
        for name in names:
            if names.count(name) > 1:
                raise InputError("pools.name", name, "stands twice: give each pool a name of its own")
        for name, count in self.nodes.items():
            self.pool(name)
            require_at_least(f"nodes[{name}]", count, 0)
        self._check_terms()

    def _check_terms(self) -> None:
        """Refuse terms of what is not committed, and the same term twice."""
        for name in (*(term.pool for term in self.terms), *self.committed_until):
            if self.pool(name).kind != PoolKind.COMMITTED:
                raise InputError(f"terms[{name}]", self.pool(name).kind.value, "is of no committed pool: set its kind")
        offers = [(term.pool, term.months) for term in self.terms]
        for pool, months in offers:
            if offers.count((pool, months)) > 1:
                raise InputError(f"terms[{pool}].months", months, "stands twice: give each term one price")

    def pool(self, name: str) -> Pool:
        """Return the pool of that name, or refuse the name."""
        for pool in self.pools:
            if pool.name == name:
                return pool
        known = ", ".join(pool.name for pool in self.pools)
        raise InputError("pool", name, f"is not in the fleet: use one of {known}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many nodes each pool runs in each hour, what that costs, and who is short when and why.

    Frames: `nodes` (hour, pool, nodes), `shortage` (hour, series, expected and 0.95 GPUs), `cost` (pool, money),
    `limits` (what binds: family, name, hours, amount, money). Money is the fleet file's currency.
    """

    plan_id: PlanId
    issued_at: datetime
    status: str
    gap: float
    total_cost: float
    nodes: pl.DataFrame
    cost: pl.DataFrame
    shortage: pl.DataFrame
    limits: pl.DataFrame
    explanation: tuple[str, ...]
    seed: int
    fleet: Fleet
    forecast_model: str
    settings: dict[str, float | None] = field(default_factory=dict[str, "float | None"])  # what it was solved with
    warm_start: bytes = field(default=b"", repr=False, compare=False)  # what a later question begins from
    inputs: dict[str, Any] = field(default_factory=dict[str, "Any"])  # plain values: policy, previous plan, held nodes
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class NodeChange:
    """One pool's step from the nodes it runs to the nodes that the plan wants now."""

    pool: str
    current: int
    target: int
    at: datetime


@dataclass(frozen=True, kw_only=True)
class CapacityInterval:
    """A pool's planned nodes from `start` up to `end`."""

    pool: str
    start: datetime
    end: datetime
    nodes: int

    def __post_init__(self) -> None:
        require_utc("start", self.start)
        require_utc("end", self.end)
        require_at_least("nodes", self.nodes, 0)
        if self.end <= self.start:
            raise InputError("end", self.end.isoformat(), f"must be later than start {self.start.isoformat()}")


@dataclass(frozen=True, kw_only=True)
class CapacityCalendar:
    """What a plan lets the ledger promise: pools by their shape, and their nodes over time.

    After a pool's last interval its last node count goes on; before its first there is none.
    """

    plan_id: PlanId
    pools: tuple[Pool, ...]
    intervals: tuple[CapacityInterval, ...]

    def __post_init__(self) -> None:
        names = {pool.name for pool in self.pools}
        for interval in self.intervals:
            if interval.pool not in names:
                known = ", ".join(sorted(names))
                raise InputError("pool", interval.pool, f"is not in the calendar's pools: use one of {known}")


# ---------------------------------------------------------------- reservations


@dataclass(frozen=True, kw_only=True)
class PodSet:
    """Pods of one shape: how many, and whole GPUs (or slots of the request's kind) for each.

    `min_count` and `max_count` (default: `count`) bound what a running gang may be resized to.
    """

    count: int
    gpus_per_pod: int
    min_count: int | None = None
    max_count: int | None = None

    def __post_init__(self) -> None:
        require_whole("pod_sets.count", self.count, 1)
        require_whole("pod_sets.gpus_per_pod", self.gpus_per_pod, 1)
        require_whole("pod_sets.min_count", self.least, 1, self.count)
        require_whole("pod_sets.max_count", self.most, self.count)

    @property
    def gpus(self) -> int:
        """The GPUs of all its pods."""
        return self.count * self.gpus_per_pod

    @property
    def least(self) -> int:
        """The fewest pods that it may shrink to."""
        return self.count if self.min_count is None else self.min_count

    @property
    def most(self) -> int:
        """The most pods that it may grow to."""
        return self.count if self.max_count is None else self.max_count


@dataclass(frozen=True, kw_only=True)
class Topology:
    """How close together all pods of a gang must stand, or (`required=False`) should."""

    level: Level
    required: bool = True

    def __post_init__(self) -> None:
        require_type("topology.level", self.level, Level, "a Level")
        require_type("topology.required", self.required, bool, "True or False")

    @classmethod
    def from_text(cls, text: str) -> Topology | None:
        """Read `rack` (required) or `rack:preferred`; an empty text is no wish."""
        level, _, wish = text.partition(":")
        if not text:
            return None
        if level not in list(Level) or wish not in ("", "preferred", "required"):
            raise InputError("topology", text, f"is unknown: use one of {', '.join(Level)}, alone or with :preferred")
        return cls(level=Level(level), required=wish != "preferred")

    def __str__(self) -> str:
        return self.level.value if self.required else f"{self.level.value}:preferred"


@dataclass(frozen=True, kw_only=True)
class GangRequest:
    """A gang of GPU slots that is granted whole or not at all.

    `request_key` makes it idempotent: the same key with the same body is the same reservation. `duration` is the
    expected run time and, with no renewal, the hard limit of the lease; `walltime` (default: `duration`) bounds all
    renewals together. Both hold on an accelerator of speed 1; `speed` gives measured factors of others (2.0: twice as
    fast, half the time). The window runs from `earliest_start` to `latest_start`, and no later than what lets the
    walltime end by `deadline`; a request not started by then expires. `priority_class` names a class of the policy,
    whose priority then counts instead of `priority`. A `preemptible` gang may lose its slots to one that is entitled to
    them, after a notice that is at least `checkpoint` long.
    """

    request_key: str
    tenant: str
    pod_sets: tuple[PodSet, ...]
    accelerators: tuple[str, ...]
    duration: timedelta
    walltime: timedelta | None = None
    speed: dict[str, float] = field(default_factory=dict[str, float])
    slot: str = WHOLE_GPU
    priority: int = 100
    priority_class: str = ""
    workload_class: WorkloadClass = WorkloadClass.THROUGHPUT
    earliest_start: datetime | None = None
    latest_start: datetime | None = None
    deadline: datetime | None = None
    topology: Topology | None = None
    preemptible: bool = False
    checkpoint: timedelta | None = None
    labels: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        require_text("request_key", self.request_key, 1)
        require_name("tenant", self.tenant)
        require_items("pod_sets", self.pod_sets, PodSet, "PodSets")
        require_items("accelerators", self.accelerators, str, "names of accelerators")
        for accelerator in self.accelerators:
            require_name("accelerators", accelerator)
        require_slot("slot", self.slot)
        require_span("duration", self.duration)
        require_span("walltime", self.limit)
        require_at_least("walltime", self.limit.total_seconds(), self.duration.total_seconds())
        self._check_speed()
        require_whole("priority", self.priority, -_MOST)
        require_type("priority_class", self.priority_class, str, "a name")
        if self.priority_class:
            require_name("priority_class", self.priority_class)
        require_type("workload_class", self.workload_class, WorkloadClass, "a WorkloadClass")
        require_type("topology", self.topology, (Topology, NoneType), "a Topology")
        require_type("preemptible", self.preemptible, bool, "True or False")
        if self.checkpoint is not None:
            require_span("checkpoint", self.checkpoint)
        self._check_labels()
        self._check_window()

    def _check_speed(self) -> None:
        """Refuse factors of accelerators that are not asked for, and those that no hardware has."""
        require_type("speed", self.speed, dict, "a dict of factors by accelerator")
        for name, factor in self.speed.items():
            require_type(f"speed[{name}]", factor, (int, float), "a number")
            if name not in self.accelerators:
                raise InputError(f"speed[{name}]", factor, "is of no accelerator of the request: leave it out")
            if not 0.01 <= factor <= 100:
                raise InputError(f"speed[{name}]", factor, "must be from 0.01 to 100")

    def _check_labels(self) -> None:
        """Refuse labels that are not texts."""
        require_type("labels", self.labels, dict, "a dict of texts")
        if len(self.labels) > 64:
            raise InputError("labels", f"{len(self.labels)} of them", "are too many: give up to 64")
        for name, value in self.labels.items():
            require_text("labels", name, 1)
            require_text(f"labels[{name}]", value)

    def _check_window(self) -> None:
        """Refuse a window that is not in UTC, lies past the year 2999, or ends before it begins."""
        for name in ("earliest_start", "latest_start", "deadline"):
            value: datetime | None = getattr(self, name)
            if value is not None and require_utc(name, value) >= _LAST:
                raise InputError(name, value.isoformat(), f"must be before the year {_LAST.year}")
        if self.earliest_start and self.latest_start and self.latest_start < self.earliest_start:
            raise InputError("latest_start", self.latest_start.isoformat(), "must not be before earliest_start")
        if self.earliest_start and self.deadline and self.deadline <= self.earliest_start:
            raise InputError("deadline", self.deadline.isoformat(), "must be later than earliest_start")

    @property
    def limit(self) -> timedelta:
        """The hard walltime: the lease never lasts longer than this from its grant."""
        return self.walltime if self.walltime is not None else self.duration

    @property
    def gpus(self) -> int:
        """The GPUs of the whole gang."""
        return sum(pod_set.gpus for pod_set in self.pod_sets)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Pods of one pod set (by its place in the request) on one node, and the GPUs of those pods together."""

    pool: str
    node: str
    pods: int
    gpus: int
    pod_set: int = 0


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a request waits: the limit, in fields and in words."""

    limit: Limit
    message: str
    holders: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What a holder is told before it loses its slots: by when to be gone, why, and for whom.

    A holder that can, saves a checkpoint and releases; at `until` the slots are taken. When whoever they were meant for
    leaves first, the notice goes away again.
    """

    until: datetime
    why: str
    beneficiary: str = ""  # request key of the gang that gets the slots


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A request and what became of it.

    While it waits, `eta` is the promised start, or where it stands too far back for a promise the estimated one;
    `eta_range` says from when to when the start is expected.
    """

    id: ReservationId
    request: GangRequest
    state: ReservationState
    submitted_at: datetime
    token: Token | None = None
    placements: tuple[Placement, ...] = ()
    granted_at: datetime | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    first_eta: datetime | None = None  # the ETA that was promised first, to measure its error by
    eta: datetime | None = None
    eta_range: tuple[datetime, datetime] | None = None
    promised: bool = False  # the ETA stands on exact slots
    reason: Reason | None = None
    notice: Notice | None = None  # it holds slots, and will lose them
    interruptions: int = 0  # so often its nodes went away

    @property
    def waited(self) -> timedelta | None:
        """How long it waited for its grant; none when it was never granted."""
        return None if self.granted_at is None else self.granted_at - self.submitted_at


@dataclass(frozen=True, kw_only=True)
class FreeCapacity:
    """A pool's slots over one stretch of time: planned, held or promised, and free GPUs."""

    pool: str
    start: datetime
    end: datetime
    planned_gpus: int
    held_gpus: int

    @property
    def free_gpus(self) -> int:
        """GPUs that a new request could get, topology aside."""
        return max(0, self.planned_gpus - self.held_gpus)


# ---------------------------------------------------------------- feedback


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What really happened in a span that was planned: demand, and the reservations that lived in it."""

    start: datetime
    end: datetime
    demand: pl.DataFrame
    reservations: tuple[Reservation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """Planned against happened, over one span; `corrected_by` as the scored forecast's."""

    start: datetime
    end: datetime
    wql: float
    coverage_80: float
    planned_cost: float
    realised_cost: float
    unserved_gpu_hours: float
    idle_gpu_hours: float
    mean_wait_s: float | None
    mean_eta_error_s: float | None
    by_series: pl.DataFrame
    corrected_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What feedback changed: the score, the beliefs drawn from it, and the forecast before and after them."""

    score: Score
    beliefs: Beliefs
    before: Forecast
    after: Forecast
