"""What has another place in another version of Airflow (3.1, 3.2, 3.3): all that gangplan and its DAGs take from there.

Airflow 3.2 moved these; their old places warn since then. Nothing else in gangplan asks for Airflow's version.
"""

from __future__ import annotations

from airflow.triggers.base import BaseTrigger

try:
    from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
except ImportError:  # Airflow 3.1
    from airflow.configuration import conf
    from airflow.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSkipException,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
    from airflow.timetables.assets import AssetOrTimeSchedule
    from airflow.timetables.trigger import CronTriggerTimetable

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
    "CronTriggerTimetable",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "conf",
]
