"""Gives back what nobody will release: reservations whose owners, as a cluster or Airflow knows them, have ended.

An owner is found by the attempt of its reservations: an object of the cluster by its uid, a run by its id. The ledger
ends a reservation once, whoever asks and however often. One that another attempt has taken over meanwhile stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from urllib.parse import quote, unquote

from gangplan.clock import Clock
from gangplan.errors import GangplanError, StaleTokenError
from gangplan.execute import AirflowRuns, Lives, Run
from gangplan.reserve import KueueLedger, OperableLedger
from gangplan.types import ObjectOwner, Reservation, ReservationState, cluster_owner

_log = logging.getLogger(__name__)


class Owners(Protocol):
    """What knows of owners whether they have ended."""

    def look(self) -> None:
        """Learn what has to be asked for at every look."""
        ...

    def of(self, row: Reservation) -> tuple[str, str]:
        """Return the kind of a reservation's owner, and its key; empty texts for one that is not known here."""
        ...

    def ended(self, row: Reservation) -> str:
        """Return how its owner has ended, in words; empty while slots may still be in use."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClusterOwners:
    """Objects of a cluster, and runs of its Kubeflow pipelines."""

    lives: Lives

    def look(self) -> None:
        """See `Owners.look`: all is watched."""

    def of(self, row: Reservation) -> tuple[str, str]:
        """See `Owners.of`: an object by its uid, a run by its id."""
        owner = cluster_owner(row.attempt)
        if owner is None:
            return "", ""
        return (owner.kind, owner.uid) if isinstance(owner, ObjectOwner) else ("pipeline run", owner.run)

    def ended(self, row: Reservation) -> str:
        """See `Owners.ended`."""
        owner = cluster_owner(row.attempt)
        return "" if owner is None else self.lives.ended(owner, str(row.id))


@dataclass(frozen=True, kw_only=True)
class DagRunOwners:
    """Runs of an Airflow's DAGs; what a run had claimed is given back a `grace` later, for killed work lives on.

    `name` is the Airflow's own, where several share a ledger. Slots under a key that the DAG's author chose outlive a
    run that has succeeded: they are meant for another one.
    """

    runs: AirflowRuns
    name: str
    grace: timedelta
    clock: Clock

    def look(self) -> None:
        """See `Owners.look`."""
        self.runs.look()

    def of(self, row: Reservation) -> tuple[str, str]:
        """See `Owners.of`."""
        first, _, rest = row.attempt.partition("/")
        ours = f"airflow:{quote(self.name, safe='')}" if self.name else "airflow"
        return ("DAG run", "/".join(rest.split("/")[:2])) if first == ours and rest.count("/") >= 2 else ("", "")

    def ended(self, row: Reservation) -> str:
        """See `Owners.ended`."""
        dag, run = map(unquote, self.of(row)[1].split("/"))
        end = self.runs.end_of(Run(dag, run))
        if end is None:
            return ""
        if row.state is not ReservationState.WAITING and row.claim_by is None:
            its_own = row.request.request_key.startswith(f"{row.attempt.partition('/')[0]}/{dag}/{run}/"[:400])
            if (end.state == "success" and not its_own) or (end.at and self.clock() < end.at + self.grace):
                return ""
        return f"DAG run {dag}/{run} {'was deleted' if end.at is None else f'has ended: {end.state}'}"


@dataclass(kw_only=True)
class GivingBack:
    """Looks for reservations of owners that have ended, and ends them; `given` hears of each, with its owner's kind."""

    ledger: OperableLedger
    owners: tuple[Owners, ...]
    clock: Clock
    may_begin: Callable[[], None]
    given: Callable[[str], None]
    _keys: frozenset[str] = field(default=frozenset(), init=False)

    def knows(self, key: str) -> bool:
        """Tell whether a uid or a run was an owner's at the last look; others come with the next look."""
        return key in self._keys

    def look(self) -> None:
        """End what owners have left that have ended; an Airflow that is away holds up nothing of the cluster's."""
        live, keys, trouble = tuple(self._live()), set[str](), list[GangplanError]()
        for owners in self.owners:
            rows = [(row, kind) for row in live if (kind := owners.of(row)[0])]
            keys |= {owners.of(row)[1] for row, _ in rows}
            try:
                self._look(owners, rows)
            except GangplanError as error:
                trouble.append(error)
        self._keys = frozenset(keys)
        if trouble:
            raise trouble[0]

    def _look(self, owners: Owners, rows: list[tuple[Reservation, str]]) -> None:
        if rows:
            owners.look()
        for row, kind in rows:
            if why := owners.ended(row):
                self.may_begin()
                self._end(row, kind, why)

    def _live(self) -> Iterable[Reservation]:
        """Return the reservations that wait or hold slots; Kueue itself ends those that a Job has adopted."""
        if isinstance(self.ledger, KueueLedger):
            return self.ledger.live()
        return (row for row in self.ledger.history(since=self.clock()) if not row.state.final)

    def _end(self, row: Reservation, kind: str, why: str) -> None:
        with suppress(StaleTokenError):  # another attempt has taken it over
            self.ledger.cancel(row.id, row.attempt)
            fields = {"reservation": row.id, "owner": row.owner, "gpus": row.request.gpus, "before": row.state.value}
            _log.info("given back: %s", why, extra={**fields, "why": why})
            self.given(kind)
