"""What the DAGs of the cycle share: their settings, what they wait for, the figures that go with an asset's event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gangplan_airflow.compat import AirflowSkipException, conf

if TYPE_CHECKING:
    from airflow.sdk.definitions.deadline import DeadlineAlert

    from gangplan.config import Settings


def stage_settings(*needs: str) -> Settings:
    """Return gangplan's settings with the ledger of the connection `gangplan_default`, or skip the task.

    It is skipped, in words, when the first days have not brought yet what it needs (see `gangplan.workflows.Need`).
    """
    from gangplan.workflows import Need, not_yet
    from gangplan_airflow.hook import GangplanHook

    settings = GangplanHook().settings()
    if missing := not_yet(settings, *map(Need, needs)):
        raise AirflowSkipException(f"nothing to do: {missing}")
    return settings


def figures(summary: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the named figures of a stage's summary, for the `extra` of an asset's event."""
    return {name: summary[name] for name in names}


def deadline() -> DeadlineAlert | None:
    """Return the alert of a run that is late, as the section [gangplan] of Airflow's configuration asks for it."""
    minutes = conf.getint("gangplan", "deadline_minutes", fallback=0)
    if minutes <= 0:
        return None
    from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

    from gangplan_airflow.compat import AsyncCallback

    callback = conf.get("gangplan", "deadline_callback", fallback="") or f"{__name__}.say_late"
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=minutes),
        callback=AsyncCallback(callback),
    )


async def say_late(context: Mapping[str, Any] | None = None, **_: Any) -> None:
    """Write a warning into the triggerer's log: what happens where no other callback is configured."""
    import logging

    run: Any = (context or {}).get("dag_run") or {}
    logging.getLogger(__name__).warning("late: %s %s is not done", run.get("dag_id"), run.get("dag_run_id"))
