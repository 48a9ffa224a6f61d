"""The telemetry that a plan is made from: up to now, with its age, and never older than the settings allow."""

from __future__ import annotations

from datetime import datetime, timedelta

from gangplan import telemetry
from gangplan.clock import HOUR, in_words
from gangplan.config import Settings
from gangplan.errors import OldTelemetryError
from gangplan.reserve import OperableLedger
from gangplan.tracking import Store
from gangplan.types import Forecast, Usage

_LOOK_BACK = timedelta(days=2)
"""So far before the last delivered hour the ledger's history is read: a day shows which series it knows alone."""


def usage_now(store: Store, ledger: OperableLedger, settings: Settings) -> Usage:
    """Return the telemetry up to now: late hours are missing, except where the ledger knows them.

    What the ledger was asked for is recorded first, so that it can deny hours that telemetry counts wrongly.

    Raises
    ------
    OldTelemetryError
        When the last delivered hour is older than the setting `stale_after_hours`.
    """
    now = settings.clock()
    end = telemetry.last_hour(store, now)
    refuse_old(end, settings)
    telemetry.record_reservations(ledger.history(since=end - _LOOK_BACK), store, clock=settings.clock)
    return telemetry.until_now(telemetry.read_usage(store, now), now)


def refuse_old(end: datetime, settings: Settings) -> None:
    """Refuse to plan from telemetry that ended too long ago."""
    age, most = settings.clock() - end, settings.stale_after_hours * HOUR
    if age > most:
        raise OldTelemetryError(
            f"telemetry: its last hour ended {in_words(age)} before now, on {end:%Y-%m-%d %H:%M}, and a plan needs one "
            f"of the last {in_words(most)} (setting stale_after_hours): ingest again; give --until now for a file that "
            "was exported now, --replay for an old trace, or --now to work as of then"
        )


def age_words(forecast: Forecast, settings: Settings) -> tuple[str, ...]:
    """Warn that a forecast is made from late telemetry; nothing where that is fresh enough (`late_after_hours`)."""
    if forecast.age < settings.late_after_hours * HOUR:
        return ()
    return (
        f"The telemetry is late: its last hour ended {in_words(forecast.age)} before this plan begins, and nothing is "
        "known of the hours between",
    )
