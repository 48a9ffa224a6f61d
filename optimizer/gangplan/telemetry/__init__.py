"""Telemetry: sources -> Usage, kept in MLflow, from which alone everything after reads."""

from gangplan.extras import needs_extras

with needs_extras():
    from gangplan.telemetry.announcements import Told, tell
    from gangplan.telemetry.intake import ingest
    from gangplan.telemetry.minutes import fine_gpus, fine_requests
    from gangplan.telemetry.read import read_usage
    from gangplan.telemetry.reservations import record_reservations
    from gangplan.telemetry.values import BadRow, IngestReport

__all__ = [
    "BadRow",
    "IngestReport",
    "Told",
    "fine_gpus",
    "fine_requests",
    "ingest",
    "read_usage",
    "record_reservations",
    "tell",
]
