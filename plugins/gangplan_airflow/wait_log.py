"""What a waiting task says in its log: short lines in the DAG's time zone, each of them once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pendulum

from gangplan import client
from gangplan.types import Reservation

_UTC_TIME = re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00| UTC)")


class WaitLog:
    """Says what is new about a wait; `said` are the lines that were said before, by the task itself."""

    def __init__(self, zone: str, said: Iterable[str] = ()) -> None:
        self.zone = zone
        self.said = list(said)
        self._zone: tzinfo = pendulum.timezone(zone)

    def news(self, seen: Reservation, now: datetime) -> list[str]:
        """Return the lines that were not said yet: what it waits for until when, then why, then what would help."""
        lines = [self._head(seen), *(self._here(text) for text in client.reason_texts(seen))]
        new = [line for line in lines if line not in self.said]
        self.said += new
        left = "" if seen.eta is None else f" (in {_span_text(seen.eta - now)})"
        return [line + left if line is lines[0] else line for line in new]

    def _head(self, seen: Reservation) -> str:
        """Return what is waited for, and until when, to the minute: an ETA that moves by seconds is no news."""
        eta = "unknown" if seen.eta is None else self._moment(seen.eta)
        estimated = " (estimated)" if seen.eta is not None and not seen.promised else ""
        return f"{client.waits_for_text(seen)}; ETA {eta}{estimated}"

    def _here(self, text: str) -> str:
        """Return a text whose times in UTC are told in the DAG's zone."""
        return _UTC_TIME.sub(lambda found: self._moment(_read(found[0])), text)

    def _moment(self, moment: datetime) -> str:
        return f"{moment.astimezone(self._zone):%Y-%m-%d %H:%M %Z}"


def zone_of(context: Any) -> str:
    """Return the name of the time zone of a DAG, as `WaitLog` takes it; UTC for a task outside of any."""
    zone = getattr(context.get("dag"), "timezone", None)
    return str(getattr(zone, "name", None) or getattr(zone, "key", None) or "UTC")


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix(" UTC").removesuffix("Z").removesuffix("+00:00") + "+00:00")


def _span_text(left: timedelta) -> str:
    """Return a span for a reader, in the unit that fits it."""
    seconds = max(0, round(left.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
