"""The former name of `announcements`, for scripts that still import it: `tell` is called `announce` now."""

from gangplan.telemetry.announcements import announce as tell, read_announced

__all__ = ["read_announced", "tell"]
