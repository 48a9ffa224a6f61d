"""The audit log and retention, the same on every ledger."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gangplan.errors import InputError, NotFoundError
from gangplan.reserve import Ledger
from gangplan.testing import NOW, FakeClock, a_request
from gangplan.types import Token

HOUR = timedelta(hours=1)


def live_a_little(ledger: Ledger, fake: FakeClock) -> None:
    """Let gangs wait, hold, renew, end in each way, with time between."""
    first = ledger.submit(a_request("a"))
    ledger.submit(a_request("b"))
    ledger.cancel(ledger.submit(a_request("c")).id)
    fake.advance(timedelta(minutes=5))
    ledger.renew(first.id, Token(first.token or 0), timedelta(minutes=10))
    ledger.release(first.id, Token(first.token or 0))
    fake.advance(2 * HOUR)
    ledger.tick()
    ledger.submit(a_request("d"))


def test_the_log_replays_to_the_rows(ledger: Ledger, fake: FakeClock) -> None:
    """After any calls, what the log says is what the ledger holds."""
    live_a_little(ledger, fake)
    done = ledger.replay()
    assert done.different == ()
    assert done.reservations == 4
    assert done.changes == len(list(ledger.audit()))


def test_the_log_says_what_did_what_and_when(ledger: Ledger, fake: FakeClock) -> None:
    """Of one reservation: its commands and the columns that each change made different, oldest first."""
    live_a_little(ledger, fake)
    first = ledger.find("a")
    events = list(ledger.audit(id=first.id))
    assert [event.commands for event in events] == [
        (("submit", first.id),),
        (("renew", first.id),),
        (("release", first.id),),
    ]
    assert [event.at - NOW for event in events] == [timedelta(0), timedelta(minutes=5), timedelta(minutes=5)]
    assert set(events[1].rows[first.id]) == {"expires"}
    assert events[2].rows[first.id]["state"] == "released"
    assert "granted" not in events[2].rows[first.id]


def test_the_log_from_a_moment(ledger: Ledger, fake: FakeClock) -> None:
    """Only what was written since."""
    live_a_little(ledger, fake)
    since = list(ledger.audit(since=NOW + HOUR))
    assert since
    assert all(event.at >= NOW + HOUR for event in since)
    with pytest.raises(InputError, match="since"):
        list(ledger.audit(since=NOW.replace(tzinfo=None)))


def test_retention_forgets_what_ended_before_and_the_log_still_replays(ledger: Ledger, fake: FakeClock) -> None:
    """What ended since, and what lives, is as it was; the old part of the log is one base."""
    live_a_little(ledger, fake)
    first, later = ledger.find("a"), (ledger.find("b"), ledger.find("d"))
    changes = len(list(ledger.audit()))
    done = ledger.compact(NOW + HOUR)
    assert done.reservations == 2
    assert done.changes >= 4
    assert (ledger.find("b"), ledger.find("d")) == later
    with pytest.raises(NotFoundError):
        ledger.get(first.id)
    assert ledger.replay().different == ()
    events = list(ledger.audit())
    assert [event.base for event in events] == [True, *[False] * (len(events) - 1)]
    assert len(events) == changes - done.changes + 2
    assert events[-1].commands == (("compact", None),)
    assert ledger.compact(NOW + HOUR).changes == 0
    live = ledger.submit(a_request("e"))
    ledger.cancel(live.id)
    assert ledger.replay().different == ()
