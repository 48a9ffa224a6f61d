"""`airflow tasks test` and `airflow dags test` run all in one process: nothing that it reserved outlives it."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable

from gangplan import client, reserve
from gangplan.errors import GangplanError

_log = logging.getLogger(__name__)
_reserved: dict[str, tuple[str, str]] = {}


def leave_nothing(ledger_url: Callable[[], str], request_key: str, attempt: str) -> None:
    """Give back at the end of this process what an attempt has, if Airflow runs its tasks in this process."""
    if not _tasks_run_here():
        return
    if not _reserved:
        atexit.register(give_back_all)
    _reserved[attempt] = ledger_url(), request_key


def _tasks_run_here() -> bool:
    """Tell whether Airflow runs tasks without processes of their own."""
    from airflow.sdk.execution_time import task_runner

    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__ == "InProcessSupervisorComms"


def give_back_all() -> None:
    """Give back all that is still held; a ledger that is away by now ends it by itself."""
    for attempt, (url, request_key) in _reserved.items():
        try:
            with reserve.open_ledger(url) as ledger:
                ended = client.give_back(ledger, request_key, attempt)
        except GangplanError as error:
            _log.warning("%s could not be given back: %s", request_key, error)
            continue
        for reservation in ended:
            _log.warning("%s: given back, for this process ends and no run goes on with it", reservation.id)
    _reserved.clear()
