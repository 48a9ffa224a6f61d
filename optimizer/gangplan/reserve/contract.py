"""What every ledger does, whatever it keeps its rows in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, Self

from gangplan.reserve.audit import AuditEvent, Compacted, Replay
from gangplan.reserve.policy import Policy
from gangplan.reserve.subscribers import Callback, Unsubscribe
from gangplan.types import (
    CapacityCalendar,
    FreeCapacity,
    GangRequest,
    NodeState,
    Outage,
    PlanId,
    Reason,
    Reservation,
    ReservationId,
    ReservationState,
    Token,
)

POLL = timedelta(milliseconds=250)
"""How often a client that polls asks the ledger."""

Sleep = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """A policy that was set: when, by whom and why."""

    at: datetime
    by: str
    why: str
    policy: Policy


class Ledger(Protocol):
    """Whole gangs of GPU slots, promised now or for a window to come: the calls of those who reserve.

    Every call may raise `UnavailableError` when the store cannot be reached or stays locked.
    """

    def submit(self, request: GangRequest, attempt: str = "") -> Reservation:
        """Ask for a gang. The same key and body give the same row; another body raises `KeyConflictError`.

        `attempt` says who asks: a path whose last part is the try, and the rest the owner. Another attempt of the
        owner takes a live reservation over: it keeps its place in line, what it holds gets a new token and is to be
        claimed again, and the old attempt can end or renew nothing any more. Another owner raises `KeyConflictError`.
        An empty attempt takes nothing over.
        """
        ...

    def get(self, id: ReservationId) -> Reservation:
        """Return a reservation as it was last written, or raise `NotFoundError`."""
        ...

    def find(self, request_key: str) -> Reservation:
        """Return the reservation of a key, or raise `NotFoundError`."""
        ...

    def renew(self, id: ReservationId, token: Token, ttl: timedelta | None = None) -> Reservation:
        """Let the lease end `ttl` (default: the request's duration) from now, never past the walltime.

        The first renewal claims a grant whose request has `claim_within`: its lease and walltime count from then.
        """
        ...

    def release(self, id: ReservationId, token: Token) -> Reservation:
        """Give the slots back. Releasing again, or after the lease ran out, answers with what stands."""
        ...

    def cancel(self, id: ReservationId, attempt: str | None = None) -> Reservation:
        """End a reservation that waits or holds slots; on an ended one, answer with what stands.

        With an attempt that is not its present one it raises `StaleTokenError`, and changes nothing.
        """
        ...

    def wait(
        self, id: ReservationId, *, timeout: timedelta, poll: timedelta = POLL, sleep: Sleep = time.sleep
    ) -> Reservation:
        """Return the reservation when it waits no longer, or raise `WaitTimeoutError`."""
        ...

    def watch(self, id: ReservationId, *, poll: timedelta = POLL, sleep: Sleep = time.sleep) -> Iterator[Reservation]:
        """Yield the reservation now and after every change, until it is final."""
        ...

    def subscribe(self, id: ReservationId, callback: Callback) -> Unsubscribe:
        """Tell `callback` soon how a reservation stands, and then of every change, until it is final.

        It is called from one thread that serves all of a process's waits, and must return at once: hand the reservation
        on (`loop.call_soon_threadsafe(...)` in asyncio). What is returned ends it.
        """
        ...

    def calendar(self, start: datetime, end: datetime) -> tuple[FreeCapacity, ...]:
        """Return each pool's planned and held GPUs from `start` to `end`, in stretches in which nothing changes."""
        ...

    def explain(self, id: ReservationId) -> Reason | None:
        """Say why a reservation waits as things stand now; None when it does not wait."""
        ...

    def what_if(self, request: GangRequest) -> tuple[datetime | None, Reason | None]:
        """Return when a request would start if it were submitted now, and why not at once. Nothing is written."""
        ...

    def history(self, since: datetime | None = None) -> tuple[Reservation, ...]:
        """Return all reservations that were not final before `since`, in order of arrival."""
        ...

    def list(self, state: ReservationState | None = None, owner: str = "") -> tuple[Reservation, ...]:
        """Return the reservations in one state, or all, in order of arrival; with `owner`, only what is its.

        An owner is all of an attempt but its last part, or less of the path: `airflow/train` has all of that DAG.
        """
        ...

    def tick(self) -> None:
        """Expire what is over and grant what can start: what every writing call does too."""
        ...

    def close(self) -> None:
        """Close connections; the ledger cannot be used any more."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...


class LedgerOperations(Protocol):
    """The calls of those who operate a ledger: its capacity, its nodes, its rules and its past, a gang's size."""

    def resize(self, id: ReservationId, token: Token, pods: tuple[int, ...]) -> Reservation:
        """Give a running gang another number of pods in each of its pod sets, within their least and most."""
        ...

    def publish(self, calendar: CapacityCalendar, *, keep: bool = False) -> None:
        """Let a plan's calendar hold from now on.

        With `keep` it is refused (`StrandedError`, which names them) where it would take nodes from a granted gang or
        an accepted window; without, such gangs lose what the calendar has no more.
        """
        ...

    def published(self) -> PlanId | None:
        """Return the plan whose calendar holds now; none before the first was published."""
        ...

    def mark_node(
        self,
        node: str,
        state: NodeState,
        *,
        why: str = "",
        begin: datetime | None = None,
        back: datetime | None = None,
    ) -> None:
        """Say that a node (`<pool>-<index>`) is lost, draining, or ready again.

        `begin` plans a drain for later: nothing is promised into it, and holders get their notice in time. `back` is
        when the node is expected back; without it, a lost node is for the policy's `back_within`. A drain is over then;
        a lost node must be said to be ready.
        """
        ...

    def nodes(self) -> dict[str, NodeState]:
        """Return the states of the nodes that are not ready, by name."""
        ...

    def outages(self) -> dict[str, Outage]:
        """Return the nodes that are not ready, or will be drained: from when, until when, and why."""
        ...

    def policy(self) -> Policy:
        """Return the rules that hold now."""
        ...

    def set_policy(self, policy: Policy, *, by: str, why: str) -> None:
        """Let other rules hold from now on; who set them and why is kept."""
        ...

    def policies(self) -> tuple[PolicyChange, ...]:
        """Return all rules that were ever set, oldest first."""
        ...

    def audit(self, since: datetime | None = None, id: ReservationId | None = None) -> Iterator[AuditEvent]:
        """Yield the audit log, oldest first: all, or what was written since a moment, or what is about one."""
        ...

    def replay(self) -> Replay:
        """Replay the audit log, and hold it against the reservations."""
        ...

    def compact(self, before: datetime) -> Compacted:
        """Delete the reservations that ended before a moment, and fold the audit log up to it into one base."""
        ...


class OperableLedger(Ledger, LedgerOperations, Protocol):
    """A ledger as `open_ledger` returns it; a call that its kind has nothing for raises `UnsupportedError`."""
