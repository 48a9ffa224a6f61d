"""What has another place in another version of Airflow (3.1, 3.2, 3.3): all that gangplan and its DAGs take from there.

Airflow 3.2 moved these; their old places warn since then. Nothing else in gangplan asks for Airflow's version.
"""

from __future__ import annotations

from airflow.triggers.base import BaseTrigger

try:
    from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, configuration
    from airflow.sdk.definitions.callback import AsyncCallback
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
except ImportError:  # Airflow 3.1
    from airflow import configuration
    from airflow.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,  # pyright: ignore[reportPrivateImportUsage]
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
    from airflow.sdk.definitions.deadline import AsyncCallback  # pyright: ignore[reportPrivateImportUsage]
    from airflow.timetables.assets import AssetOrTimeSchedule
    from airflow.timetables.trigger import CronTriggerTimetable

conf = configuration.conf

KILLS_TRIGGERS = hasattr(BaseTrigger, "on_kill")
"""Whether a trigger is told that a user has ended its task; before 3.3 it is only cancelled."""

RETRIES_FROM_TRIGGERS = KILLS_TRIGGERS
"""Whether a task that its trigger has failed is tried again; before 3.3 only a worker's failure is."""

__all__ = [
    "KILLS_TRIGGERS",
    "RETRIES_FROM_TRIGGERS",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSkipException",
    "AssetOrTimeSchedule",
    "AsyncCallback",
    "CronTriggerTimetable",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "conf",
]
