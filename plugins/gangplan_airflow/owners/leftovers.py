"""What tasks left in the ledger whose run, or who themselves, have ended.

Three look for it: the listener (at once), the lease and the claim time (in the ledger itself), and `sweep` (at last).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from gangplan.errors import StaleTokenError
from gangplan.types import Reservation, ReservationState
from gangplan_airflow.attempts import Attempt, airflow_owner
from gangplan_airflow.owners.states import ENDED, GONE, LOST, states_of_run

if TYPE_CHECKING:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    from gangplan.reserve import Ledger

BUSY = ("running", "deferred", "queued", "scheduled", "restarting", "up_for_retry", "up_for_reschedule")

_log = logging.getLogger(__name__)


def leftovers(ledger: Ledger, owner: str, over: Callable[[Attempt, Reservation], bool]) -> list[Reservation]:
    """Return what an owner's attempts wait for or hold, where it is over for them."""
    return [row for row in live(ledger, owner) if (of := Attempt.read(row.attempt)) is not None and over(of, row)]


def end_leftovers(ledger: Ledger, owner: str, over: Callable[[Attempt, Reservation], bool]) -> list[Reservation]:
    """End that; return what was ended."""
    return [ended for row in leftovers(ledger, owner, over) if (ended := end_leftover(ledger, row)) is not None]


def end_leftover(ledger: Ledger, row: Reservation) -> Reservation | None:
    """End a reservation, unless another try has taken it over meanwhile."""
    try:
        ended = ledger.cancel(row.id, row.attempt)
    except StaleTokenError:
        return None
    _log.warning("%s of %s: %s GPUs given back, for it has ended", row.id, row.attempt, row.request.gpus)
    return ended


def sweep(ledger: Ledger, ti: RuntimeTaskInstance) -> list[Reservation]:
    """End what belongs to runs that have ended or were deleted, and to tasks that ended without slots.

    `ti` is the task that asks: Airflow answers it. A DAG of which this Airflow has no run is another Airflow's.
    """
    asked = _Runs(ti)
    return end_leftovers(ledger, airflow_owner(), asked.over)


def left_by_ended(ledger: Ledger, owner: str, but: Collection[str | None]) -> list[Reservation]:
    """Return what tasks that have ended still have, in a task of the same run; `but` names attempts to leave out."""
    rows = [(attempt, row) for row in live(ledger, owner) if (attempt := Attempt.read(row.attempt))]
    left = [(attempt, row) for attempt, row in rows if row.attempt not in but]
    if not left:
        return []
    states = states_of_run(left[0][0].dag_id, left[0][0].run_id)
    return [row for attempt, row in left if states.get(attempt.name, GONE) in ENDED]


def is_claimed(reservation: Reservation) -> bool:
    """Tell whether somebody uses, or is about to use, what was granted."""
    return reservation.state is not ReservationState.WAITING and reservation.claim_by is None


def outlives_run(attempt: Attempt, reservation: Reservation) -> bool:
    """Tell whether slots are meant for another run or DAG: they are claimed, and their key is the author's own."""
    return is_claimed(reservation) and not attempt.gave_key(reservation)


class _Runs:
    """What Airflow says about runs, each asked for once."""

    def __init__(self, ti: RuntimeTaskInstance) -> None:
        self._ti = ti
        self._states: dict[tuple[str, str], str] = {}

    def over(self, attempt: Attempt, row: Reservation) -> bool:
        """Tell whether an attempt uses no slots any more, and nobody else does whom they are meant for."""
        run = attempt.dag_id, attempt.run_id
        if run not in self._states:
            self._states[run] = self._state_of(*run)
        match self._states[run]:
            case "elsewhere":
                return False
            case "running":
                return self._task_over(attempt, row)
            case "success":
                return not outlives_run(attempt, row)
            case _:
                return True

    def _state_of(self, dag_id: str, run_id: str) -> str:
        """Return how a run stands: elsewhere, gone, running, success or failed."""
        count = self._ti.get_dr_count
        if count(dag_id=dag_id, run_ids=[run_id]) == 0:
            return "gone" if count(dag_id=dag_id) else "elsewhere"
        state = self._ti.get_dagrun_state(dag_id, run_id)
        return next((ended for ended in ("success", "failed") if state == ended), "running")

    def _task_over(self, attempt: Attempt, row: Reservation) -> bool:
        """Tell whether a task of a run that goes on ended without slots; what it holds may be in use meanwhile."""
        states = states_of_run(attempt.dag_id, attempt.run_id)
        lost = states.get(attempt.name, GONE) in LOST
        return lost and not (is_claimed(row) and any(state in BUSY for state in states.values()))


def live(ledger: Ledger, owner: str) -> list[Reservation]:
    """Return what an owner's attempts wait for or hold."""
    return [row for state in ReservationState if not state.final for row in ledger.list(state, owner)]
