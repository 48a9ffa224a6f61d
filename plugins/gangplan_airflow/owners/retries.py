"""Slots for a task that failed and will be tried again: its lease has to last until then."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gangplan.client import Held
from gangplan.config import load_settings, present
from gangplan.errors import Refusal, UnavailableError
from gangplan.types import Reservation
from gangplan_airflow.attempts import ti_of
from gangplan_airflow.compat import AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    from gangplan.reserve import Ledger

LONGEST_PAUSE = timedelta(days=1)
"""What Airflow waits at most before a retry whose delay grows."""

_log = logging.getLogger(__name__)


def keep_for_retry(ledger: Ledger, held: Held, error: BaseException) -> None:
    """Stop renewing a lease, and let it last until the task is tried again, if it will be."""
    held.close()
    pause = _pause(error)
    if pause is None or held.lost.is_set():
        return
    try:
        kept = ledger.get(held.reservation_id)
        kept = ledger.renew(held.reservation_id, held.token, max(kept.request.duration, pause))
    except (Refusal, UnavailableError) as away:
        _log.warning("the slots may be gone when the task is tried again: %s", away)
        return
    _say(kept, pause)


def _say(kept: Reservation, pause: timedelta) -> None:
    """Warn of a lease that cannot last so long."""
    assert kept.expires_at is not None  # noqa: S101 (a renewed reservation has a lease)
    if kept.expires_at < present() + pause:
        remedy = "give the reserve task a longer duration, or options={'walltime': ...}"
        _log.warning("the slots go back at %s, before the task is tried again: %s", kept.expires_at, remedy)


def _pause(error: BaseException) -> timedelta | None:
    """Return how long the task will wait for its next try, and be started; None if there is none."""
    if isinstance(error, (AirflowFailException, AirflowSkipException)):
        return None
    ti = _present_task()
    if ti is None or ti.try_number > ti.max_tries:
        return None
    return _delay(ti.task, ti.try_number) + load_settings().claim_within


def _present_task() -> RuntimeTaskInstance | None:
    """Return the task that runs here; None outside of one."""
    from airflow.sdk import get_current_context

    try:
        return ti_of(get_current_context())
    except RuntimeError:
        return None


def _delay(task: Any, try_number: int) -> timedelta:
    """Return how long Airflow waits at most before the next try."""
    delay: timedelta = task.retry_delay
    backoff = task.retry_exponential_backoff
    if not backoff:
        return delay
    grows = 2.0 if backoff is True else float(backoff)
    return min(task.max_retry_delay or LONGEST_PAUSE, 2 * delay * grows ** (try_number - 1))  # and some chance
