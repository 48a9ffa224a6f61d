"""Gives back what nobody will release: reservations whose owners, as a cluster or Airflow knows them, have ended.

An owner is found by the attempt of its reservations: an object of the cluster by its uid, a pipeline's run by its id.
The ledger ends a reservation once, whoever asks and however often. One that another attempt has taken over meanwhile
stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from gangplan.clock import Clock
from gangplan.errors import StaleTokenError
from gangplan.execute import Lives
from gangplan.reserve import KueueLedger, OperableLedger
from gangplan.types import ObjectOwner, PipelineOwner, Reservation, cluster_owner

_log = logging.getLogger(__name__)


class GivingBack:
    """Looks for reservations of owners that have ended, and ends them; `given` hears of each, with its owner's kind."""

    def __init__(
        self,
        ledger: OperableLedger,
        lives: Lives,
        *,
        clock: Clock,
        require: Callable[[], None],
        given: Callable[[str], None],
    ) -> None:
        self._ledger, self._lives, self._clock = ledger, lives, clock
        self._require, self._given = require, given
        self._owners: frozenset[str] = frozenset()

    def owns(self, key: str) -> bool:
        """Tell whether a uid or a run was an owner's at the last look; others come with the next look."""
        return key in self._owners

    def look(self) -> None:
        """End what owners have left that have ended."""
        owned = [(row, owner) for row in self._live() if (owner := cluster_owner(row.attempt)) is not None]
        self._owners = frozenset(_key(owner) for _, owner in owned)
        for row, owner in owned:
            if why := self._lives.ended(owner, str(row.id)):
                self._require()
                self._end(row, owner, why)

    def _live(self) -> Iterable[Reservation]:
        """Return the reservations that wait or hold slots; Kueue itself ends those that a Job has adopted."""
        if isinstance(self._ledger, KueueLedger):
            return self._ledger.live()
        return (row for row in self._ledger.history(since=self._clock()) if not row.state.final)

    def _end(self, row: Reservation, owner: ObjectOwner | PipelineOwner, why: str) -> None:
        with suppress(StaleTokenError):  # another attempt has taken it over
            self._ledger.cancel(row.id, row.attempt)
            fields = {"reservation": row.id, "owner": str(owner), "gpus": row.request.gpus, "before": row.state.value}
            _log.info("given back: %s", why, extra={**fields, "why": why})
            self._given(owner.kind if isinstance(owner, ObjectOwner) else "pipeline run")


def _key(owner: ObjectOwner | PipelineOwner) -> str:
    return owner.uid if isinstance(owner, ObjectOwner) else owner.run
